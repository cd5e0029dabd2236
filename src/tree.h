/* SPDX-License-Identifier: Apache-2.0 */
/* The files `tree` and `graph.dot`: all entries by what they stand on. */
#ifndef STRATA_TREE_H
#define STRATA_TREE_H

#include "util/buf.h"

struct strata;

/*
 * One line an entry, two spaces of indentation a level, within a level snapshots by name in byte order, then active
 * snapshots and views with their folder, "active/web".
 */
int strata_tree_text(struct strata *s, struct strata_buf *buf);

/* The same as a directed graph in Graphviz's language, an edge from each entry to its parent. */
int strata_tree_graph(struct strata *s, struct strata_buf *buf);

#endif
