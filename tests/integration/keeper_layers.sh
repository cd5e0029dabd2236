#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The worker alone is killed in the middle of an import and of the reading of layer.tar: nobody hangs, an import is cut off or whole,
# and the next one works.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

new_mount
if [ "$(worker)" = "$PID" ]; then
    echo "1..0 # SKIP no keeper here (an option, or Linux before 6.9)"
    stop_program
    exit 0
fi
A=$MNT/active S=$MNT/snapshots

mkdir -p "$BASE/layer/dir"
for i in {1..300}; do echo "$i" >"$BASE/layer/dir/$i"; done
head -c 6000000 /dev/urandom >"$BASE/layer/big"
tar -C "$BASE/layer" --sort=name -cf "$BASE/layer.tar" .
size=$(stat -c %s "$BASE/layer.tar")
diffid=sha256:$(sha256sum <"$BASE/layer.tar" | cut -d ' ' -f 1)

empty() { [ -z "$(ls -A "$STORE/active/$1/fs")" ] && [ -z "$(ls -A "$STORE/active/$1/labels" 2>/dev/null)" ]; }
whole() {
    [ "$(cat "$STORE/active/$1/fs/dir/"* "$STORE/active/$1/fs/big" | sha256sum)" = "$(cat "$BASE/layer/dir/"* "$BASE/layer/big" | sha256sum)" ] &&
        [ "$(t cat "$A/$1/labels/stratafs.import.diffid" "$A/$1/labels/stratafs.import.digest")" = "$diffid"$'\n'"$diffid" ]
}
no_rest() { ! ls -d "$STORE"/layers/*/fs.new "$STORE"/import.* >/dev/null 2>&1 && settled; }

# ---- between two writes ----------------------------------------------------

prepare k
exec {to}>"$A/k/layer.tar"
head -c $((size / 2)) "$BASE/layer.tar" >&"$to"
ok "the worker is killed in the middle of an import" kill_worker
like "the next write fails with EIO" "$(t head -c 1000 /dev/zero 2>&1 >&"$to")" 'Input/output error'
exec {to}>&-
ok "the snapshot is as before" empty k
ok "and what had come is cleared away" wait_until 30 no_rest
works "the next import works" import "$BASE/layer.tar" "$A/k/layer.tar"
ok "whole" whole k
works "it can be committed" rename "$A/k" "$S/k"

# ---- at any instant --------------------------------------------------------

cut=0 done=0 wrong=0
for i in 1 2 3 4 5 6; do
    prepare "c$i"
    "$HELPERS/syscall" import "$BASE/layer.tar" "$A/c$i/layer.tar" >"$BASE/answer" &
    SPAWNS+=("$!")
    client=$!
    sleep "0.0$((i * 2))"
    kill_worker
    reap "$client"
    case $(cat "$BASE/answer") in
    ok) done=$((done + 1)) && { whole "c$i" || { wrong=$((wrong + 1)) && diag "c$i: reported done, but not whole"; }; } ;;
    EIO | EBUSY) cut=$((cut + 1)) && { empty "c$i" || whole "c$i" || { wrong=$((wrong + 1)) && diag "c$i: half"; }; } ;;
    *) wrong=$((wrong + 1)) && diag "c$i: $(cat "$BASE/answer")" ;;
    esac
    # an import that came to its end in the instant of the kill has its answer lost, not its work
    if empty "c$i" && [ "$(errno import "$BASE/layer.tar" "$A/c$i/layer.tar")" != ok ]; then
        wrong=$((wrong + 1)) && diag "c$i: the next import does not work"
    fi
    whole "c$i" || { wrong=$((wrong + 1)) && diag "c$i: not whole in the end"; }
    t rmdir "$A/c$i"
done
is "imports cut off ($cut) or through ($done): nothing half, nobody hangs" "$wrong" 0
ok "nothing is left over" wait_until 30 no_rest

# ---- reading ---------------------------------------------------------------

want=$(t sha256sum <"$S/k/layer.tar")
exec {from}<"$S/k/layer.tar"
first=$(t head -c 100000 <&"$from" | sha256sum)
ok "the worker is killed in the middle of reading layer.tar" kill_worker
exec {from}<&-
is "what was read is the beginning" "$first" "$(t head -c 100000 "$S/k/layer.tar" | sha256sum)"
{
    head -c 300000
    kill_worker
    cat
} <"$S/k/layer.tar" >"$BASE/out.tar"
is "of a snapshot it goes on, to the same bytes" "$(sha256sum <"$BASE/out.tar")" "$want"
prepare a k
head -c 3000000 /dev/urandom >"$A/a/fs/big"
exec {from}<"$A/a/layer.tar"
t head -c 100000 <&"$from" >/dev/null
ok "and with an active one" kill_worker
# shellcheck disable=SC2016
nok "its reader is told that it does not go on" sh -c 'cat <&"$0"' "$from"
exec {from}<&-
ok "but can begin anew" t tar tf "$A/a/layer.tar"
t mkdir "$MNT/views/v@k"
exec {from}<"$MNT/views/v/layer.tar"
works "a view whose layer.tar is open is removed" rmdir "$MNT/views/v"
sleep 1 # three that die within moments of their start make the keeper give up
ok "and the worker killed" kill_worker
like "its reader is told that it is gone" "$(t dd bs=4096 count=1 2>&1 >/dev/null <&"$from")" 'reading.*No such file'
exec {from}<&-
done_testing
