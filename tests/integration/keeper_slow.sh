#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The worker is killed while one of its threads is in the midst of a mount that takes long: the mount comes about after
# that worker's death. The next worker finds it before it does anything to the entry, so that nothing stays mounted of
# which nobody knows.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

new_mount mountapi=old # all of a mount is one system call then, which no signal ends
if [ "$(worker)" = "$PID" ]; then
    echo "1..0 # SKIP no keeper here (an option, or Linux before 6.9)"
    stop_program
    exit 0
fi
snapshot base

# The lower layer comes from a file system that takes its time: each mount asks it what it is (statfs(2)), and waits
SLOW=$STORE/layers/$(field id "$MNT/snapshots/base/info")/fs
cp -a "$SLOW" "$BASE/lower"
spawn "$HELPERS/inject" "$BASE/slow" bindfs -f -o nonempty "$BASE/lower" "$SLOW"
wait_until 20 mounted "$SLOW" || bail "no bindfs"

# Some thread of process $1 waits in the kernel for its mount
waits_to_mount() { cat /proc/"$1"/task/*/stack 2>/dev/null | grep -q fuse_statfs; }

# die_mounting ENTRY: a first touch of ENTRY, and the death of the worker amid the mount; $TOUCHER is who touches
die_mounting() {
    local worker
    worker=$(worker)
    rm -f "$BASE/slow.hit" "$BASE/slow.go"
    echo "statfs 1 -1" >"$BASE/slow.new"
    mv "$BASE/slow.new" "$BASE/slow"
    spawn t ls "$MNT/$1/fs"
    TOUCHER=$SPAWNED
    wait_until 20 waits_to_mount "$worker" || diag "it does not mount"
    kill_worker || diag "no other worker"
    ok "$1: a thread of the dead worker still mounts" waits_to_mount "$worker"
}

# amid DESC ENTRY EXPECTED OP…: OP gives EXPECTED ("ok" or an errno) when it comes amid the mount of ENTRY by a dead worker
amid() {
    local desc=$1 entry=$2 expected=$3 got
    shift 3
    die_mounting "$entry"
    kill -KILL "$TOUCHER"
    errno "$@" >"$BASE/got" &
    got=$!
    sleep 0.3
    : >"$BASE/slow.go"
    wait "$got"
    is "$desc" "$(cat "$BASE/got")" "$expected"
        sleep 1 # three that die within moments of their start make the keeper give up
}

mounts() { awk -v path="$MNT/" 'index($5, path) == 1 && / - overlay / { print $5 }' /proc/self/mountinfo; }

# ---- removal ---------------------------------------------------------------

prepare active base
amid "an active snapshot is removed" active/active ok rmdir "$MNT/active/active"
t mkdir "$MNT/views/view@base"
amid "a view" views/view ok rmdir "$MNT/views/view"
snapshot top base
wait_until 20 eval '[ -z "$(mounts)" ]'
amid "a committed snapshot" snapshots/top ok rmdir "$MNT/snapshots/top"
is "none of them stays mounted" "$(mounts)" ""
wait_until 20 settled || diag "$(leftovers)"
ok "nor in the store" settled

# ---- commit ----------------------------------------------------------------

prepare work base
amid "an active snapshot is committed" active/work ok rename "$MNT/active/work" "$MNT/snapshots/work"
is "and what could write to it is gone" "$(grep -c ' - overlay .*upperdir=' /proc/self/mountinfo)" 0
fails "nothing can be written to it" EROFS mkdir "$MNT/snapshots/work/fs/dir"

# ---- import ----------------------------------------------------------------

prepare import base
printf '' | tar -cf "$BASE/empty.tar" -T -
die_mounting active/import
kill -KILL "$TOUCHER"
t cp "$BASE/empty.tar" "$MNT/active/import/layer.tar" &
got=$!
sleep 0.3
: >"$BASE/slow.go"
wait "$got"
is "a layer is imported" "$?" 0
is "while nothing is mounted there" "$(mounts_at "$MNT/active/import/fs")" 0
sleep 1

# ---- another touch -----------------------------------------------------------

for entry in active/again views/once; do
    t mkdir "$MNT/$entry@base"
    die_mounting "$entry"
    t ls "$MNT/$entry/fs" >"$BASE/got" &
    got=$!
    sleep 0.3
    : >"$BASE/slow.go"
    wait "$got"
    is "$entry: another touch sees what is there" "$(cat "$BASE/got")" $'d\nf\nof-base'
    reap "$TOUCHER"
    is "$entry: and the one that was under way ends well" "$?" 0
    is "$entry: it is mounted once" "$(mounts_at "$MNT/$entry/fs")" 1
    sleep 1
done

# ---- one that does not end -----------------------------------------------------

t mkdir "$MNT/views/stuck@base"
die_mounting views/stuck
kill -KILL "$TOUCHER"
fails "where it takes too long, a touch is refused" EBUSY opendir "$MNT/views/stuck/fs"
like "with a line in the log" "$(t tail -n 1 "$MNT/log")" 'mount .*/views/stuck/fs EBUSY '
fails "and a removal is refused" EBUSY rmdir "$MNT/views/stuck"
like "with its reason" "$(t tail -n 1 "$MNT/log")" 'rmdir views/stuck EBUSY .*still mounting its fs/; try again'
: >"$BASE/slow.go"
gone_at() { [ "$(errno rmdir "$MNT/views/stuck")" = ok ]; }
ok "and done later" wait_until 20 gone_at
is "nothing of it stays mounted" "$(mounts_at "$MNT/views/stuck/fs")" 0

stop_program
is "the program ends well" "$?" 0
umount "$SLOW"
done_testing
