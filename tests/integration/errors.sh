#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every row of the error table: the errno, the line in log where the program is asked at all, and that nothing
# has changed. (The kernel itself answers for a source that is not there, and for mkdir of a name that is.)
. "$(dirname "$0")/lib.sh"
new_mount
cd / || exit 1
A=$MNT/active V=$MNT/views S=$MNT/snapshots
PREPARE='prepare|mkdir' VIEW='view|mkdir' COMMIT='commit|rename' RENAME='rename' REMOVE='remove|rmdir|release|delete|abandon'

mkdir "$A/base" "$A/active" "$V/void"
echo one >"$A/base/fs/file"
mv "$A/base" "$S/base"
mkdir "$A/mid@base"
mv "$A/mid" "$S/mid"
mkdir "$A/child@mid" "$V/view@base"
echo v >"$A/child/labels/l"
BEFORE=$(state)

# refused DESC ERRNO OPS LOGPATH REASON OP ARG…: errno, log line, and state
refused() {
    local desc=$1 want=$2 ops=$3 path=$4 reason=$5
    shift 5
    fails "$desc" "$want" "$@"
    [ -z "$ops" ] || logged "$desc: in the log" "$ops" "$path" "$want" "$reason"
    is "$desc: nothing changed" "$(state)" "$BEFORE"
}

# ---- ENOENT
refused "prepare on no parent" ENOENT "$PREPARE" active/x 'nope|parent|no such' mkdir "$A/x@nope"
refused "view of no parent" ENOENT "$VIEW" views/x 'nope|parent|no such' mkdir "$V/x@nope"
refused "an active snapshot is no parent" ENOENT "$PREPARE" active/x . mkdir "$A/x@child"
refused "commit of nothing" ENOENT '' '' '' rename "$A/nope" "$S/x"
refused "rename of nothing" ENOENT '' '' '' rename "$S/nope" "$S/x"
refused "exchange with nothing" ENOENT '' '' '' exchange "$S/base" "$S/nope"
refused "removal of nothing" ENOENT '' '' '' rmdir "$A/nope"
refused "removal of no view" ENOENT '' '' '' rmdir "$V/nope"
refused "removal of no snapshot" ENOENT '' '' '' rmdir "$S/nope"

# ---- EEXIST
refused "prepare of a taken key" EEXIST '' '' '' mkdir "$A/child"
refused "prepare of a taken key on a parent" EEXIST "$PREPARE" active/child . mkdir "$A/child@base"
refused "prepare of a view's key" EEXIST "$PREPARE" active/view . mkdir "$A/view"
refused "view of an active key" EEXIST "$VIEW" views/child . mkdir "$V/child@base"
refused "commit onto a snapshot, rename(2)" EEXIST "$COMMIT" snapshots/base . rename "$A/active" "$S/base"
refused "commit onto a snapshot, RENAME_NOREPLACE" EEXIST '' '' '' noreplace "$A/active" "$S/base"
refused "rename onto an active key" EEXIST "$RENAME" active/child . rename "$A/active" "$A/child"
refused "rename onto a view's key" EEXIST "$RENAME" active/view . rename "$A/active" "$A/view"
refused "rename of a view onto an active key" EEXIST "$RENAME" views/child . rename "$V/view" "$V/child"
refused "rename of a view onto a view" EEXIST "$RENAME" views/void . rename "$V/view" "$V/void"
refused "rename onto a snapshot" EEXIST "$RENAME" snapshots/mid . rename "$S/base" "$S/mid"
nok "mv(1) onto a snapshot fails" mv "$A/active" "$S/base"
like "mv(1) says why" "$(cat "$OUT")" 'File exists|cannot overwrite'
logged "mv(1) onto a snapshot: in the log" "$COMMIT" snapshots/base EEXIST
is "mv(1) onto a snapshot: nothing changed" "$(state)" "$BEFORE"

# ---- EINVAL, ENAMETOOLONG (the rules themselves: names.sh)
refused "a key with a leading dot" EINVAL "$PREPARE" active/.x . mkdir "$A/.x"
refused "KEY@ with nothing behind" EINVAL "$PREPARE" active/x@ . mkdir "$A/x@"
refused "view KEY@ with nothing behind" EINVAL "$VIEW" views/x@ . mkdir "$V/x@"
refused "commit to a bad name" EINVAL "$COMMIT" snapshots/.n . rename "$A/active" "$S/.n"
refused "commit to a name with @" EINVAL "$COMMIT" snapshots/n@base . rename "$A/active" "$S/n@base"
refused "rename to a bad key" EINVAL "$RENAME" active/a@b . rename "$A/active" "$A/a@b"
LONG=$(printf 'l%.0s' {1..256})
fails "a key of 256 bytes" ENAMETOOLONG mkdir "$A/$LONG"
fails "a name of 256 bytes" ENAMETOOLONG rename "$A/active" "$S/$LONG"
is "names too long: nothing changed" "$(state)" "$BEFORE"

# ---- EPERM
refused "mkdir in snapshots/" EPERM "$PREPARE" snapshots/x . mkdir "$S/x"
refused "mkdir beside the folders" EPERM "$PREPARE" x . mkdir "$MNT/x"
refused "mkdir inside an entry" EPERM "$PREPARE" active/active/x . mkdir "$A/active/x"
refused "mkdir inside labels/" EPERM "$PREPARE" active/active/labels/x . mkdir "$A/active/labels/x"
refused "commit of a view" EPERM "$COMMIT" views/view view rename "$V/view" "$S/x"
refused "a snapshot back to active/" EPERM "$RENAME|$COMMIT" snapshots/mid committed rename "$S/mid" "$A/x"
refused "a snapshot back to views/" EPERM "$RENAME|$COMMIT" snapshots/mid committed rename "$S/mid" "$V/x"
refused "an active snapshot to views/" EPERM "$RENAME|$COMMIT" active/active . rename "$A/active" "$V/x"
refused "a view to active/" EPERM "$RENAME|$COMMIT" views/view . rename "$V/view" "$A/x"
refused "an entry out of its folder" EPERM "$RENAME|$COMMIT" active/active . rename "$A/active" "$MNT/x"
refused "a control file elsewhere" EPERM "$RENAME|$COMMIT" active/active/info . rename "$A/active/info" "$A/active/x"
refused "a folder renamed" EPERM "$RENAME|$COMMIT" active . rename "$A" "$MNT/x"
refused "rmdir of a folder" EPERM "$REMOVE" active . rmdir "$A"
refused "rmdir of labels/" EPERM "$REMOVE" active/active/labels . rmdir "$A/active/labels"
refused "unlink of a control file" EPERM '' '' '' unlink "$A/active/info"
refused "unlink of a file beside the folders" EPERM '' '' '' unlink "$MNT/tree"
refused "a file beside the folders" EPERM '' '' '' create "$MNT/x"
refused "a file in active/" EPERM '' '' '' create "$A/x"
refused "a file in an entry" EPERM '' '' '' create "$A/active/x"
refused "a node" EPERM '' '' '' mknod "$A/x"
refused "a pipe" EPERM '' '' '' mkfifo "$A/active/x"
refused "a symbolic link" EPERM '' '' '' symlink target "$A/x"
refused "a hard link" EPERM '' '' '' link "$A/active/info" "$A/x"

# ---- EROFS
refused "a file of a snapshot, opened for writing" EROFS '' '' '' openw "$S/base/fs/file"
refused "a new file in a snapshot's fs/" EROFS '' '' '' create "$S/base/fs/x"
refused "a new folder in a snapshot's fs/" EROFS '' '' '' mkdir "$S/base/fs/x"
refused "unlink in a snapshot's fs/" EROFS '' '' '' unlink "$S/base/fs/file"
refused "chmod in a snapshot's fs/" EROFS '' '' '' chmod "$S/base/fs/file" 600
refused "chown of a snapshot's fs/" EROFS '' '' '' chown "$S/base/fs" 1
refused "xattr in a snapshot's fs/" EROFS '' '' '' setxattr "$S/base/fs/file" user.x
refused "a file of a view, opened for writing" EROFS '' '' '' openw "$V/view/fs/file"
refused "a new file in a view's fs/" EROFS '' '' '' create "$V/view/fs/x"
refused "rename in a view's fs/" EROFS '' '' '' rename "$V/view/fs/file" "$V/view/fs/x"
refused "a control file of a snapshot" EROFS '' '' '' openw "$S/base/info"
refused "truncation of a control file of a view" EROFS '' '' '' truncate "$V/view/overlay" 0

# ---- ENOTEMPTY
refused "removal of a parent of an active snapshot" ENOTEMPTY "$REMOVE" snapshots/mid 'child' rmdir "$S/mid"
refused "removal of a parent of a snapshot and a view" ENOTEMPTY "$REMOVE" snapshots/base 'child' rmdir "$S/base"

# ---- EBUSY
busy_commit() {
    refused "$1" EBUSY "$COMMIT" active/child "$SPAWNED.*sleep|sleep.*$SPAWNED" rename "$A/child" "$S/x"
    echo still >"$A/child/fs/still" || fail "$1: the snapshot can still be written"
    is "$1: the snapshot can still be written" "$(cat "$A/child/fs/still")" still
}
hold() { exec sleep 1000 3>>"$1"; }
hold_read() { exec sleep 1000 3<"$1"; }
hold_cwd() { cd "$1" && exec sleep 1000; }
holds() { [ "$(readlink "/proc/$1/exe" | sed 's|.*/||')" = sleep ] || [ "$(cat "/proc/$1/comm")" = sleep ]; }
start_hold() {
    spawn "$@"
    wait_until 30 holds "$SPAWNED" || fail "helper process: $*"
}

start_hold hold "$A/child/fs/held"
busy_commit "commit while a file is open for writing"
unspawn "$SPAWNED"

mkdir "$BASE/target"
mount --bind "$A/child/fs" "$BASE/target"
start_hold hold "$BASE/target/held"
busy_commit "commit while a file is open through a bind mount"
unspawn "$SPAWNED"
umount "$BASE/target"

# In a namespace of its own, and there under another path
# shellcheck disable=SC2016
spawn unshare -m sh -c 'mount --bind "$0" "$1" && umount -l "$2" && exec sleep 1000 3>>"$1/held"' \
    "$A/child/fs" "$BASE/target" "$MNT"
wait_until 30 holds "$SPAWNED" || fail "helper process in a namespace"
busy_commit "commit while a file is open in another mount namespace"
unspawn "$SPAWNED"

start_hold hold_cwd "$A/child/fs"
refused "removal while somebody's folder is inside" EBUSY "$REMOVE" active/child "$SPAWNED.*sleep|sleep.*$SPAWNED" rmdir "$A/child"
unspawn "$SPAWNED"
start_hold hold_read "$A/child/fs/file"
refused "removal while a file is open" EBUSY "$REMOVE" active/child "$SPAWNED.*sleep|sleep.*$SPAWNED" rmdir "$A/child"
unspawn "$SPAWNED"
start_hold hold_cwd "$V/view/fs"
refused "removal of a view in use" EBUSY "$REMOVE" views/view "$SPAWNED.*sleep|sleep.*$SPAWNED" rmdir "$V/view"
unspawn "$SPAWNED"
mkdir "$A/leaf@base"
mv "$A/leaf" "$S/leaf"
BEFORE=$(state)
start_hold hold_read "$S/leaf/fs/file"
refused "removal of a snapshot in use" EBUSY "$REMOVE" snapshots/leaf "$SPAWNED.*sleep|sleep.*$SPAWNED" rmdir "$S/leaf"
unspawn "$SPAWNED"

# Reading does not stand in the way of a commit, and goes on after it
start_hold hold_cwd "$A/child/fs"
exec 8<"$A/child/fs/file"
works "commit while files are open for reading" rename "$A/child" "$S/child"
is "the reader goes on" "$(cat <&8)" one
exec 8<&-
fails "somebody inside can no longer write" EROFS create "/proc/$SPAWNED/cwd/x"
unspawn "$SPAWNED"
works "what was busy can be removed: a view" rmdir "$V/view"
works "what was busy can be removed: a snapshot" rmdir "$S/leaf"
works "a parent can be removed when its child is gone" rmdir "$S/child"
works "and so on" rmdir "$S/mid"
works "down to the base" rmdir "$S/base"

# ---- the log itself
ok "the log is in order of time" sh -c "cut -d' ' -f1 '$MNT/log' | sort -c"
is "every line of the log has the form" \
    "$(grep -cvE '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]+)?(Z|[+-][0-9:]{5}) .+ E[A-Z0-9]+:? .+' "$MNT/log")" 0

# ---- EMLINK: a chain as long as the kernel takes, and one more
stop_program
new_mount durability=none
A=$MNT/active S=$MNT/snapshots
mkdir "$A/c1"
echo base >"$A/c1/fs/file"
mv "$A/c1" "$S/c1"
depth=1 got=ok
while [ "$depth" -lt 700 ]; do
    got=$(errno mkdir "$A/c$((depth + 1))@c$depth")
    [ "$got" = ok ] || break
    depth=$((depth + 1))
    mv "$A/c$depth" "$S/c$depth" || break
done
is "a chain too long for the kernel" "$got" EMLINK
logged "a chain too long: in the log" "$PREPARE" "active/c$((depth + 1))" EMLINK
diag "the longest chain: $depth"
ok "the longest chain is of a useful length" test "$depth" -ge 100
is "the longest chain can be read" "$(t cat "$S/c$depth/fs/file")" base
fails "nothing is left of the failed one" ENOENT stat "$A/c$((depth + 1))"
works "another view of the longest" mkdir "$MNT/views/v@c$((depth - 1))"
is "which can be read" "$(t cat "$MNT/views/v/fs/file")" base
done_testing
