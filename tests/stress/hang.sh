#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# hang.sh MOUNTPOINT PROGRAM WORKER CLIENT: writes what all their threads are at, then ends the connection, so that
# nobody waits for it any more. Never touches the mount itself.

mnt=$1 program=$2 worker=$3 client=$4

for pid in "$program" "$worker" "$client"; do
        [ "$pid" != 0 ] || continue
        printf '==== process %s: %s\n' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline")"
        for task in "/proc/$pid/task/"*; do
                printf -- '-- thread %s: %s, %s\n' "${task##*/}" "$(sed -n 's/^State:\t//p' "$task/status")" \
                        "$(cat "$task/comm")"
                printf 'wchan %s\nsyscall %s\n' "$(cat "$task/wchan")" "$(cat "$task/syscall")"
                cat "$task/stack"
        done 2>/dev/null
        if command -v gdb >/dev/null; then
                timeout 60 gdb -p "$pid" -batch -nx -ex 'thread apply all backtrace' 2>&1
        fi
done
grep -F " $mnt" /proc/self/mountinfo
connection=$(awk -v mnt="$mnt" '$5 == mnt { sub(/.*:/, "", $3); print $3 }' /proc/self/mountinfo | tail -n 1)
waiting=/sys/fs/fuse/connections/$connection/waiting
[ -z "$connection" ] || printf 'requests waiting: %s\n' "$(cat "$waiting")"
[ -z "$connection" ] || echo 1 >"/sys/fs/fuse/connections/$connection/abort"
umount -R -l "$mnt"
