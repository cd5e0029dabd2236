/* SPDX-License-Identifier: Apache-2.0 */
#include "mount_watch.h"

#include <limits.h>
#include <sys/inotify.h>
#include <unistd.h>

int strata_mount_watch(const char *path)
{
        int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

        /* Something has to be asked for; IN_UNMOUNT comes unasked. */
        if (fd >= 0 && inotify_add_watch(fd, path, IN_DELETE_SELF | IN_ONLYDIR | IN_DONT_FOLLOW) < 0) {
                close(fd);
                return -1;
        }
        return fd;
}

bool strata_mount_has_ended(int watch)
{
        char buf[sizeof(struct inotify_event) + NAME_MAX + 1]
                __attribute__((aligned(__alignof__(struct inotify_event))));
        const struct inotify_event *event;

        while (watch >= 0) {
                ssize_t n = read(watch, buf, sizeof(buf));

                if (n <= 0)
                        return false;
                for (const char *p = buf; p < buf + n; p += sizeof(*event) + event->len) {
                        event = (const struct inotify_event *)(const void *)p;
                        if (event->mask & IN_UNMOUNT)
                                return true;
                }
        }
        return false;
}
