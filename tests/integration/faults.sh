#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the store's own file system says (EIO, EDQUOT, ENOSPC) reaches the caller unchanged, and the failed operation
# leaves everything as it was, at whichever of its steps it failed.
. "$(dirname "$0")/lib.sh"
FAULTS=yes
new_mount
cd / || exit 1
A=$MNT/active V=$MNT/views S=$MNT/snapshots
EIO=5 EDQUOT=122

trash_empty() { [ -z "$(ls -A "$STORE/trash")" ]; }
entries() { find "$STORE/active" "$STORE/views" "$STORE/snapshots" -mindepth 1 | wc -l; }
layers() { find "$STORE/layers" -mindepth 1 -maxdepth 1 | wc -l; }

deleted() { [ -z "$(ls "$STORE/trash")" ]; }

# sweep DESC CALL SETUP UNDO OP ARG…
# Lets the first, second, … CALL of the operation fail until there is none left. Each time it either fails with EIO, has changed
# nothing and works when done again, or it succeeds all the same.
sweep() {
    local desc=$1 call=$2 setup=$3 undo=$4 n got before failed=0 wrong=0
    shift 4
    for n in $(seq 80); do
        $setup
        before=$(state)
        wait_until 20 deleted # or what is being deleted in the background gets the failure
        order "$call" "$n" $EIO
        got=$(errno "$@")
        hit || break
        case $got in
        EIO)
            failed=$((failed + 1))
            if [ "$(state)" != "$before" ]; then
                wrong=$((wrong + 1))
                diag "$desc: changed by a failure of $call $n, $(cat "$BASE/order.hit")" \
                    "$(diff <(printf '%s\n' "$before") <(state))"
            fi
            got=$(errno "$@")
            if [ "$got" = EIO ] && grep -q syncfs "$BASE/order.hit"; then # whose bytes were lost nobody knows
                echo yes >"$A/k/labels/stratafs.trust"
                got=$(errno "$@")
            fi
            [ "$got" = ok ] || diag "$desc: $got after a failure of $call $n, $(cat "$BASE/order.hit")"
            ;;
        esac
        if [ "$got" != ok ]; then
            wrong=$((wrong + 1))
            diag "$desc: $got when $call $n fails, $(cat "$BASE/order.hit")"
        fi
        $undo
    done
    is "$desc: works when nothing fails" "$got" ok
    ok "$desc: ended at step $n, of which some failed it" test "$n" -lt 80 -a "$failed" -gt 0
    is "$desc: all of those with EIO, changing nothing, and again without error" "$wrong" 0
    $undo
    # What could not be deleted is tried again with the next removal
    mkdir "$A/kick" && rmdir "$A/kick"
    wait_until 60 trash_empty || diag "$desc: trash does not get empty"
    is "$desc: no layer is leaked" "$(layers)" "$(entries)"
}

nothing() { :; }
prepared() { mkdir "$A/k@base" && echo data >"$A/k/fs/file"; }
drop_key() { [ ! -e "$A/k" ] || rmdir "$A/k"; }
drop_view() { [ ! -e "$V/v" ] || rmdir "$V/v"; }
drop_name() { [ ! -e "$S/n" ] || rmdir "$S/n"; }
drop_any() {
    drop_key
    drop_name
}
untouched() { mkdir "$A/k@base"; }
two() { mkdir "$A/k@base" "$A/l" && echo data >"$A/k/fs/file"; }
drop_two() {
    drop_key
    [ ! -e "$A/l" ] || rmdir "$A/l"
    [ ! -e "$A/m" ] || rmdir "$A/m"
}
unlabelled() { [ ! -e "$S/base/labels/l" ] || rm "$S/base/labels/l"; }
labelled() { echo old >"$S/base/labels/l"; }
committed() { mkdir "$A/k@base" && mv "$A/k" "$S/n"; }

mkdir "$A/base"
echo text >"$A/base/fs/file"
mv "$A/base" "$S/base"
sweep "prepare" any nothing drop_key mkdir "$A/k"
sweep "prepare on a parent" any nothing drop_key mkdir "$A/k@base"
sweep "view" any nothing drop_view mkdir "$V/v@base"
sweep "commit" any prepared drop_any rename "$A/k" "$S/n"
sweep "commit of an untouched one" any untouched drop_any rename "$A/k" "$S/n"
sweep "rename of an active one" any two drop_two rename "$A/k" "$A/m"
sweep "exchange" any two drop_two exchange "$A/k" "$A/l"
sweep "remove" renameat prepared drop_key rmdir "$A/k"
sweep "remove a snapshot" renameat committed drop_name rmdir "$S/n"
sweep "new label" any unlabelled unlabelled rewrite "$S/base/labels/l" new
sweep "changed label" any labelled unlabelled rewrite "$S/base/labels/l" new
is "the base is as it was" "$(cat "$S/base/fs/file")" text

# First touch: an error from the kernel is the caller's, once; the next touch works
prepared
rmdir "$A/k"
failed=0 wrong=0
for n in $(seq 40); do
    mkdir "$A/t@base"
    order any "$n" $EIO
    got=$(errno opendir "$A/t/fs")
    if ! hit; then break; fi
    [ "$got" = ok ] || failed=$((failed + 1))
    case $got in
    ok | EIO) ;;
    *) wrong=$((wrong + 1)) && diag "first touch: $got when call $n fails, $(cat "$BASE/order.hit")" ;;
    esac
    got=$(errno read "$A/t/fs/file")
    [ "$got" = ok ] || { wrong=$((wrong + 1)) && diag "second touch: $got after call $n failed"; }
    rmdir "$A/t" || wrong=$((wrong + 1))
done
ok "first touch: ended at step $n, of which some failed it" test "$n" -lt 40 -a "$failed" -gt 0
is "first touch: those with EIO, and the next touch works" "$wrong" 0
[ ! -e "$A/t" ] || rmdir "$A/t"

order mkdirat 1 $EDQUOT
fails "EDQUOT reaches mkdir" EDQUOT mkdir "$A/k"
logged "EDQUOT: in the log" 'prepare|mkdir' active/k EDQUOT
order mkdirat 1 $EIO
fails "EIO reaches mkdir" EIO mkdir "$A/k"
logged "EIO: in the log" 'prepare|mkdir' active/k EIO
prepared
order any 1 $EDQUOT
fails "EDQUOT reaches a commit" EDQUOT rename "$A/k" "$S/n"
logged "EDQUOT of a commit: in the log" 'commit|rename' active/k EDQUOT
ok "the snapshot goes on" sh -c "echo more >'$A/k/fs/more'"
works "and can be committed" rename "$A/k" "$S/n"
is "whole" "$(cat "$S/n/fs/more" "$S/n/fs/file" | tr '\n' ' ')" "more data "

# ---- a sync that failed: the kernel tells of it once, and not whose data it was

mkdir "$A/first" "$A/second"
echo data >"$A/second/fs/file"
order syncfs 1 $EIO
is "a failed sync: the commit" "$(errno rename "$A/first" "$S/first")" EIO
hit || diag "no sync"
is "a failed sync: the same again" "$(errno rename "$A/first" "$S/first")" EIO
is "a failed sync: another that was there" "$(errno rename "$A/second" "$S/second")" EIO
logged "a failed sync: log says what to do" rename active/second EIO "stratafs\.trust"
mkdir "$A/third"
is "a failed sync: one made since" "$(errno rename "$A/third" "$S/third")" ok
echo yes >"$A/second/labels/stratafs.trust"
is "a failed sync: one whose user has looked" "$(errno rename "$A/second" "$S/second")" ok
is "a failed sync: its label has done its work" "$(ls "$S/second/labels")" ""
is "a failed sync: the other is still there" "$(errno rename "$A/first" "$S/first")" EIO
is "a failed sync: and can be removed" "$(errno rmdir "$A/first")" ok

# ---- the last sync of a commit fails while others would already build on it

for end in EIO ok; do
    mkdir "$A/k"
    echo data >"$A/k/fs/file"
    HELD_ERRNO=$([ "$end" = ok ] && echo 1 || echo $EIO)
    hold_call fsync 1 mv -T "$A/k" "$S/last"
    fails "last sync, $end: the key is not free yet" EEXIST mkdir "$V/k"
    spawn mkdir "$V/v@last"
    nok "last sync, $end: what is prepared on it waits" wait_until 1 test ! -e "/proc/$SPAWNED"
    let_go
    wait "$HELD"
    is "last sync, $end: the commit" "$?" "$([ "$end" = ok ]; echo $?)"
    wait "$SPAWNED"
    is "last sync, $end: and so what was prepared on it" "$?" "$([ "$end" = ok ]; echo $?)"
    [ "$end" = EIO ] || continue
    ok "last sync, $end: log says why" grep -q "mkdir .*views/v@last .*ENOENT .*its commit failed" "$MNT/log"
    nok "last sync, $end: nothing is there" test -e "$V/v" -o -e "$S/last"
    works "last sync, $end: nobody stands on the entry" rmdir "$A/k"
done
works "last sync, ok: the key is free" mkdir "$V/k"
fails "last sync, ok: it has a child" ENOTEMPTY rmdir "$S/last"
works "last sync, ok: which goes" rmdir "$V/v"
works "last sync, ok: and so does it" rmdir "$S/last"
rmdir "$V/k"
stop_program
FAULTS=''

# ---- a disk that is full
new_base
mkdir "$STORE"
mount -t tmpfs -o size=4m,mode=700 small "$STORE"
start_program ''
A=$MNT/active S=$MNT/snapshots
mkdir "$A/base"
echo text >"$A/base/fs/file"
mv "$A/base" "$S/base"
mkdir "$A/work@base"
echo v >"$A/work/labels/l"
fill_up() { dd if=/dev/zero bs=1M count=10 2>/dev/null >>"$A/work/fs/fill"; }
fill_up
fails "a file in fs/ says ENOSPC" ENOSPC append "$A/work/fs/fill" x
BEFORE=$(state)
fails "prepare says ENOSPC" ENOSPC mkdir "$A/x@base"
logged "ENOSPC of prepare: in the log" 'prepare|mkdir' active/x ENOSPC
fails "commit says ENOSPC" ENOSPC rename "$A/work" "$S/x"
logged "ENOSPC of a commit: in the log" 'commit|rename' active/work ENOSPC
fails "a label says ENOSPC" ENOSPC rewrite "$A/work/labels/l" "$(head -c 9000 /dev/zero | tr '\0' x)"
is "on a full disk nothing changed" "$(state)" "$BEFORE"
fails "the snapshot is still writable, but for the room" ENOSPC append "$A/work/fs/fill" x
works "so files can go" unlink "$A/work/fs/fill"
works "and the commit succeeds" rename "$A/work" "$S/x"
is "whole" "$(cat "$S/x/fs/file" "$S/x/labels/l" | tr '\n' ' ')" "text v "
works "another" mkdir "$A/work@x"
fill_up
fails "full again" ENOSPC mkdir "$A/y"
works "removal works on a full disk" rmdir "$A/work"
ok "and gives the room back" wait_until 60 trash_empty
works "for others" mkdir "$A/y"
is "no layer is leaked" "$(layers)" "$(entries)"
done_testing
