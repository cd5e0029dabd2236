#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The worker is killed a hundred times under 16 busy clients: none of them sees an error, no operation is lost or done twice,
# files that are open below fs/ go on, and nothing is left over.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

KILLS=100 CLIENTS=16

new_mount
if [ "$(worker)" = "$PID" ]; then
    echo "1..0 # SKIP no keeper here (an option, or Linux before 6.9)"
    stop_program
    exit 0
fi
snapshot base
echo base >"$BASE/file"

# ---- what is open over a kill ---------------------------------------------

prepare held
echo base >"$MNT/active/held/fs/file"
works "it is committed as the clients' base" rmdir "$MNT/snapshots/base"
works "under that name" rename "$MNT/active/held" "$MNT/snapshots/base"
t mkdir "$MNT/active/open@base"
exec {file}>>"$MNT/active/open/fs/log"
exec {label}>"$MNT/active/open/labels/l"
exec {text}<"$MNT/active/open/info"
exec {deleted}>"$MNT/active/open/labels/gone"
echo first >&"$label"
echo never >&"$deleted"
echo one >&"$file"
echo another >"$MNT/active/open/labels/other"
python3 - "$MNT/active/open/labels/length" "$BASE/killed" >"$BASE/lengths" <<'END' &
import os, sys, time

fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(fd, b"abcdef")
print(os.fstat(fd).st_size, flush=True)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.02)
print(os.fstat(fd).st_size, os.stat(sys.argv[1]).st_size, os.lseek(fd, 0, os.SEEK_END))
os.write(fd, b"gh")
print(os.fstat(fd).st_size)
END
writer=$!
SPAWNS+=("$writer")
wait_until 20 test -s "$BASE/lengths"
mounts=$(overlays)
first=$(worker)
ok "the worker is killed" kill_worker
isnt "another one serves" "$(worker)" "$first"
ok "the keeper is the same" kill -0 "$PID"
ok "nothing was unmounted" test "$(overlays)" = "$mounts"
fails "what is not closed yet is no value yet" ENOENT open "$MNT/active/open/labels/nothing"
touch "$BASE/killed"
reap "$writer"
is "a label that is written has its length" "$(tr '\n' ' ' <"$BASE/lengths")" "6 6 6 6 8 "
is "and its value" "$(t cat "$MNT/active/open/labels/length")" abcdefgh
echo second >&"$label"
echo two >&"$file"
is "a text that was open before reads" "$(head -n 1 <&"$text")" "kind: active"
works "a label that is open is removed" unlink "$MNT/active/open/labels/gone"
exec {label}>&- {file}>&- {text}<&- {deleted}>&-
is "a label gets what was written before and after" "$(t cat "$MNT/active/open/labels/l")" $'first\nsecond'
is "a file below fs/ as well" "$(t cat "$MNT/active/open/fs/log")" $'one\ntwo'
fails "what was removed does not come back" ENOENT lstat "$MNT/active/open/labels/gone"
is "a label of before reads" "$(t cat "$MNT/active/open/labels/other")" another
like "the log tells of it" "$(t tail -n 1 "$MNT/log")" 'start worker OK'
t mkdir "$MNT/views/going@base"
exec {text}<"$MNT/views/going/info"
works "an entry is removed while a text of it is open" rmdir "$MNT/views/going"
sleep 1 # three that die within moments of their start make the keeper give up
ok "and the worker killed" kill_worker
like "its reader is told that it is gone" "$(t dd bs=4096 count=1 2>&1 >/dev/null <&"$text")" 'reading.*No such file'
exec {text}<&-

# A listing that is under way goes on where it was
for i in {1..300}; do mkdir "$MNT/views/v$i@base"; done
listed=$({
    exec {dir}< <("$HELPERS/listdir" "$MNT/views" 2>/dev/null)
    kill_worker
    cat <&"$dir"
} | grep -c 'v[0-9]')
[ "$listed" -ge 300 ] || diag "listed $listed"
ok "a long listing is whole over a kill" test "$listed" -ge 300
for i in {1..300}; do rmdir "$MNT/views/v$i"; done
works "the snapshot with the open file goes" rmdir "$MNT/active/open"

# A kill between the freeze of a commit and its end: the mount is not left read-only for good
prepare half base
head -c 30000000 /dev/urandom >"$MNT/active/half/fs/data"
for pause in 0.01 0.03 0.06 0.1; do
    "$HELPERS/syscall" rename "$MNT/active/half" "$MNT/snapshots/half" >"$BASE/commit" 2>&1 &
    committing=$!
    sleep "$pause"
    kill_worker
    wait "$committing"
    is "a commit over a kill after $pause s" "$(cat "$BASE/commit")" ok
    is "is whole" "$(stat -c %s "$MNT/snapshots/half/fs/data")" 30000000
    fails "and no active one any more" ENOENT lstat "$MNT/active/half"
    works "it goes" rmdir "$MNT/snapshots/half"
    prepare half base
    head -c 30000000 /dev/urandom >"$MNT/active/half/fs/data"
done
works "the last one goes" rmdir "$MNT/active/half"

# ---- a hundred kills under load -------------------------------------------

clients=()
for ((c = 1; c <= CLIENTS; c++)); do
    "$HELPERS/k_client" "$MNT" "c$c" "$BASE/stop" >"$BASE/client.$c" 2>&1 </dev/null &
    clients+=($!)
    SPAWNS+=($!)
done
done_kills=0
for ((k = 0; k < KILLS; k++)); do
    sleep "0.$((RANDOM % 2))$((RANDOM % 9 + 1))"
    kill_worker || break
    done_kills=$((done_kills + 1))
    sleep 0.12 # more often than this it would be a program that dies at once
    ! grep -q -v rounds "$BASE"/client.* || break
done
touch "$BASE/stop"
for pid in "${clients[@]}"; do
    reap "$pid"
done
is "the worker was killed" "$done_kills" "$KILLS"
is "no client saw an error, or something lost or done twice" "$(grep -h -v ' rounds$' "$BASE"/client.*)" ""
is "all clients came to their end" "$(cat "$BASE"/client.* | grep -c ' rounds$')" "$CLIENTS"
diag "$(awk '/ rounds$/ { n += $1 } END { print n " rounds over all clients" }' "$BASE"/client.*)"
is "the keeper never changed" "$(field keeper /dev/null)$(kill -0 "$PID" && echo alive)" alive

# ---- what is left ---------------------------------------------------------

is "each client's own snapshot is there, and nothing else" "$(t ls "$MNT/active" | wc -l)" "$CLIENTS"
is "the base alone is committed" "$(t ls "$MNT/snapshots")" base
is "mounts: of what is open" "$(overlays)" "$((CLIENTS + $(mounted "$MNT/snapshots/base/fs" && echo 1 || echo 0)))"
ok "the sweep clears the store" wait_until 100 settled
is "nothing is left over" "$(settled || leftovers)" ""
is "layers in the store" "$(find "$STORE/layers" -mindepth 1 -maxdepth 1 | wc -l)" "$((CLIENTS + 1))"
wrong=0
for ((c = 1; c <= CLIENTS; c++)); do
    rounds=$(awk '/ rounds$/ { print $1 }' "$BASE/client.$c")
    [ "$(stat -c %s "$MNT/active/c$c/fs/open")" = "$rounds" ] || wrong=$((wrong + 1))
    errno rmdir "$MNT/active/c$c" | grep -qx ok || wrong=$((wrong + 1))
done
is "the files that were open all the time hold a byte a round, and can go" "$wrong" 0
ok "it ends in order" stop_program
is "without a word" "$(cat "$ERRORS")" ""
start_program
is "the next start finds the base" "$(t cat "$MNT/snapshots/base/fs/file")" base
done_testing
