#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Whoever reads layer.tar and is killed, is gone: also while the layer's maker waits for the disk, or goes through files that are larger
# than anybody can count. Others go on meanwhile. The same of the texts that take a walk over a layer.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

# killed DESC SIGNAL: the reader $HELD ends by it
killed() {
    kill "-$2" "$HELD"
    ok "$1" wait_until 2 gone "$HELD"
}

# ---- the maker waits for the disk ------------------------------------------

FAULTS=yes
new_mount fingerprint=on
snapshot s
tar -C "$MNT/snapshots/s/fs" -cf "$BASE/other.tar" .
for signal in KILL TERM INT QUIT; do
    hold_call getdents64 1 env -i --default-signal cat "$MNT/snapshots/s/layer.tar"
    killed "a reader that gets SIG$signal ends, though nothing can be read" "$signal"
    let_go
    ok "… and when the disk answers the layer can be read" t cp "$MNT/snapshots/s/layer.tar" "$BASE/s.tar"
    sleep 0.2 # as does the maker that was held
done
# One that handles a signal reads on; the kernel tells nothing of the second signal
hold_call getdents64 1 bash -c "trap : USR1; read -rN 100000 <'$MNT/snapshots/s/layer.tar'"
kill -USR1 "$HELD"
sleep 0.3
nok "a reader that handles a signal waits on" gone "$HELD"
killed "… and ends when it is killed then" KILL
prepare in
works "an import goes on meanwhile" import "$BASE/other.tar" "$MNT/active/in/layer.tar"
ok "and another reading" t cp "$MNT/snapshots/s/layer.tar" "$BASE/s.tar"
let_go
ok "afterwards it can be read" t tar tf "$MNT/snapshots/s/layer.tar"
# Its file is somebody else's as well, who reads on behind what was asked for last
hold_call getdents64 1 bash -c "exec 3<'$MNT/snapshots/s/layer.tar'; cat <&3 >/dev/null & echo \$! >'$BASE/first'; wait; cat <&3 >'$BASE/second'"
wait_until 5 test -s "$BASE/first"
kill -KILL "$(cat "$BASE/first")"
ok "of two that read the same open file one ends" wait_until 2 gone "$(cat "$BASE/first")"
let_go
ok "the other one reads" wait_until 20 gone "$HELD"
ok "… all" cmp "$BASE/second" "$MNT/snapshots/s/layer.tar"
ok "nothing is left open" t rmdir "$MNT/snapshots/s"

# ---- texts -----------------------------------------------------------------

snapshot s.read
for file in changes usage info verify; do
    prepare "$file"
    (cd "$MNT/active/$file/fs" && mkdir d && touch d/f{1..300})
    commit "$file"
    hold_call getdents64 1 cat "$MNT/snapshots/$file/$file"
    killed "a reader of $file that is killed ends, though the disk does not answer" KILL
    ok "… others read on" t cp "$MNT/snapshots/s.read/changes" "$BASE/text"
    let_go
    ok "… and when it does the text can be read" t cp "$MNT/snapshots/$file/$file" "$BASE/text"
done

# Nor does one wait that has handled a signal before, and whose text nobody has begun to make
for file in changes.1 changes.2 changes.3; do
    prepare "$file"
    (cd "$MNT/active/$file/fs" && mkdir d && touch d/f{1..300})
    commit "$file"
done
hold_call getdents64 1 cat "$MNT/snapshots/changes.1/changes"
hold_call getdents64 1 cat "$MNT/snapshots/changes.2/changes"
spawn bash -c "trap : USR1; read -rN 100000 <'$MNT/snapshots/changes.3/changes'"
HELD=$SPAWNED
sleep 0.3
kill -USR1 "$HELD"
sleep 0.3
nok "a reader of the third that handles a signal waits for two others" gone "$HELD"
killed "… and ends when it is killed then" KILL
let_go
ok "… and the third can be read" t cp "$MNT/snapshots/changes.3/changes" "$BASE/text"
exec {both}<"$MNT/snapshots/changes.3/verify"
hold_call getdents64 1 python3 -c "import os; os.pread($both, 4096, 0)"
spawn python3 -c "import os, signal; signal.signal(signal.SIGUSR1, lambda *_: None); open('$BASE/ready', 'w'); os.pread($both, 4096, 0)"
HELD=$SPAWNED
wait_until 20 test -e "$BASE/ready"
sleep 0.3
kill -USR1 "$HELD"
sleep 0.3
nok "a reader that handles a signal waits for another one of the same verify" gone "$HELD"
killed "… and ends when it is killed then" KILL
let_go
ok "… and verify can be read" t cp "$MNT/snapshots/changes.3/verify" "$BASE/text"
exec {both}<&-

# What a dead worker opened is walked for by who reads it, and by nobody else
# quiet: the sweep and the like of a worker that has just begun are through; the next walk is held
quiet() {
    rm -f "$BASE/order.go"
    order getdents64 1 -1
    sleep 0.3
    [ -e "$BASE/order.hit" ] || return 0
    let_go
    return 1
}
keeper=$(worker) # below what makes calls fail
if [ "$(PID=$keeper worker)" != "$keeper" ]; then
    prepare walked
    (cd "$MNT/active/walked/fs" && mkdir d && touch d/f{1..300})
    exec {one}<"$MNT/active/walked/changes" {two}<"$MNT/active/walked/changes"
    PID=$keeper kill_worker
    wait_until 20 quiet
    exec {two}<&-
    sleep 0.3
    nok "the end of a text that a dead worker opened takes no walk" hit
    let_go
    hold_call getdents64 1 bash -c "exec cat <&$one"
    killed "a reader of one that is killed ends, though the disk does not answer" KILL
    ok "… others read on" t cp "$MNT/snapshots/s.read/changes" "$BASE/text"
    let_go
    is "… and when it does it can be read" "$(t cat <&"$one" | wc -l)" "$(t cat "$MNT/active/walked/changes" | wc -l)"
    exec {one}<&-
fi
FAULTS=''
first=$BASE

# ---- more than can be counted ----------------------------------------------

mkdir "$BASE/mem"
mount -t tmpfs -o size=64m mem "$BASE/mem" || bail "no tmpfs"
TMPDIR=$BASE/mem new_mount
prepare huge
truncate -s 7E "$MNT/active/huge/fs/hole" || bail "files of 7 EiB can't be made here"
ok "a hole of 7 EiB is read at once" t cp "$MNT/active/huge/layer.tar" "$BASE/huge.tar"
ok "… and is small" test "$(stat -c %s "$BASE/huge.tar")" -lt 20480
prepare again
works "it comes in again" import "$BASE/huge.tar" "$MNT/active/again/layer.tar"
is "… as it was" "$(stat -c '%s %b' "$MNT/active/again/fs/hole")" "$((7 << 60)) 0"
printf x >>"$MNT/active/huge/fs/hole"
fails "with something behind it, it is refused" EFBIG read "$MNT/active/huge/layer.tar"
logged "… with a reason" read active/huge/layer.tar EFBIG "128 PiB"
truncate -s 0 "$MNT/active/huge/fs/hole"
truncate -s 120P "$MNT/active/huge/fs/hole"
printf x >>"$MNT/active/huge/fs/hole"
for i in 1 2 3 4 5; do spawn cat "$MNT/active/huge/layer.tar"; done
HELD=$SPAWNED
sleep 0.1
prepare in
works "an import goes on while five count" import "$first/other.tar" "$MNT/active/in/layer.tar"
killed "a reader that is killed ends" KILL
spawn cat "$MNT/active/huge/layer.tar"
spawn cat "$MNT/active/huge/layer.tar"
sleep 0.1
kill -TERM "$PID"
ok "so does the program" wait_until 2 gone "$PID"

done_testing
