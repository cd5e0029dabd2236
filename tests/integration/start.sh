#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The start, where its surroundings are odd: closed standard files, a mount point by another name.
. "$(dirname "$0")/lib.sh"
new_base
M=$BASE/m S=$BASE/s
mkdir "$M"
options=(${STRATAFS_TEST_OPTIONS:+-o "$STRATAFS_TEST_OPTIONS"})

# start ARG…: in the background mode, with a time limit; status in $STATUS, output in $SAID
start() {
    STATUS=0
    timeout -k 5 60 "$STRATAFS" "$@" "${options[@]}" >"$OUT" 2>&1 </dev/null || STATUS=$?
    SAID=$(cat "$OUT")
}
# The pids of this very program on store $1, by its open files: a background process has no parent to ask
serving() {
    local dir
    for dir in /proc/[0-9]*; do
        [ "$(readlink "$dir/exe")" = "$STRATAFS" ] || continue
        ! tr '\0' '\n' <"$dir/cmdline" | grep -qxF -e "$1" || echo "${dir#/proc/}"
    done 2>/dev/null
}
none_serving() { [ -z "$(serving "$1")" ]; }
# What is left of store $1 when that fails does not stay for the next
leave() {
    local pid
    timeout -k 5 20 umount -R "$M" 2>/dev/null && wait_until 30 none_serving "$1" && return
    for pid in $(serving "$1"); do kill -KILL "$pid"; done
    clear_mounts "$M"
    return 1
}

# ---- closed standard files

# closing FDS CMD…: CMD with those of 0, 1 and 2 closed
# shellcheck disable=SC2317
closing() (
    local fd
    for fd in $1; do eval "exec $fd>&-"; done
    shift
    exec timeout -k 5 60 "$@"
)
# What processes $2… have in place of the FDS $1, but for /dev/null
others() {
    local pid fd
    for pid in "${@:2}"; do
        for fd in $1; do
            [ "$(readlink "/proc/$pid/fd/$fd")" = /dev/null ] || readlink "/proc/$pid/fd/$fd"
        done
    done
}
for fds in 0 1 2 '0 1' '0 2' '1 2' '0 1 2'; do
    closing "$fds" "$STRATAFS" "$S" "$M" "${options[@]}"
    is "closed $fds: status" $? 0
    ok "closed $fds: the mount answers" t test -e "$M/version"
    # shellcheck disable=SC2046
    is "closed $fds: all of them are /dev/null" "$(others '0 1 2' $(serving "$S"))" ""
    works "closed $fds: prepare" mkdir "$M/active/k"
    works "closed $fds: fs/" rewrite "$M/active/k/fs/file" text
    works "closed $fds: remove" rmdir "$M/active/k"
    ok "closed $fds: ends" leave "$S"

    (closing "$fds" "$STRATAFS" -f "$S" "$M" "${options[@]}") &
    ok "closed $fds, -f: the mount answers" wait_until 30 test -e "$M/version"
    # shellcheck disable=SC2046
    is "closed $fds, -f: they are /dev/null" "$(others "$fds" $(serving "$S"))" ""
    ok "closed $fds, -f: ends" leave "$S"
    wait $!
    is "closed $fds, -f: status" $? 0

    ok "closed $fds: a check" closing "$fds" "$STRATAFS" --check "$S"
done

# ---- behind "--"
mkdir "$BASE/-o"
cd "$BASE" || exit 1
STRATAFS_TEST_OPTIONS=${STRATAFS_TEST_OPTIONS:+$STRATAFS_TEST_OPTIONS,}allow_other # that libfuse is to see
"$STRATAFS" -o "$STRATAFS_TEST_OPTIONS" -- -o m >"$OUT" 2>&1
is "behind --: status" $? 0 || diag "$(cat "$OUT")"
is "behind --: the source" "$(findmnt -no SOURCE "$M")" "$BASE/-o"
like "behind --: the options" "$(findmnt -no OPTIONS "$M")" allow_other
works "behind --: prepare" mkdir "$M/active/k"
ok "behind --: ends" leave -o
cd / || exit 1
done_testing
