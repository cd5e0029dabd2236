#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# An active snapshot that was mounted volatile when the machine went down is listed, marked in `info`, can be looked at and
# removed, and is committed only once its user says that it is to be trusted.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

# As the store looks after a reboot: the marks are of another boot
reboot() {
    local mark
    kill_program
    for mark in "$STORE"/layers/*/mounted; do
        echo "01234567-89ab-cdef-0123-456789abcdef volatile" >"$mark.tmp" && mv "$mark.tmp" "$mark"
    done
    start_program
}

new_mount volatile
snapshot base
for key in keep drop again; do
    prepare "$key" base
    echo data >"$MNT/active/$key/fs/file"
done
prepare untouched base
reboot
is "it is listed" "$(t ls "$MNT/active" | tr '\n' ' ')" "again drop keep untouched "
is "and marked, after all other fields" "$(t tail -n 1 "$MNT/active/keep/info")" "state: suspect"
is "what was never mounted is not" "$(t grep -c suspect "$MNT/active/untouched/info")" 0
is "nor is a snapshot" "$(t grep -c suspect "$MNT/snapshots/base/info")" 0
is "it can be read" "$(t cat "$MNT/active/keep/fs/file" "$MNT/active/keep/fs/f" | tr '\n' ' ')" "data base "
logged "with a line in the log" mount keep EUCLEAN volatile
fails "but not written" EROFS create "$MNT/active/keep/fs/new"
fails "nor committed" EUCLEAN rename "$MNT/active/keep" "$MNT/snapshots/keep"
logged "which says what to do" '(rename|commit)' active/keep EUCLEAN stratafs.trust
fails "so is one that was not touched since" EUCLEAN rename "$MNT/active/again" "$MNT/snapshots/again"
echo no >"$MNT/active/keep/labels/stratafs.trust"
fails "another word does not help" EUCLEAN rename "$MNT/active/keep" "$MNT/snapshots/keep"
works "it can be removed" rmdir "$MNT/active/drop"
restart
is "a restart does not make it better" "$(t tail -n 1 "$MNT/active/keep/info")" "state: suspect"
echo yes >"$MNT/active/keep/labels/stratafs.trust"
is "trusted, the mark is gone" "$(t grep -c suspect "$MNT/active/keep/info")" 0
works "and it is committed" rename "$MNT/active/keep" "$MNT/snapshots/keep"
is "with its files" "$(t cat "$MNT/snapshots/keep/fs/file")" data
echo yes >"$MNT/active/again/labels/stratafs.trust"
works "trusted, it can be written again" create "$MNT/active/again/fs/new"
reboot
is "and after the next reboot it is suspect again" "$(t tail -n 1 "$MNT/active/again/info")" "state: suspect"

# ---- an end in order, whichever, leaves none that is suspect
marks() { (cd "$STORE/layers" && echo */mounted); }
works "that one goes" rmdir "$MNT/active/again"
prepare in-order base
for way in umount kill-and-umount TERM off; do
    restart "volatile$([ "$way" != off ] || echo ,keeper=off)"
    echo "$way" >"$MNT/active/in-order/fs/file"
    isnt "$way: it is mounted" "$(marks)" '*/mounted'
    [ "$way" != kill-and-umount ] || [ "$(worker)" = "$PID" ] || { kill_worker; t ls "$MNT" >"$OUT"; }
    if [ "$way" = TERM ]; then
        kill -TERM "$PID"
        reap "$PID"
        forget "$PID"
    else
        stop_program
    fi
    is "$way: no mark is left" "$(marks)" '*/mounted'
    start_program
done
exec {file}>>"$MNT/active/in-order/fs/file"
kill -TERM "$PID"
reap "$PID"
forget "$PID"
isnt "one that is in use lives on, and stays marked" "$(marks)" '*/mounted'
exec {file}>&-
start_program volatile
prepare again base
echo data >"$MNT/active/again/fs/file"
reboot
works "it can be removed while it is looked at" stat "$MNT/active/again/fs/file"
works "that is" rmdir "$MNT/active/again"
ok "nothing is left" wait_until 60 settled
ok "the store is in order" "$STRATAFS" --check "$STORE"
done_testing
