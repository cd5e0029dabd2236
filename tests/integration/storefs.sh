#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The file system that a store lies on: what can't carry overlays is told at the start, with what it lacks; and a full,
# an inode-less and a read-only one give clear errors, lose nothing, and all works again when there is space.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

new_base
DISKS=$BASE/disks
mkdir "$DISKS"

# disk NAME MIB MKFS…: a file system of that size on $DISKS/NAME
disk() {
    local name=$1 mib=$2
    shift 2
    mkdir "$DISKS/$name"
    truncate -s "${mib}M" "$DISKS/$name.img"
    "$@" "$DISKS/$name.img" >/dev/null 2>&1 || bail "$* fails"
    mount -o loop "$DISKS/$name.img" "$DISKS/$name" || bail "no loop mount of $name"
}

# refused DESC STORE ERE [COMMAND…]: a start, by that command, is refused with one line that matches
refused() {
    local status=0 said
    said=$(timeout -k 5 60 "${@:4}" "$STRATAFS" "$2" "$MNT" 2>&1) || status=$?
    isnt "$1: refused" "$status" 0
    like "$1: with the reason" "$said" "$3"
    is "$1: in one line" "$(wc -l <<<"$said")" 1
    nok "$1: nothing is mounted" mountpoint -q "$MNT"
}

# ---- what can't carry a store --------------------------------------------

mkdir "$BASE/l" "$BASE/u" "$BASE/w" "$BASE/o"
mount -t overlay -o "lowerdir=$BASE/l,upperdir=$BASE/u,workdir=$BASE/w" o "$BASE/o"
refused "an overlay" "$BASE/o/store" "overlay itself"
umount "$BASE/o"
mkdir "$BASE/plain" "$BASE/bind"
bindfs "$BASE/plain" "$BASE/bind"
refused "a FUSE file system" "$BASE/bind/store" "FUSE"
umount "$BASE/bind"
disk untyped 16 mkfs.ext4 -q -O ^filetype
refused "one whose directories tell no types" "$DISKS/untyped/store" "d_type"
umount "$DISKS/untyped"
mkdir "$DISKS/ram"
mount -t ramfs ram "$DISKS/ram"
refused "one without extended attributes" "$DISKS/ram/store" "extended attributes trusted"
umount "$DISKS/ram"
disk ro 16 mkfs.ext4 -q
mount -o remount,ro "$DISKS/ro"
refused "a read-only one" "$DISKS/ro/store" "Read-only"
umount "$DISKS/ro"
# What no file system at hand is like: the kernel's answers there, given by strace.
as_if=(env "ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0" strace -f -qq -o /dev/null) # leaks can't be looked for under it
refused "one without device nodes" "$BASE/nodes" "no device nodes, for whiteouts" \
    "${as_if[@]}" -e inject=mknodat:error=EPERM
refused "NFS" "$BASE/nfs" "it is NFS" \
    "${as_if[@]}" -e inject=fsconfig:error=EINVAL:when=4 -e inject=fstatfs:poke_exit=@arg2=6969000000000000

# ---- a full disk ---------------------------------------------------------

for fs in ext4 xfs btrfs; do
    case $fs in
    ext4) disk ext4 64 mkfs.ext4 -q ;;
    xfs) disk xfs 320 mkfs.xfs -q ;;
    btrfs) disk btrfs 128 mkfs.btrfs -q ;;
    esac
    STORE=$DISKS/$fs/store
    start_program ''
    ballast=$DISKS/$fs/ballast
    snapshot base
    snapshot over base
    prepare work base
    prepare spare base
    echo before >"$MNT/active/work/fs/kept"
    sync -f "$DISKS/$fs"
    before=$(state)

    # all there is, and then the last blocks
    dd if=/dev/zero of="$ballast" bs=1M status=none 2>/dev/null
    dd if=/dev/zero of="$ballast.2" bs=4k oflag=sync status=none 2>/dev/null
    n=0 got=ok
    while [ "$got" = ok ] && [ "$n" -lt 3000 ]; do
        n=$((n + 1))
        got=$(errno mkdir "$MNT/active/fill$n@base")
    done
    is "$fs, full: prepare" "$got" ENOSPC
    logged "$fs, full: prepare is logged" mkdir "active/fill$n@base" ENOSPC
    nok "$fs, full: what was not made is not there" test -e "$MNT/active/fill$n"
    status=$(errno write "$MNT/active/work/fs/kept" "$(head -c 100000 /dev/zero | tr '\0' x)")
    like "$fs, full: writing below fs/" "$status" '^(ENOSPC|EIO|ok)$' # EIO: a short write
    got=ok m=0
    while [ "$got" = ok ] && [ "$m" -lt 2000 ]; do
        m=$((m + 1))
        got=$(errno rewrite "$MNT/active/work/labels/l$m" "$(head -c 60000 /dev/zero | tr '\0' x)")
    done
    is "$fs, full: a label" "$got" ENOSPC
    got=$(errno rename "$MNT/active/work" "$MNT/snapshots/work")
    like "$fs, full: a commit is whole or not at all" "$got" '^(ENOSPC|ok)$'
    if [ "$got" = ok ]; then
        ok "$fs, full: it is committed" test -e "$MNT/snapshots/work/info"
    else
        ok "$fs, full: it is still active" test -e "$MNT/active/work/info"
    fi
    ok "$fs, full: the old files are there" test "$(t cat "$MNT/snapshots/base/fs/f")" = base
    like "$fs, full: changes" "$(t cat "$MNT/snapshots/over/changes")" of-over
    like "$fs, full: a layer" "$(t tar -tf "$MNT/snapshots/over/layer.tar")" of-over
    restart
    ok "$fs, full: it starts, and shows what is there" test "$(t cat "$MNT/snapshots/base/fs/f")" = base
    ok "$fs, full: a removal works" t rmdir "$MNT/active/spare"

    rm -f "$ballast" "$ballast.2"
    for entry in "$MNT"/active/fill*; do [ ! -e "$entry" ] || t rmdir "$entry" || diag "can't remove $entry"; done
    for i in $(seq "$m"); do rm -f "$MNT"/*/work/labels/"l$i"; done
    ok "$fs, space again: removed layers free theirs" wait_until 60 settled
    [ ! -e "$MNT/snapshots/work" ] || t mv "$MNT/snapshots/work" "$MNT/snapshots/was-work"
    [ ! -e "$MNT/active/work" ] || ok "$fs, space again: commit" commit work was-work
    ok "$fs, space again: prepare" prepare again was-work
    ok "$fs, space again: what was written before is there" test -s "$MNT/active/again/fs/kept"
    ok "$fs, space again: a label" t sh -c "echo v >'$MNT/active/again/labels/l'"
    ok "$fs, space again: commit" commit again
    restart
    ok "$fs: after a new start all is there" test -s "$MNT/snapshots/again/fs/kept"
    like "$fs: the tree as well" "$(t cat "$MNT/tree")" $'^base\n  over\n  was-work\n    again$'

    # ---- read-only underneath
    prepare late base
    snapshot upper base
    sync -f "$DISKS/$fs"
    if ok "$fs: it is made read-only underneath" mount -o remount,ro "$DISKS/$fs"; then
        before=$(state)
        for op in "mkdir $MNT/active/new" "rmdir $MNT/active/late" "rename $MNT/active/late $MNT/active/later"; do
            # shellcheck disable=SC2086
            is "$fs, read-only: ${op%% *}" "$(errno $op)" EROFS
        done
        is "$fs, read-only: commit" "$(errno rename "$MNT/active/late" "$MNT/snapshots/late")" EROFS
        is "$fs, read-only: a label" "$(errno rewrite "$MNT/active/late/labels/k" v)" EROFS
        is "$fs, read-only: nothing has changed" "$(state)" "$before"
        ok "$fs, read-only: files can be read" t cat "$MNT/snapshots/base/fs/f"
        like "$fs, read-only: changes" "$(t cat "$MNT/snapshots/upper/changes")" of-upper
        like "$fs, read-only: a layer" "$(t tar -tf "$MNT/snapshots/upper/layer.tar")" of-upper
        if [ "$(worker)" != "$PID" ]; then
            ok "$fs, read-only: a worker that dies is replaced" kill_worker
            is "$fs, read-only: after that files can be read" "$(t cat "$MNT/snapshots/base/fs/f")" base
            is "$fs, read-only: and verbs get the errno" "$(errno mkdir "$MNT/active/new")" EROFS
            ok "$fs, read-only: an upgrade" "$STRATAFS" --upgrade "$MNT"
            is "$fs, read-only: the same after that" "$(t cat "$MNT/snapshots/base/fs/f")" base
            is "$fs, read-only: and nothing has changed since" "$(state)" "$before"
        fi
        mount -o remount,rw "$DISKS/$fs"
        ok "$fs, writable again: commit" commit late
    fi
    stop_program
    umount "$DISKS/$fs"
done

# ---- read-only by itself, after a fault ----------------------------------

disk faulty 64 mkfs.ext4 -q -e remount-ro
fault=/sys/fs/ext4/$(basename "$(findmnt -no SOURCE "$DISKS/faulty")")/trigger_fs_error
if [ -w "$fault" ]; then
    STORE=$DISKS/faulty/store
    start_program ''
    snapshot base
    is "a faulty disk: files are read" "$(t cat "$MNT/snapshots/base/fs/f")" base
    echo test >"$fault"
    is "a faulty disk: a verb" "$(errno mkdir "$MNT/active/new")" EROFS
    [ "$(worker)" = "$PID" ] || ok "a faulty disk: a worker that dies is replaced" kill_worker
    is "a faulty disk: readers go on" "$(t cat "$MNT/snapshots/base/fs/f")" base
    is "a faulty disk: a verb after that" "$(errno mkdir "$MNT/active/new")" EROFS
    stop_program
else
    diag "no $fault: nothing to make a disk faulty"
fi
umount "$DISKS/faulty"

# ---- no inodes -----------------------------------------------------------

disk inodes 32 mkfs.ext4 -q -N 400
STORE=$DISKS/inodes/store
start_program ''
touch "$DISKS/inodes"/filler{1..9}
n=0 got=ok
while [ "$got" = ok ] && [ "$n" -lt 1000 ]; do
    n=$((n + 1))
    got=$(errno mkdir "$MNT/active/e$n")
done
is "no inodes: prepare" "$got" ENOSPC
nok "no inodes: nothing half is there" test -e "$MNT/active/e$n"
for left in {0..9}; do # one more each time, so that the trial of a start ends at each of its steps
    rm -f "$DISKS/inodes/filler$left" # there is no filler0
    restart
    ok "no inodes but $left: it starts" test -e "$MNT/active/e1/info"
done
ok "no inodes: a removal works" t rmdir "$MNT/active/e1"
ok "no inodes: another" t rmdir "$MNT/active/e2"
free_again() { [ "$(errno mkdir "$MNT/active/more")" = ok ]; }
ok "no inodes: then there is room again" wait_until 30 free_again
stop_program
umount "$DISKS/inodes"
done_testing
