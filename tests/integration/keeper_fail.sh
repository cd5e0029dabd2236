#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Where the keeper can't help: workers that die at once, keeper and worker killed together, -o keeper=off.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

# The processes of this very program on store $1
serving() {
    local dir
    for dir in /proc/[0-9]*; do
        [ "$(readlink "$dir/exe")" = "$STRATAFS" ] || continue
        ! tr '\0' '\n' <"$dir/cmdline" | grep -qxF -e "$1" || echo "${dir#/proc/}"
    done 2>/dev/null
}
none_serving() { [ -z "$(serving "$1")" ]; }

new_mount
if [ "$(worker)" = "$PID" ]; then
    echo "1..0 # SKIP no keeper here (an option, or Linux before 6.9)"
    stop_program
    exit 0
fi
snapshot base
prepare work base

# ---- workers that die at once ---------------------------------------------

# Kills whatever worker there is, until the keeper has given up. Its leak checker has a child of its own after that, so
# only what was there while the mount was still there is a worker.
hunt() {
    local child
    while child=; mounted "$MNT"; do
        read -r child _ 2>/dev/null <"/proc/$PID/task/$PID/children"
        [ -z "$child" ] || ! mounted "$MNT" || kill -KILL "$child" 2>/dev/null
    done
}

exec {file}>>"$MNT/active/work/fs/file"
keeper=$PID
began=${EPOCHREALTIME/./}
hunt
reap "$keeper"
is "the keeper gives up" "$?" 1
ok "not before it has waited a little for better times" test $((${EPOCHREALTIME/./} - began)) -gt 600000
forget "$keeper"
like "with a clear message" "$(cat "$ERRORS")" "the keeper of $MNT gave up: three of its workers"
ok "and a clean unmount" test -z "$(mounts_below "$MNT")"
ok "no process is left" wait_until 30 none_serving "$STORE"
echo late >&"$file"
exec {file}>&-
: >"$ERRORS"
start_program
like "the next run has it in its log" "$(t cat "$MNT/log")" 'start keeper EIO .*gave up'
is "what was written then is there" "$(t cat "$MNT/active/work/fs/file")" late
restart
unlike "the one after that has not" "$(t cat "$MNT/log")" 'gave up'

# ---- ends -----------------------------------------------------------------

old=$(worker)
ok "the worker is killed" kill_worker
isnt "and replaced" "$(worker)" "$old"
kill -TERM "$PID"
reap "$PID"
is "SIGTERM to the keeper ends both" "$?" 0
forget "$PID"
is "no mount is left" "$(mounts_below "$MNT")" ""
ok "no process is left after that" wait_until 30 none_serving "$STORE"
start_program
kill -STOP "$(worker)"
kill -KILL "$(worker)"
ok "one that was stopped is replaced as well" wait_until 30 test -e "$MNT/version"
umount -R "$MNT"
reap "$PID"
is "umount -R ends both" "$?" 0
forget "$PID"
start_program
mkdir "$BASE/second"
second=$(timeout 20 "$STRATAFS" "$STORE" "$BASE/second" -f 2>&1)
like "a second program on the same store names the keeper" "$second" "process $PID; end that one first"
is "and leaves no mount" "$(mounts_below "$BASE/second")" ""

# ---- what the keeper itself can't have ------------------------------------

# Here $PID is the helper, its child the keeper
child() { cat "/proc/$1/task/$1/children" 2>/dev/null | cut -d' ' -f 1; }
another() { [ -n "$(child "$2")" ] && [ "$(child "$2")" != "$1" ]; }
stop_program
FAULTS=yes
start_program
keeper=$(child "$PID")
for call in "pipe2 24" "clone 11" "clone 12"; do # EMFILE, EAGAIN, ENOMEM
    sleep 0.2
    old=$(child "$keeper")
    order "${call% *}" 1 "${call#* }"
    kill -KILL "$old"
    ok "no ${call% *}, ${call#* }: another worker is there all the same" wait_until 30 another "$old" "$keeper"
    ok "no ${call% *}, ${call#* }: it was tried" hit
    is "no ${call% *}, ${call#* }: the mount goes on" "$(t cat "$MNT/snapshots/base/fs/f")" base
done

# A sync that failed is not tried again unseen, by whatever worker
lost() { fails "a sync that failed, $1: nothing from before it is committed" EIO rename "$MNT/active/b" "$MNT/snapshots/b"; }
t mkdir "$MNT/active/a" "$MNT/active/b"
echo data >"$MNT/active/b/fs/file"
order syncfs 1 5
fails "a sync fails" EIO rename "$MNT/active/a" "$MNT/snapshots/a"
ok "as it was to" hit
lost "the same worker"
old=$(child "$keeper")
kill -KILL "$old"
ok "its worker is killed" wait_until 30 another "$old" "$keeper"
lost "after a kill"
ok "an upgrade" "$STRATAFS" --upgrade "$MNT"
lost "after an upgrade"
t mkdir "$MNT/active/c"
works "what was begun later is committed" rename "$MNT/active/c" "$MNT/snapshots/c"
echo yes >"$MNT/active/b/labels/stratafs.trust"
works "and the other one once its user says so" rename "$MNT/active/b" "$MNT/snapshots/b"
stop_program
FAULTS=
start_program

# ---- both killed ----------------------------------------------------------

kill_both() {
    # shellcheck disable=SC2046
    kill -KILL "$PID" $(worker)
    reap "$PID"
    forget "$PID"
}

prepare busy base
prepare idle base
echo idle >"$MNT/active/idle/fs/file"
mkdir "$MNT/active/busy/fs/dir"
hold write "$MNT/active/busy/fs/new"
writer=$HOLD
hold cwd "$MNT/active/busy/fs/dir"
inside=$HOLD
kill_both
start_program
ok "both killed: what is in use is taken over" test -e "$MNT/active/busy/fs/new"
is "both killed: its user goes on" "$(attempt "$writer")" ok
ok "both killed: it is mounted" mounted "$MNT/active/busy/fs"
works "both killed: new files are written there" create "$MNT/active/busy/fs/dir/fresh"
fails "both killed: no commit while a file is open for writing" EBUSY rename "$MNT/active/busy" "$MNT/snapshots/busy"
fails "both killed: no removal while it is in use" EBUSY rmdir "$MNT/active/busy"
like "both killed: the log says who" "$(t tail -n 1 "$MNT/log")" 'EBUSY.*process [0-9]+'
ok "both killed: what was idle is not" test "$(mounted "$MNT/active/idle/fs" && echo yes)" != yes
is "both killed: and is there at the next touch" "$(t cat "$MNT/active/idle/fs/file")" idle
release "$writer"
works "both killed: then it is committed" rename "$MNT/active/busy" "$MNT/snapshots/busy"
ok "both killed: with the new file" test -e "$MNT/snapshots/busy/fs/dir/fresh"
isnt "both killed: who is inside still does not write any more" "$(attempt "$inside")" ok
release "$inside"
works "both killed: it goes" rmdir "$MNT/snapshots/busy"
works "both killed: so does the idle one" rmdir "$MNT/active/idle"

# ---- keeper=off -----------------------------------------------------------

restart keeper=off
is "keeper=off: one process" "$(worker)" "$PID"
is "keeper=off: it serves" "$(t cat "$MNT/snapshots/base/fs/f")" base
kill -KILL "$PID"
reap "$PID"
forget "$PID"
nok "keeper=off: its death is the mount's" ls "$MNT"
start_program keeper=off
is "keeper=off: and the next start clears it away" "$(t cat "$MNT/active/work/fs/file")" late
# Linux before 6.9 refuses the notification, which is the first write of the program
if command -v strace >/dev/null; then
    stop_program
    # the leak checker does not work below strace
    ASAN_OPTIONS=detect_leaks=0 spawn strace -f -o /dev/null -e trace=write -e inject=write:error=EINVAL:when=1 "$STRATAFS" "$STORE" "$MNT" -f
    ok "old kernel: it serves" wait_until 60 test -e "$MNT/version"
    like "old kernel: the log says that there is no keeper" "$(t cat "$MNT/log")" 'start keeper ENOSYS'
    serving=$(serving "$STORE" | wc -l)
    is "old kernel: it is one process" "$serving" 1
    ok "old kernel: umount -R" umount -R "$MNT"
    reap "$SPAWNED"
    is "old kernel: its status" "$?" 0
    start_program
else
    diag "no strace: the fallback of old kernels is not tested"
fi

nok "keeper=maybe is a mistake" "$STRATAFS" "$STORE" "$BASE/x" -o keeper=maybe
done_testing
