/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tickets: which thread was sent on another walk to which entry (attach.h). A thread is on one walk at a time, so it
 * has one ticket at most; but all threads that the program can't see, of another PID namespace, have the number 0, and
 * one for each entry, which all of them use until it is swept. Not locked: the caller's lock protects the table, an
 * empty one being NULL.
 */
#ifndef SFS_TICKET_H
#define SFS_TICKET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

struct sfs_ticket;

/* Notes that thread TID was told ESTALE at fs/ of entry ID. Out of memory, the caller of that thread sees ESTALE. */
void sfs_ticket_give(struct sfs_ticket **table, uint64_t id, pid_t tid, time_t now);

/* The same, for a thread that is to be told ERROR (a positive errno) at its next step. */
void sfs_ticket_give_error(struct sfs_ticket **table, uint64_t id, pid_t tid, int error, time_t now);

/* Notes ERROR in all tickets for entry ID. */
void sfs_ticket_fail(struct sfs_ticket **table, uint64_t id, int error, time_t now);

/* True if TID has a ticket for ID, which is used up; *ERROR is then what was noted in it, or 0. */
bool sfs_ticket_take(struct sfs_ticket **table, uint64_t id, pid_t tid, int *error);

/* The same, for a ticket with an error in it only. */
bool sfs_ticket_take_error(struct sfs_ticket **table, uint64_t id, pid_t tid, int *error);

/*
 * TID comes to ID by the name on its way: if its ticket is for another entry, that name has changed hands meanwhile,
 * and the ticket is for ID from now on. True then; *OLD is what it was for.
 */
bool sfs_ticket_follow(struct sfs_ticket *table, uint64_t id, pid_t tid, time_t now, uint64_t *old);

/* Drops what killed threads left, given more than SECONDS ago; all with SECONDS < 0. */
void sfs_ticket_sweep(struct sfs_ticket **table, time_t now, time_t seconds);

#endif
