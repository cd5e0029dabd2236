#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Commit is one step that freezes every way to write: EBUSY while anything is open for writing, read-only for all after.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

new_mount
mkdir "$BASE/target"

# commit_fails DESC KEY: EBUSY, the log names the holder, nothing has changed
commit_fails() {
    local desc=$1 key=$2 before=$3 pid=${HOLD_PID[HOLD]}
    fails "$desc: EBUSY" EBUSY rename "$MNT/active/$key" "$MNT/snapshots/$key"
    logged "$desc: the log names process and command" 'commit|rename' "active/$key" EBUSY \
        "(^|[^0-9])${pid}[^0-9].*b_hold|b_hold.*[^0-9]${pid}([^0-9]|$)"
    is "$desc: entries are as before" "$(state)" "$before"
}

still_whole() {
    local desc=$1 key=$2
    is "$desc: contents are whole" "$(t cat "$MNT/active/$key/fs/keep")" "keep $key"
    works "$desc: still writable" create "$MNT/active/$key/fs/after"
    works "$desc: a file in it can be changed" append "$MNT/active/$key/fs/after" more
}

begin() {
    prepare "$1" "${2:-}"
    echo "keep $1" >"$MNT/active/$1/fs/keep"
    echo data >"$MNT/active/$1/fs/f"
}

# ---- a base, and what info says ------------------------------------------

begin base
mkdir "$MNT/active/base/fs/d"
head -c 100000 /dev/urandom >"$MNT/active/base/fs/big"
ln "$MNT/active/base/fs/big" "$MNT/active/base/fs/d/link"
chmod 0750 "$MNT/active/base/fs"
id=$(field id "$MNT/active/base/info")
created=$(field created "$MNT/active/base/info")
sum=$(digest "$MNT/active/base/fs")
is "info of an active one" "$(cut -d: -f1 "$MNT/active/base/info" | xargs)" "kind name parent id depth created updated"
works "a base is committed" rename "$MNT/active/base" "$MNT/snapshots/first"
fails "it is no longer active" ENOENT lstat "$MNT/active/base"
info=$MNT/snapshots/first/info
is "info has its keys in order" "$(cut -d: -f1 "$info" | xargs)" \
    "kind name parent id depth created updated committed size inodes"
is "kind" "$(field kind "$info")" committed
is "name" "$(field name "$info")" first
is "no parent" "$(field parent "$info")" ""
fails "nor a link to one" ENOENT lstat "$MNT/snapshots/first/parent"
is "the id stays" "$(field id "$info")" "$id"
is "depth" "$(field depth "$info")" 1
is "created stays" "$(field created "$info")" "$created"
time='^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z$'
like "committed is a time in UTC with nanoseconds" "$(field committed "$info")" "$time"
like "created as well" "$created" "$time"
ok "committed is not before created" test ! "$(field committed "$info")" \< "$created"
is "size and inodes are those of usage" "$(field size "$info") $(field inodes "$info")" "$(t cat "$MNT/snapshots/first/usage")"
is "inodes counts hard links once" "$(field inodes "$info")" 5
ok "size counts the allocated bytes" test "$(field size "$info")" -ge 100000
ok "and hard links once" test "$(field size "$info")" -lt 200000
is "the contents are what was written" "$(digest "$MNT/snapshots/first/fs")" "$sum"
is "the root keeps its mode" "$(stat -c %a "$MNT/snapshots/first/fs")" 750
is "mount is read-only now" "$(t cat "$MNT/snapshots/first/mount")" "-o rbind,ro $MNT/snapshots/first/fs"
unlike "overlay has no upper" "$(t cat "$MNT/snapshots/first/overlay")" 'upperdir|workdir'
for call in "create new" "mkdir new" "append f x" "unlink f" "chmod f 600" "setxattr f user.x"; do
    read -r op name args <<<"$call"
    # shellcheck disable=SC2086
    fails "nothing writes to it: $op" EROFS "$op" "$MNT/snapshots/first/fs/$name" $args
done

# ---- never touched, and same name ----------------------------------------

prepare never
works "a base never touched is committed" rename "$MNT/active/never" "$MNT/snapshots/never"
is "and is empty" "$(ls -A "$MNT/snapshots/never/fs")" ""
prepare never-child first
ok "mv into the folder commits under the same name" t mv "$MNT/active/never-child" "$MNT/snapshots/"
is "a child never touched shows what its parent shows" "$(digest "$MNT/snapshots/never-child/fs")" "$sum"
is "its parent" "$(field parent "$MNT/snapshots/never-child/info") $(readlink "$MNT/snapshots/never-child/parent")" \
    "first ../../snapshots/first"
is "its depth" "$(field depth "$MNT/snapshots/never-child/info")" 2
prepare looked first
t ls "$MNT/active/looked/fs" >/dev/null
works "one only looked at is committed" rename "$MNT/active/looked" "$MNT/snapshots/looked"
is "its layer holds nothing" "$(find -L "$STORE/snapshots/looked/fs" -mindepth 1)" ""

# ---- busy ----------------------------------------------------------------

for kind in write mapped unlinked; do
    begin "$kind" first
    before=$(state)
    hold "$kind" "$MNT/active/$kind/fs/new"
    commit_fails "$kind" "$kind" "$before"
    is "$kind: the holder goes on" "$(attempt "$HOLD")" ok
    still_whole "$kind" "$kind"
    commit_fails "$kind, a second time" "$kind" "$before"
    release "$HOLD"
    works "$kind: committed when it is closed" rename "$MNT/active/$kind" "$MNT/snapshots/$kind"
done

begin copied first
before=$(state)
hold write "$MNT/active/copied/fs/big"
commit_fails "a file of the parent, copied up" copied "$before"
is "the holder goes on" "$(attempt "$HOLD")" ok
release "$HOLD"
works "committed when it is closed" rename "$MNT/active/copied" "$MNT/snapshots/copied"
is "the parent's file is as it was" "$(digest "$MNT/snapshots/first/fs")" "$sum"

begin bound
before=$(state)
# shellcheck disable=SC2046
ok "a bind is made from what mount says" t mount $(cat "$MNT/active/bound/mount") "$BASE/target"
hold write "$BASE/target/f"
commit_fails "through a bind mount" bound "$before"
is "the holder goes on" "$(attempt "$HOLD")" ok
still_whole "through a bind mount" bound
release "$HOLD"
works "committed when it is closed, the bind mount aside" rename "$MNT/active/bound" "$MNT/snapshots/bound"
is "the bind mount still reads" "$(t cat "$BASE/target/keep")" "keep bound"
for call in "create new" "mkdir new" "append f x" "unlink f" "truncate f 0" "chmod f 600"; do
    read -r op name args <<<"$call"
    # shellcheck disable=SC2086
    fails "the bind mount is read-only: $op" EROFS "$op" "$BASE/target/$name" $args
done
t mount -o remount,bind,rw "$BASE/target" 2>/dev/null
fails "even when it is remounted read-write itself" EROFS create "$BASE/target/new"
t umount "$BASE/target"

begin spaced
before=$(state)
t ls "$MNT/active/spaced/fs" >/dev/null
hold write "$MNT/active/spaced/fs/f" unshare -m --propagation private
commit_fails "from another mount namespace" spaced "$before"
is "the holder goes on" "$(attempt "$HOLD")" ok
release "$HOLD"
# shellcheck disable=SC2016
hold write "$BASE/target/f" unshare -m --propagation private \
    bash -c 'mount --bind "$0" "$1" && shift && exec "$@"' "$MNT/active/spaced/fs" "$BASE/target"
commit_fails "through a bind mount that only another namespace has" spaced "$before"
still_whole "from another mount namespace" spaced
is "the holder goes on" "$(attempt "$HOLD")" ok
release "$HOLD"
t mount --bind "$MNT/active/spaced/fs" "$BASE/target"
hold write "$BASE/target/f"
t umount -l "$BASE/target"
commit_fails "through a bind mount that has been unmounted since" spaced "$before"
release "$HOLD"
works "committed when all are gone" rename "$MNT/active/spaced" "$MNT/snapshots/spaced"

# ---- readers do not block ------------------------------------------------

begin read first
mkdir "$MNT/active/read/fs/dir"
hold read "$MNT/active/read/fs/keep"
reader=$HOLD
hold cwd "$MNT/active/read/fs/dir"
cwd=$HOLD
is "before, the working directory is writable" "$(attempt "$cwd")" ok
hold cwd "$MNT/active/read/fs/dir" unshare -m --propagation private
far=$HOLD
is "that of another namespace as well" "$(attempt "$far")" ok
works "committed with readers and working directories inside" rename "$MNT/active/read" "$MNT/snapshots/read"
is "the reader reads on" "$(attempt "$reader")" ok
is "writing from the working directory: EROFS" "$(attempt "$cwd")" EROFS
is "from that of the other namespace: EROFS" "$(attempt "$far")" EROFS
is "the snapshot reads" "$(t cat "$MNT/snapshots/read/fs/keep")" "keep read"
release "$reader"
release "$cwd"
release "$far"

# What was deleted and is still open is an exception of the kernel's
begin deleted
hold read "$MNT/active/deleted/fs/keep"
works "a file that somebody reads is deleted" unlink "$MNT/active/deleted/fs/keep"
fails "its snapshot is not committed" EBUSY rename "$MNT/active/deleted" "$MNT/snapshots/deleted"
logged "with the reason" rename active/deleted EBUSY "something deleted below fs/ is still open: process ${HOLD_PID[HOLD]}"
works "and goes on" mkdir "$MNT/active/deleted/fs/more"
release "$HOLD"
works "committed when it is closed" rename "$MNT/active/deleted" "$MNT/snapshots/deleted"

# ---- a commit that fails late --------------------------------------------

begin late
t ls "$MNT/active/late/fs" >/dev/null
before=$(state)
for op in rename noreplace; do
    fails "a taken name, $op: EEXIST" EEXIST "$op" "$MNT/active/late" "$MNT/snapshots/first"
done
ok "mv onto a taken name fails" eval '! mv "$MNT/active/late" "$MNT/snapshots/first" 2>/dev/null'
is "entries are as before" "$(state)" "$before"
still_whole "after EEXIST" late
is "the snapshot of that name is as it was" "$(digest "$MNT/snapshots/first/fs")" "$sum"
works "under a free name it goes" rename "$MNT/active/late" "$MNT/snapshots/late"

# ---- removing what is in use ---------------------------------------------

# in_use DESC ENTRY KIND PATH
in_use() {
    local before
    before=$(state)
    hold "$3" "$4"
    fails "$1: EBUSY" EBUSY rmdir "$MNT/$2"
    logged "$1: the log names process and command" 'rmdir|remove|release|abandon|delete' "$2" EBUSY \
        "(^|[^0-9])${HOLD_PID[HOLD]}[^0-9].*b_hold|b_hold.*[^0-9]${HOLD_PID[HOLD]}([^0-9]|$)"
    is "$1: entries are as before" "$(state)" "$before"
    is "$1: the files are there" "$(t cat "$MNT/$2/fs/keep")" "keep $5"
    release "$HOLD"
}

begin gone
in_use "rmdir with a writer" active/gone write "$MNT/active/gone/fs/f" gone
in_use "rmdir with a reader" active/gone read "$MNT/active/gone/fs/f" gone
in_use "rmdir with a working directory inside" active/gone cwd "$MNT/active/gone/fs" gone
works "it is still writable" create "$MNT/active/gone/fs/new"
# A message that nobody has read holds a file open, and is nobody's: in_a_message PATH SECONDS
in_a_message() {
    exec python3 - "$1" "$2" "$BASE/passed" <<'END'
import os, socket, sys, time
a, b = socket.socketpair()
fd = os.open(sys.argv[1], os.O_RDWR)
socket.send_fds(a, [b"x"], [fd])
os.close(fd)
open(sys.argv[3], "w").close()
time.sleep(float(sys.argv[2]))
a.close()
b.close()
END
}
# beside SECONDS CMD…: CMD beside such a file
beside() {
    rm -f "$BASE/passed"
    spawn in_a_message "$MNT/active/gone/fs/keep" "$1"
    shift
    until [ -e "$BASE/passed" ]; do sleep 0.002; done
    t "$@"
}
short() {
    for _ in 1 2 3; do
        ! beside 0.1 "$HELPERS/syscall" "$@" || return 0
        wait "$SPAWNED"
    done
    return 1
}
nok "rmdir with what nobody is found to have" beside 60 rmdir "$MNT/active/gone"
logged "the log says so" rmdir active/gone EBUSY "in use: by the kernel"
nok "commit with it" t mv "$MNT/active/gone" "$MNT/snapshots/gone"
logged "the log says so" rename active/gone EBUSY "open for writing: by the kernel"
unspawn "$SPAWNED"
ok "what ends at once is waited for: commit" short rename "$MNT/active/gone" "$MNT/snapshots/gone"
works "prepare again" mkdir "$MNT/active/gone@gone"
ok "what ends at once is waited for: rmdir" short rmdir "$MNT/active/gone"
works "and its parent goes" rmdir "$MNT/snapshots/gone"

begin gone
t mount --bind "$MNT/active/gone/fs" "$BASE/target"
fails "rmdir with a bind mount of it elsewhere" EBUSY rmdir "$MNT/active/gone"
is "the files are there" "$(t cat "$MNT/active/gone/fs/keep")" "keep gone"
works "the bind mount is writable" create "$BASE/target/through"
t umount "$BASE/target"
works "given up, it is removed" rmdir "$MNT/active/gone"
fails "and gone" ENOENT lstat "$MNT/active/gone"
is "without a mount left" "$(mounts_at "$MNT/active/gone/fs")" 0
t mkdir "$MNT/views/look@late"
in_use "rmdir of a view with a reader" views/look read "$MNT/views/look/fs/f" late
in_use "rmdir of a view with a working directory inside" views/look cwd "$MNT/views/look/fs" late
works "given up, the view is removed" rmdir "$MNT/views/look"
in_use "rmdir of a snapshot with a reader" snapshots/late read "$MNT/snapshots/late/fs/f" late
in_use "rmdir of a snapshot with a working directory inside" snapshots/late cwd "$MNT/snapshots/late/fs" late
works "given up, the snapshot is removed" rmdir "$MNT/snapshots/late"

# Who is inside since before the commit reads layers that must not go
for how in read cwd; do
    prepare early first
    echo early >"$MNT/active/early/fs/f"
    inside=$MNT/active/early/fs
    [ "$how" = cwd ] || inside+=/f
    hold "$how" "$inside"
    works "commit with a $how inside" rename "$MNT/active/early" "$MNT/snapshots/early"
    fails "rmdir of a snapshot with a $how since before its commit" EBUSY rmdir "$MNT/snapshots/early"
    logged "the log says so" rmdir snapshots/early EBUSY 'before its commit'
    is "it is there" "$(t cat "$MNT/snapshots/early/fs/f")" early
    fails "rmdir of it while it is mounted as well" EBUSY rmdir "$MNT/snapshots/early"
    restart
    fails "rmdir of it after a restart" EBUSY rmdir "$MNT/snapshots/early"
    release "$HOLD"
    works "given up, it is removed, before its commit or not" rmdir "$MNT/snapshots/early"
done
prepare early first
ls "$MNT/active/early/fs" >"$OUT"
t mount --bind "$MNT/active/early/fs" "$BASE/target"
works "commit with a bind mount elsewhere" rename "$MNT/active/early" "$MNT/snapshots/early"
fails "rmdir of a snapshot that is bound elsewhere since before its commit" EBUSY rmdir "$MNT/snapshots/early"
logged "with the place where" rmdir snapshots/early EBUSY "from before its commit is still used by mounted on "
t umount "$BASE/target"
works "unbound, it is removed" rmdir "$MNT/snapshots/early"

# ---- all of it after a restart -------------------------------------------

before=$(state)
restart
is "entries are the same after a restart" "$(state)" "$before"
is "the first snapshot too" "$(digest "$MNT/snapshots/first/fs")" "$sum"
ok "nothing is left over in the store" wait_until 100 settled

done_testing
