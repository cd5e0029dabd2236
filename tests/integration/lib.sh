# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the integration scripts share. Source it as the first thing:
#
#     #!/bin/bash
#     # SPDX-License-Identifier: Apache-2.0
#     . "$(dirname "$0")/lib.sh"
#     new_mount
#     works "prepare" mkdir "$MNT/active/a"
#     done_testing
#
# tap.sh, which this sources, has the assertions.
#
# Mounts
#   new_mount [OPTIONS]     makes $BASE (temporary, on disk), $STORE and $MNT in it, starts the program there.
#                           OPTIONS is a comma list for -o; $STRATAFS_TEST_OPTIONS is always joined.
#                           Another call gives another trio; $PID, $STORE, $MNT then mean the new one.
#   new_base                makes only the folders
#   start_program [OPTIONS] starts the program on $STORE and $MNT in the foreground mode, waits until it answers;
#                           $PID is its process, $ERRORS the file with what it wrote to stderr
#   worker                  prints the process that serves: the child of $PID, or $PID itself without a keeper
#   kill_worker             SIGKILL to it alone, and waits until its keeper has started another one
#   stop_program            umount -R, waits for the end; status is its exit status
#   kill_program            SIGKILL to $PID and what it forked, then clears the dead mount away
#   restart [OPTIONS]       stop_program and start_program; without OPTIONS those of before
#   FAULTS=yes              set before new_mount: the program's system calls can be made to fail, see
#   order CALL N ERRNO      … the Nth CALL from now on ("any": of those that change something) fails with that errno
#                           number (helpers/inject.c); hit tells whether that has happened, and ends the order
#   hold_call CALL N CMD…   … waits for let_go, which is for all that wait; returns when CMD, in the background as $HELD, has come there.
#                           With HELD_ERRNO=N the call fails with that errno number when it is let go
#
# Tools
#   t CMD…                  CMD under the anti-hang time limit (60 s); use it for all that touches a mount
#   spawn CMD…              CMD in the background, ended by cleanup at the latest; its pid in $SPAWNED
#   unspawn PID             ends it now
#   wait_until SECONDS CMD… polls until CMD succeeds; 1 when it never does
#   mounted PATH            whether a mount sits on just that path (asks the kernel, never touches the path)
#   errno OP ARG…           prints "ok" or the errno's name
#   field KEY FILE          value of a "key: value" line
#   state                   prints everything that entries show; equal before and after a failed operation
#   fill DIR                makes some files of several kinds below DIR
#   digest DIR              one checksum over names, types, modes and contents below DIR
#   xattrs PATH             all of it, ACLs among them, one a line
#   own_names PATH          names as overlayfs has them for itself, of those that an overlay takes at PATH: kernels before 6.7 take fewer
#
# Environment: STRATAFS, STRATAFS_TEST_OPTIONS, top_builddir, TMPDIR; all have defaults.

set -u
. "$(dirname "${BASH_SOURCE[0]}")/tap.sh"
export LC_ALL=C.UTF-8
export SHELL=/bin/bash # script(1) runs its command with it; another shell ends differently when a child of it is interrupted
umask 022

: "${top_builddir:=.}"
: "${STRATAFS_TEST_OPTIONS:=}"
: "${STRATAFS:=$top_builddir/stratafs}"
HELPERS=$(realpath -m "$top_builddir/tests/integration/helpers")
STRATAFS=$(realpath -m "$STRATAFS")
MAIN=$BASHPID
BASES=() PIDS=() SPAWNS=() ALL_ERRORS=()
FAULTS='' BASE='' STORE='' MNT='' PID='' ERRORS='' SPAWNED='' HELD='' OPTIONS=''
WATCHDOG=''

# ---- the end ----------------------------------------------------------------

done_testing() {
    local i reports
    for i in "${!PIDS[@]}"; do
        [ -n "${PIDS[i]}" ] || continue
        MNT=${BASES[i]}/mnt PID=${PIDS[i]}
        stop_program >/dev/null 2>&1
    done
    # The leak checker itself may fail where a thread ends just then: that says nothing of the program
    reports=$(cat /dev/null "${ALL_ERRORS[@]}" |
        grep -avE 'LeakSanitizer has encountered a fatal error|HINT: (LeakSanitizer|For debugging)' |
        grep -aE -A 20 'Sanitizer|runtime error:|Assertion|stack smashing|free\(\)|malloc\(\)')
    if [ -n "$reports" ]; then
        fail "no sanitizer or runtime report from the program"
        diag "$reports"
    fi
    printf '1..%d\n' "$TESTS_RUN"
    [ "$TESTS_FAILED" = 0 ] || diag "$TESTS_FAILED of $TESTS_RUN failed"
    trap - EXIT
    cleanup
    [ "$TESTS_FAILED" = 0 ]
    exit
}

# ---- mounts --------------------------------------------------------------

# "MINOR PATH" of all mounts at or below $1, innermost last
mounts_below() {
    local dev path _
    while read -r _ _ dev _ path _; do
        printf -v path %b "$path"
        case $path in
        "$1" | "$1"/*) printf '%s %s\n' "${dev#*:}" "$path" ;;
        esac
    done < <(cat /proc/self/mountinfo) # read(1) seeks back, and loses its place when the table changes
}

mounted() {
    local path _
    while read -r _ _ _ _ path _; do
        printf -v path %b "$path"
        [ "$path" != "$1" ] || return 0
    done < <(cat /proc/self/mountinfo) # read(1) seeks back, and loses its place when the table changes
    return 1
}

wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}

new_base() {
    BASE=$(mktemp -d "${TMPDIR:-/tmp}/stratafs-test.$$.XXXXXX") || bail "no temporary directory"
    BASE=$(realpath "$BASE")
    BASES+=("$BASE")
    PIDS+=('')
    STORE=$BASE/store MNT=$BASE/mnt ERRORS=$BASE/stderr
    ALL_ERRORS+=("$ERRORS")
    : >"$ERRORS"
    mkdir "$MNT" "$BASE/probe" "$BASE/probe"/{lower,upper,work,at}
    if ! mount -t overlay -o "lowerdir=$BASE/probe/lower,upperdir=$BASE/probe/upper,workdir=$BASE/probe/work" \
        probe "$BASE/probe/at" 2>/dev/null; then
        bail "no overlay mount in ${TMPDIR:-/tmp}: run as root, with TMPDIR on a disk file system"
    fi
    umount "$BASE/probe/at"
    rm -rf --one-file-system "$BASE/probe"
}

answers() { ! kill -0 "$PID" 2>/dev/null || timeout -k 1 10 test -e "$MNT/version"; }

start_program() {
    OPTIONS=${1-$OPTIONS}
    local joined=$OPTIONS i
    if [ -n "$STRATAFS_TEST_OPTIONS" ]; then
        joined=${joined:+$joined,}$STRATAFS_TEST_OPTIONS
    fi
    ${FAULTS:+"$HELPERS/inject" "$BASE/order"} "$STRATAFS" "$STORE" "$MNT" -f ${joined:+-o "$joined"} </dev/null >>"$ERRORS" 2>&1 &
    PID=$!
    for i in "${!BASES[@]}"; do
        [ "${BASES[i]}" != "$BASE" ] || PIDS[i]=$PID
    done
    if ! wait_until 60 answers || ! mounted "$MNT"; then
        diag "$(tail -n 20 "$ERRORS")"
        bail "the program does not mount $STORE on $MNT"
    fi
}

new_mount() {
    [ -x "$STRATAFS" ] || bail "no program at $STRATAFS"
    [ -x "$HELPERS/syscall" ] || bail "no helpers in $HELPERS: make check builds them"
    OPTIONS=${1:-}
    new_base
    start_program "$OPTIONS"
}

gone() { ! kill -0 "$1" 2>/dev/null; }

# Waits for the end of child $1 with a time limit; returns its exit status
reap() {
    if ! wait_until 60 gone "$1"; then
        diag "process $1 does not end, killing it"
        diag "$(sleepers "$1")"
        kill -KILL "$1" 2>/dev/null
    fi
    wait "$1" 2>/dev/null
}

# Where each thread of process $1 and of those it forked sleeps
sleepers() {
    local pid task
    for pid in "$1" $(descendants "$1"); do
        for task in "/proc/$pid/task"/*; do
            echo "${task#/proc/} $(cat "$task/comm" "$task/syscall" "$task/stack" 2>&1 | tr '\n' ' ')"
        done
        ! type gdb >/dev/null 2>&1 || timeout -k 1 30 gdb -p "$pid" -batch -ex 'thread apply all backtrace 12' 2>/dev/null
    done
}

forget() {
    local i
    for i in "${!PIDS[@]}"; do
        [ "${PIDS[i]}" != "$1" ] || PIDS[i]=''
    done
}

stop_program() {
    local status=0
    timeout -k 5 60 umount -R "$MNT" || { status=$?; diag "umount -R: status $status"; clear_mounts "$MNT"; }
    reap "$PID" || status=$?
    forget "$PID"
    return "$status"
}

worker() {
    local child children=()
    read -r -a children <"/proc/$PID/task/$PID/children"
    for child in "${children[@]}"; do
        # One that has ended, and that the keeper has not waited for yet, runs no program any more
        readlink "/proc/$child/exe" >/dev/null && break
    done
    echo "${child:-$PID}"
}

replaced() {
    local now
    now=$(worker)
    [ "$now" != "$1" ] && [ "$now" != "$PID" ]
}

kill_worker() {
    local old
    old=$(worker)
    kill -KILL "$old"
    wait_until 30 replaced "$old"
}

# The processes that $1 forked, and those that they forked
descendants() {
    local pid
    # shellcheck disable=SC2013
    for pid in $(cat "/proc/$1"/task/*/children 2>/dev/null); do
        echo "$pid"
        descendants "$pid"
    done
}

kill_program() {
    local children
    children=$(descendants "$PID")
    # shellcheck disable=SC2086
    kill -KILL "$PID" $children 2>/dev/null
    reap "$PID"
    forget "$PID"
    clear_mounts "$MNT"
}

restart() {
    stop_program || diag "the program ended with status $?"
    start_program "$@"
}

# Frees whatever hangs at or below $1, then unmounts it, innermost first
clear_mounts() {
    local minor path
    timeout -k 5 20 umount -R "$1" 2>/dev/null
    while read -r minor path; do
        [ ! -w "/sys/fs/fuse/connections/$minor/abort" ] || echo 1 >"/sys/fs/fuse/connections/$minor/abort"
    done < <(mounts_below "$1")
    while read -r minor path; do
        timeout -k 5 20 umount -l "$path" 2>/dev/null
    done < <(mounts_below "$1" | tac)
}

order() {
    rm -f "$BASE/order" "$BASE/order.hit"
    echo "$*" >"$BASE/order.new"
    mv "$BASE/order.new" "$BASE/order"
}

hit() {
    echo any 0 0 >"$BASE/order.new"
    mv "$BASE/order.new" "$BASE/order" # from here on nothing happens any more
    [ -e "$BASE/order.hit" ]
}

hold_call() {
    rm -f "$BASE/order.go"
    order "$1" "$2" "-${HELD_ERRNO:-1}"
    shift 2
    spawn "$@"
    # shellcheck disable=SC2034 # for those who call this
    HELD=$SPAWNED
    wait_until 20 test -e "$BASE/order.hit" || bail "$* does not come to the call that it is to be held at"
}

let_go() { : >"$BASE/order.go"; }

# ---- tools ---------------------------------------------------------------

spawn() {
    "$@" </dev/null >/dev/null 2>&1 &
    SPAWNED=$!
    SPAWNS+=("$SPAWNED")
}

unspawn() {
    local i
    kill "$1" 2>/dev/null
    reap "$1"
    for i in "${!SPAWNS[@]}"; do
        [ "${SPAWNS[i]}" != "$1" ] || unset "SPAWNS[i]"
    done
    return 0
}

field() { t sed -n "s/^$1: \{0,1\}//p" "$2"; }

state() {
    local kind entry label files=() parents=()
    for kind in active views snapshots; do
        for entry in "$MNT/$kind"/*; do
            [ ! -e "$entry" ] || files+=("$entry/info")
            [ ! -L "$entry/parent" ] || parents+=("$entry/parent")
            for label in "$entry"/labels/*; do
                [ ! -e "$label" ] || files+=("$label")
            done
        done
    done
    [ ${#files[@]} = 0 ] || t head -v -c 100000 "${files[@]}"
    [ ${#parents[@]} = 0 ] || t readlink -v "${parents[@]}"
    t cat "$MNT/tree"
}

fill() {
    mkdir -p "$1/dir/deep" &&
        echo text >"$1/file" &&
        echo inner >"$1/dir/deep/file" &&
        head -c 100000 /dev/zero | tr '\0' 'z' >"$1/dir/big" &&
        ln "$1/file" "$1/hard" &&
        ln -s file "$1/soft" &&
        chmod 4711 "$1/dir/big" &&
        chown 123:456 "$1/dir/deep/file"
}

xattrs() { t getfattr -h -d -m - -e hex "$1" 2>/dev/null | sed 1d; }

own_names() {
    echo user.overlay.foo
    [ "$(errno setxattr "$1" trusted.overlay.bar)" != ok ] || echo trusted.overlay.bar trusted.overlay.opaque
}

# A DIR that is not there equals nothing, not even itself
digest() {
    (if cd "$1"; then
        find . -printf '%P %y %m %U %G %l\n' | LC_ALL=C sort
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum
    else
        echo "$1 $RANDOM $RANDOM"
    fi) | sha256sum
}

# ---- cleanup -------------------------------------------------------------

# shellcheck disable=SC2317
# True if process $1 is a child of this script: the number of one that has ended is another one's soon
ours() {
    local line
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    line=${line##*) }
    line=${line#* }
    [ "${line%% *}" = "$MAIN" ]
}

cleanup() {
    local pid base
    rm -f "$OUT"
    for pid in "${SPAWNS[@]}" $WATCHDOG; do
        ! ours "$pid" || kill "$pid" 2>/dev/null
    done
    for base in "${BASES[@]}"; do
        [ -z "$(mounts_below "$base")" ] || timeout -k 5 60 umount -R "$base/mnt" 2>/dev/null
        clear_mounts "$base"
    done
    for pid in "${PIDS[@]}"; do
        ours "${pid:-none}" || continue
        wait_until 10 gone "$pid" || kill -KILL "$pid" 2>/dev/null
    done
    for pid in "${SPAWNS[@]}"; do
        ! ours "$pid" || kill -KILL "$pid" 2>/dev/null
    done
    for base in "${BASES[@]}"; do
        if [ -z "$(mounts_below "$base")" ]; then
            rm -rf --one-file-system "$base"
        else
            diag "left mounted: $(mounts_below "$base")"
        fi
    done
}

# The shell itself may hang in an open() that the program never answers: then only an abort frees it
watchdog() {
    local base minor path pipe
    trap - EXIT INT TERM HUP
    exec {pipe}<> <(:)
    read -rt "${STRATAFS_TEST_TIMEOUT:-900}" -u "$pipe"
    printf '# out of time, aborting\n'
    kill -TERM "$MAIN"
    for base in "$(realpath "${TMPDIR:-/tmp}")/stratafs-test.$$".*; do
        while read -r minor path; do
            [ ! -w "/sys/fs/fuse/connections/$minor/abort" ] || echo 1 >"/sys/fs/fuse/connections/$minor/abort"
        done < <(mounts_below "$base")
    done
}

OUT=$(mktemp) || exit 1
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
watchdog &
WATCHDOG=$!
[ "$(id -u)" = 0 ] || bail "these tests need root"
