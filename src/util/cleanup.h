/* SPDX-License-Identifier: Apache-2.0 */
/* Scope-bound release of fds, memory and directory streams, and the handing over of what they hold. */
#ifndef STRATA_CLEANUP_H
#define STRATA_CLEANUP_H

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Closes FD if it is open; keeps errno, as it runs on the way out of failed calls. */
static inline void strata_close(int fd)
{
        int saved = errno;

        if (fd >= 0)
                close(fd);
        errno = saved;
}

static inline void cleanup_fd_p(int *fd)
{
        strata_close(*fd);
}

static inline void cleanup_free_p(void *p)
{
        int saved = errno;

        free(*(void **)p);
        errno = saved;
}

static inline void cleanup_dir_p(DIR **dir)
{
        int saved = errno;

        if (*dir)
                closedir(*dir);
        errno = saved;
}

#define cleanup_fd __attribute__((cleanup(cleanup_fd_p)))
#define cleanup_free __attribute__((cleanup(cleanup_free_p)))
#define cleanup_dir __attribute__((cleanup(cleanup_dir_p)))

/* Hands over what *FD holds: the variable's own cleanup finds nothing left to close. */
static inline int steal_fd(int *fd)
{
        int ret = *fd;

        *fd = -1;
        return ret;
}

static inline void *steal_ptr_p(void *p)
{
        void *ret = *(void **)p;

        *(void **)p = NULL;
        return ret;
}

#define steal_ptr(p) ((__typeof__(*(p)))steal_ptr_p(p))

#endif
