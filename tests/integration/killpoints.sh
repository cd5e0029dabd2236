#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The program is killed just before each system call that changes something, one after the other, for every operation until that
# passes. After one start the tree is as before or as after the operation, the whole store is in order, and nothing is left: no
# layer, no trash, no mount, no descriptor. KILLPOINTS_STRIDE=N: each Nth call only.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

SINGLE=''
if "$STRATAFS" -h 2>&1 | grep -q 'keeper='; then SINGLE=keeper=off,fingerprint=on; fi # a worker alone could be killed unseen
FAULTS=yes
new_mount "$SINGLE"
A=$MNT/active V=$MNT/views S=$MNT/snapshots
POINTS=0
: "${KILLPOINTS_STRIDE:=1}"

# The tree, but for what differs each time: IDs and times
tree_now() {
    state | sed -E '/^(id|created|updated|committed|size|inodes): /d'
    for entry in "$STORE"/active/*; do
        [ ! -L "$entry" ] || (cd "$entry/fs" && echo "files of ${entry##*/}" && find . -printf '%P %y %m %l\n' | sort && find . -type f -exec sha256sum {} +)
    done
}
sums() { for entry in "$S"/* "$A"/*; do [ ! -d "$entry" ] || (cd "$entry/fs" && find . -type f -exec cat {} + | sha256sum); done; }
fds() { find "/proc/$(program_pid)/fd" -mindepth 1 2>/dev/null | wc -l; }
program_pid() { pgrep -P "$PID" | head -n 1; }

# A look at a store in use takes its time when it finds something: not before the sweep is through
in_order() { wait_until 20 settled && "$STRATAFS" --check "$STORE" >"$BASE/check.out" 2>&1; }

killed_or_settled() { [ -e "$BASE/order.hit" ] || settled; }

# The dead mount and what hangs below it goes; what the kill left on the disk stays
clear_away() {
    reap "$PID"
    forget "$PID"
    clear_mounts "$MNT"
}

# A kill while it starts: start_program would wait for a mount
start_and_die() {
    "$HELPERS/inject" "$BASE/order" "$STRATAFS" "$STORE" "$MNT" -f ${SINGLE:+-o "$SINGLE"} </dev/null >>"$ERRORS" 2>&1 &
    PID=$!
    wait_until 30 started_or_dead
}
started_or_dead() { gone "$PID" || { [ ! -e "$BASE/order.hit" ] && timeout -k 1 10 test -e "$MNT/version"; }; }

# points DESC SETUP UNDO OP ARG...: OP is "start" for the start itself
points() {
    local desc=$1 setup=$2 undo=$3 n tried=0 got before after='' now wrong=0 unknown=() where
    shift 3
    for ((n = 1; n < 120; n += KILLPOINTS_STRIDE)); do
        $setup
        wait_until 20 settled # what was removed before makes no calls any more
        before=$(tree_now)
        if [ "$1" = start ]; then
            kill_program # so that there is something to sweep
            order change "$n" 0
            start_and_die
        else
            order change "$n" 0
            got=$(errno "$@")
            wait_until 20 killed_or_settled # what it leaves to be done after the answer is counted as well
        fi
        if ! hit; then break; fi
        where="call $n, $(cat "$BASE/order.hit")"
        clear_away
        start_program "$SINGLE"
        POINTS=$((POINTS + 1)) tried=$((tried + 1))
        if ! wait_until 20 in_order; then
            wrong=$((wrong + 1))
            diag "$desc: not in order after a kill at $where: $(cat "$BASE/check.out")" "$(leftovers)"
        fi
        now=$(tree_now)
        [ "$now" = "$before" ] || unknown+=("$now")
        if [ "$(overlays)" != 0 ] && [ "$1" = start ]; then
            wrong=$((wrong + 1))
            diag "$desc: mounts left after a kill at $where"
        fi
        if ! sums >/dev/null; then
            wrong=$((wrong + 1))
            diag "$desc: files can't be read after a kill at $where"
        fi
        $undo
        # what every store has to be able to do
        if ! { mkdir "$A/probe@base" && rmdir "$A/probe"; }; then
            wrong=$((wrong + 1))
            diag "$desc: no new snapshot after a kill at $where"
        fi
    done
    if [ "$1" != start ]; then
        is "$desc: passes when it is not killed" "$got" ok
        after=$(tree_now)
        ok "$desc: has points" test "$n" -gt 1 -a "$n" -lt 120
    else
        after=$before
        ok "$desc: has points" test "$n" -gt 3 -a "$n" -lt 120
    fi
    for now in "${unknown[@]}"; do
        if [ "$now" != "$after" ]; then
            wrong=$((wrong + 1))
            diag "$desc: neither as before nor as after:" "$(diff <(printf '%s\n' "$after") <(printf '%s\n' "$now"))"
        fi
    done
    is "$desc: whole or untouched after each of $tried kills" "$wrong" 0
    $undo
}

nothing() { :; }
drop() { for entry in "$@"; do [ ! -e "$entry" ] || rmdir "$entry"; done; }
drop_all() { drop "$A/k" "$A/l" "$A/m" "$V/v" "$S/n" "$S/m"; }
prepared() { mkdir "$A/k@base" && echo data >"$A/k/fs/file"; }
untouched() { mkdir "$A/k@base"; }
two() { mkdir "$A/l" "$A/k@base"; }
committed() { prepared && mv "$A/k" "$S/n"; }
labelled() { echo old >"$S/base/labels/l"; }
unlabelled() { rm -f "$S/base/labels/l"; }

mkdir -p "$BASE/layer/dir"
echo new >"$BASE/layer/dir/new"
ln "$BASE/layer/dir/new" "$BASE/layer/hard"
ln -s dir "$BASE/layer/soft"
touch "$BASE/layer/.wh.file"
tar -C "$BASE/layer" --sort=name -cf "$BASE/layer.tar" .

mkdir "$A/base"
echo text >"$A/base/fs/file"
mv "$A/base" "$S/base"
base=$(digest "$S/base/fs")
first=$(fds)

points "prepare" nothing drop_all mkdir "$A/k"
points "prepare on a parent" nothing drop_all mkdir "$A/k@base"
points "view" nothing drop_all mkdir "$V/v@base"
points "first touch" untouched drop_all opendir "$A/k/fs"
points "commit" prepared drop_all rename "$A/k" "$S/n"
points "commit of an untouched one" untouched drop_all rename "$A/k" "$S/n"
points "rename" prepared drop_all rename "$A/k" "$A/m"
points "rename of a snapshot" committed drop_all rename "$S/n" "$S/m"
points "exchange" two drop_all exchange "$A/k" "$A/l"
points "remove" prepared drop_all rmdir "$A/k"
points "remove a snapshot" committed drop_all rmdir "$S/n"
points "new label" unlabelled unlabelled rewrite "$S/base/labels/l" new
points "changed label" labelled unlabelled rewrite "$S/base/labels/l" new
points "import" untouched drop_all import "$BASE/layer.tar" "$A/k/layer.tar"
points "start" untouched drop_all start

diag "$POINTS kill points"
ok "$POINTS kill points were tried" test "$POINTS" -gt 50
is "the base is as it was" "$(digest "$S/base/fs")" "$base"
wait_until 20 in_order
is "one layer a link" "$(count "$STORE/layers")" "$(links)"
ok "no descriptor is leaked ($first, $(fds))" test "$(fds)" -le $((first + 2))
done_testing
