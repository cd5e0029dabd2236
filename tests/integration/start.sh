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
# The pids of this very program on store $1, an absolute path, by its open files: a background process has no parent to ask
serving() {
    local dir
    find /proc/[0-9]*/fd -maxdepth 1 \( -lname "$1" -o -lname "$1/*" \) -printf '%h\n' 2>/dev/null | sort -u | while read -r dir; do
        [ "$(readlink "${dir%/fd}/exe")" != "$STRATAFS" ] || basename "${dir%/fd}"
    done
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

# ---- a dead mount, by other names of its mount point
is_in() { [ "$(readlink "/proc/$1/cwd")" = "$2" ]; }
# dead_mount: the program is killed while a process is in an fs/
dead_mount() {
    local pids pid inside=$M/active/k/fs
    start "$S" "$M"
    [ -d "$M/active/k" ] || t mkdir "$M/active/k"
    # shellcheck disable=SC2016
    spawn sh -c 'cd "$0" && exec sleep 1000' "$inside"
    wait_until 30 is_in "$SPAWNED" "$inside"
    pids=$(serving "$S")
    for pid in $pids; do kill -KILL "$pid"; done
    wait_until 30 none_serving "$S"
}
mkdir "$BASE/dir"
ln -s "$M" "$BASE/absolute"
ln -s ../m "$BASE/dir/relative"
ln -s dir/relative "$BASE/twice"
ln -s m/. "$BASE/dotted"
cd "$BASE" || exit 1
for name in m "$BASE/absolute" dir/relative twice dotted twice/ m/ m/. ./m//./ absolute/.; do
    dead_mount
    fails "as $name: dead" ENOTCONN opendir "$M"
    start "$S" "$name"
    is "as $name: a start replaces it" "$STATUS" 0 || diag "$SAID"
    ok "as $name: it answers" t test -e "$M/version"
    unspawn "$SPAWNED"
    ok "as $name: ends" leave "$S"
    is "as $name: nothing is left" "$(mounts_below "$M")" ""
done
dead_mount
unspawn "$SPAWNED"
# shellcheck disable=SC2016
ok "from within: a start replaces it" sh -c 'cd "$1" && s=$2 && shift 2 && exec timeout -k 5 60 "$0" "$s" . "$@"' "$STRATAFS" "$M" "$S" "${options[@]}"
ok "from within: ends" leave "$S"
ln -s loop "$BASE/loop"
for name in loop loop/. missing missing/. missing/x; do
    start "$S" "$name"
    is "as $name: refused" "$STATUS" 1
    like "as $name: with the reason" "$SAID" "^stratafs: the mount point $name can't be used: "
done
cd / || exit 1

# ---- behind "--"
mkdir "$BASE/-o"
cd "$BASE" || exit 1
STRATAFS_TEST_OPTIONS=${STRATAFS_TEST_OPTIONS:+$STRATAFS_TEST_OPTIONS,}allow_other # that libfuse is to see
"$STRATAFS" -o "$STRATAFS_TEST_OPTIONS" -- -o m >"$OUT" 2>&1
is "behind --: status" $? 0 || diag "$(cat "$OUT")"
is "behind --: the source" "$(findmnt -no SOURCE "$M")" "$BASE/-o"
like "behind --: the options" "$(findmnt -no OPTIONS "$M")" allow_other
works "behind --: prepare" mkdir "$M/active/k"
ok "behind --: ends" leave "$BASE/-o"
cd / || exit 1
done_testing
