#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Who has the store: nobody else gets it between two workers, and who starts just when it becomes free does not hear that it is in use.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

new_mount
snapshot base
mkdir "$BASE/second"

# ---- a moment before it is free -------------------------------------------

stop_program
spawn flock -x "$STORE/lock" sleep 1
wait_until 30 sh -c "! flock -n '$STORE/lock' true"
start_program
is "a start waits for what is just ending" "$(t cat "$MNT/snapshots/base/fs/f")" base
stop_program
spawn flock -x "$STORE/lock" sleep 1
wait_until 30 sh -c "! flock -n '$STORE/lock' true"
ok "so does a repair" "$STRATAFS" --check "$STORE" --repair
ends=0
for _ in {1..10}; do
    t "$STRATAFS" "$STORE" "$MNT" 2>"$OUT" || { diag "$(cat "$OUT")"; ends=1; }
    t umount -R "$MNT"
done
is "a start right after umount -R works each time" "$ends" 0
start_program

if [ "$(worker)" = "$PID" ]; then
    diag "no keeper here (an option, or Linux before 6.9)"
    done_testing
fi

# ---- between two workers --------------------------------------------------

# window DESC: while no worker is there and the keeper is still to start one
window() {
    local said status old
    old=$(worker)
    kill -STOP "$PID"
    kill -KILL "$old"
    wait_until 30 flock -n "$STORE/lock" true || diag "the dead worker keeps the lock"
    said=$(timeout 20 "$STRATAFS" "$STORE" "$BASE/second" -f 2>&1)
    is "$1: another program is refused" "$?" 1
    like "$1: it names the keeper" "$said" "in use by process $PID; end that one first"
    ok "$1: it leaves no mount" test -z "$(mounts_below "$BASE/second")"
    said=$(timeout 20 "$STRATAFS" --check "$STORE" --repair 2>&1)
    status=$?
    is "$1: no repair" "$status" 8
    like "$1: it says why" "$said" "is in use; it can be repaired once"
    like "$1: a check takes it for in use" "$(timeout 20 "$STRATAFS" --check "$STORE")" "the store is in use"
    kill -CONT "$PID"
    ok "$1: another worker serves" wait_until 30 replaced "$old"
    is "$1: the mount goes on" "$(t cat "$MNT/snapshots/base/fs/f")" base
    works "$1: and can be written" mkdir "$MNT/active/k"
    works "$1: that goes too" rmdir "$MNT/active/k"
    sleep 0.2 # three that die within moments of their start make the keeper give up
}
window "after a kill"
window "after another"
ok "an upgrade" "$STRATAFS" --upgrade "$MNT"
window "after an upgrade"
ok "the end is in order" stop_program
ok "the store is free then" flock -n "$STORE/lock" true
start_program
done_testing
