/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks through a whole store for what should not be: what a crash left half-way, what is damaged, what is nobody's.
 * The sweep after a crash (recover.h) and `stratafs --check` are this examination with other ends.
 *
 * Nothing is deleted but what a crash explains. What can't be explained stays where it is, or goes to lost+found/ in
 * the store, with a note beside it that says where from and why.
 */
#ifndef STRATA_CHECK_H
#define STRATA_CHECK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct strata;

enum strata_check_mode {
        STRATA_CHECK_LOOK,   /* changes nothing */
        STRATA_CHECK_SWEEP,  /* takes away what a crash left and mends what has one explanation; the rest is told */
        STRATA_CHECK_REPAIR, /* mends all that can be mended; nobody else may use the store */
};

struct strata_check {
        enum strata_check_mode mode;
        bool live;         /* another program uses the store: what is found counts when it stays for a while */
        bool unlocked;     /* one may start to use it meanwhile, and then LIVE is set: storelock.h */
        uint64_t below;    /* layers from this ID on are being made, and passed over; 0: look at all */
        atomic_bool *stop; /* ends the examination early once true; may be NULL */

        /*
         * Told of each finding: PATH in the store, TEXT in words, and whether it is in order now. ERROR is an errno, or
         * 0 for the mere rubbish of a crash.
         */
        void (*report)(void *data, const char *path, const char *text, int error, bool repaired);
        void *data;

        /* The result. */
        uint64_t layers; /* looked at */
        uint64_t found;
        uint64_t repaired; /* of those */

        bool made_links;  /* inside: a folder of links had to be made, so that a layer without one says nothing */
        bool lost_layers; /* inside: all in layers/ is lost, so that a link whose layer is not there says nothing */
        bool postponed;   /* inside: what is left is not told of yet, but counted: */
        uint64_t left;
        bool silent;         /* inside: a look that does not count yet */
        unsigned suspicions; /* inside: findings of such a look */
};

/* The whole examination. 0, or the first error of reading the store; what is found is no error. */
int strata_check_run(struct strata *s, struct strata_check *c);

#endif
