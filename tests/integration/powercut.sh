#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Power cuts, on ext4, xfs and btrfs: while snapshots are made, committed, renamed and labelled, the disk is taken as it is, in one
# instant (a clone of the image) or by the file system's own shutdown, which forgets all that was not synced. Mounted again, every
# snapshot whose mv had returned is there with every byte, its label too; everything else is active or absent, never half.
# An active snapshot that was mounted volatile is suspect then.
# CUTS=N: so many over the three of them.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"
: "${CUTS:=10}"

new_base
DISK=$BASE/disk TRIED=$BASE/tried DONE=$BASE/done COUNT=0
mkdir "$DISK" "$BASE/clones"
# Only a file system with reflinks gives a copy of one instant
truncate -s 6G "$BASE/clones.img"
mkfs.xfs -q -m reflink=1 "$BASE/clones.img" || bail "no mkfs.xfs"
mount -o loop "$BASE/clones.img" "$BASE/clones" || bail "no loop mounts here"
trap 'end_load; cleanup_disks; cleanup' EXIT

cleanup_disks() {
    umount -R "$MNT" 2>/dev/null
    [ -z "$PID" ] || reap "$PID"
    umount "$DISK" 2>/dev/null || umount -l "$DISK" 2>/dev/null
    umount "$BASE/clones" 2>/dev/null || umount -l "$BASE/clones" 2>/dev/null
}

# What a client does: it notes what is to come before each mv, and what is promised after it
load() {
    local i=$1 sum w=$2
    while :; do
        i=$((i + 1))
        mkdir "$MNT/active/$w.$i@base" || return
        head -c $((RANDOM * 3)) /dev/urandom >"$MNT/active/$w.$i/fs/big"
        mkdir "$MNT/active/$w.$i/fs/d"
        for f in 1 2 3 4 5; do echo "$w.$i $f" >"$MNT/active/$w.$i/fs/d/$f"; done
        ln "$MNT/active/$w.$i/fs/d/1" "$MNT/active/$w.$i/fs/hard"
        sum=$(cd "$MNT/active/$w.$i/fs" && sha256sum big d/* hard | sha256sum | cut -c 1-64) || return
        echo "$w.$i $sum" >>"$TRIED"
        [ "$("$HELPERS/syscall" rename "$MNT/active/$w.$i" "$MNT/snapshots/$w.$i")" = ok ] || return
        echo "$w.$i $sum -" >>"$DONE"
        case $((i % 3)) in
        0) [ "$("$HELPERS/syscall" rename "$MNT/snapshots/$w.$i" "$MNT/snapshots/r$w.$i")" = ok ] || return ;;
        1) [ "$("$HELPERS/syscall" rewrite "$MNT/snapshots/$w.$i/labels/l" "of $w.$i")" = ok ] && echo "$w.$i $sum label" >>"$DONE" ;;
        2) mkdir "$MNT/active/x$w.$i@$w.$i" && rmdir "$MNT/active/x$w.$i" ;;
        esac
    done
}

LOADS=()
begin_load() {
    touch "$TRIED" "$DONE"
    FIRST=$((FIRST + 100000))
    load $FIRST a >/dev/null 2>&1 &
    LOADS=("$!")
    load $FIRST b >/dev/null 2>&1 &
    LOADS+=("$!")
}
end_load() {
    local pid
    for pid in "${LOADS[@]}"; do
        kill "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    LOADS=()
}
FIRST=0

# check_cut DESC DONE: the store as the cut left it, with what had been promised until then
check_cut() {
    local desc=$1 promised=$2 name sum label layer wrong=0 entry
    start_program ''
    while read -r name sum label; do
        layer=
        for entry in "$name" "r$name"; do
            [ ! -L "$STORE/snapshots/$entry" ] || layer=$layer$STORE/snapshots/$entry/
        done
        if [ "$layer" = "$STORE/snapshots/$name/$STORE/snapshots/r$name/" ]; then
            wait_until 20 test ! -L "$STORE/snapshots/$name" -o ! -L "$STORE/snapshots/r$name"
            layer=$STORE/snapshots/r$name/
            [ -L "${layer%/}" ] || layer=$STORE/snapshots/$name/
        fi
        if [ -z "$layer" ]; then
            wrong=$((wrong + 1))
            diag "$desc: $name is lost"
        elif [ "$( (cd "$layer/fs" && sha256sum big d/* hard) 2>&1 | sha256sum | cut -c 1-64)" != "$sum" ]; then
            wrong=$((wrong + 1))
            diag "$desc: $name has other bytes"
        elif [ "$label" = label ] && [ "$(head -n 1 "$layer/labels/l" 2>&1)" != "of $name" ]; then
            wrong=$((wrong + 1))
            diag "$desc: the label of $name is lost"
        fi
    done <"$promised"
    for entry in "$STORE"/snapshots/*; do
        name=${entry##*/}
        [ "$name" != base ] || continue
        sum=$( (cd "$entry/fs" && sha256sum big d/* hard) 2>&1 | sha256sum | cut -c 1-64)
        if ! grep -q -x -F "${name#r} $sum" "$TRIED"; then
            wrong=$((wrong + 1))
            diag "$desc: $name is half"
        fi
    done
    for entry in "$MNT"/active/* "$MNT"/snapshots/base; do
        [ -e "$entry" ] || continue
        t ls "$entry/fs" >/dev/null || { wrong=$((wrong + 1)) && diag "$desc: ${entry#"$MNT"/} can't be entered"; }
    done
    is "$desc: $(wc -l <"$promised") promises kept, nothing half" "$wrong" 0
    wait_until 30 settled || diag "$desc: $(leftovers)"
    ok "$desc: the store is in order after one start" "$STRATAFS" --check "$STORE"
    COUNT=$((COUNT + 1))
}

in_store() { STORE=$DISK/store; }
pause() { sleep "0.$((RANDOM % 6 + 2))"; }

cut_power() { # FS
    xfs_io -x -c shutdown "$DISK"
    kill_program
    wait_until 30 umount "$DISK" 2>/dev/null || bail "the disk stays in use"
    mount -o loop "$IMAGE" "$DISK" || bail "can't mount $1 again"
}

by_shutdown() { # FS
    in_store
    start_program ''
    begin_load
    pause
    xfs_io -x -c shutdown "$DISK"
    cp "$DONE" "$BASE/promised.now" # an mv that returned before the cut may not be noted yet, never the other way round
    end_load
    kill_program
    wait_until 30 umount "$DISK" 2>/dev/null || bail "the disk stays in use"
    mount -o loop "$IMAGE" "$DISK" || bail "can't mount $1 again"
    check_cut "$1, shutdown $COUNT" "$BASE/promised.now"
    stop_program
}

clones() { # FS COUNT
    local n
    in_store
    start_program ''
    begin_load
    for n in $(seq "$2"); do
        pause
        cp "$DONE" "$BASE/promised.$n"
        cp --reflink=always "$IMAGE" "$BASE/clones/$n.img"
    done
    end_load
    kill_program
    wait_until 30 umount "$DISK" 2>/dev/null || bail "the disk stays in use"
    for n in $(seq "$2"); do
        mount -o loop "$BASE/clones/$n.img" "$DISK" || bail "can't mount the clone of $1"
        check_cut "$1, clone $n" "$BASE/promised.$n"
        stop_program
        wait_until 30 umount "$DISK" 2>/dev/null || bail "the disk stays in use"
        rm "$BASE/clones/$n.img"
    done
}

# Anybody's fsync, which brings what the journal has: names that have changed, and not what the files of these names hold
neighbour() {
    rm -f "$DISK/neighbour"
    dd if=/dev/zero of="$DISK/neighbour" bs=4096 count=1 conv=fsync status=none
}

# The neighbour's fsync brings what the file system's journal has to the disk, and no contents that are not written yet: so
# the active snapshot's file is there, without what was in it.
volatile_shutdown() { # FS
    in_store
    start_program volatile
    prepare volatile base
    echo data >"$MNT/active/volatile/fs/file"
    neighbour
    cut_power "$1"
    is "$1: the file of a volatile snapshot is there" "$(find "$STORE"/layers/*/fs/file | wc -l)" 1
    nok "$1: but empty" grep -q data "$STORE"/layers/*/fs/file
    echo 01234567-89ab-cdef-0123-456789abcdef >"$BASE/boot_id"
    mount --bind "$BASE/boot_id" /proc/sys/kernel/random/boot_id || bail "no other boot ID to be had"
    start_program ''
    # mkdir does not sync: where its record was cut off, the sweep that goes on beside the first answers makes it anew
    ok "$1: its record is there, or made anew" wait_until 30 cat "$MNT/active/volatile/info"
    is "$1: so it is suspect after that boot" "$(t tail -n 1 "$MNT/active/volatile/info")" "state: suspect" || diag "$(cat "$MNT/log"; ls -l "$STORE" "$STORE"/layers/*; head -n 20 "$STORE"/layers/*/meta)"
    rmdir "$MNT/active/volatile"
    stop_program
    umount /proc/sys/kernel/random/boot_id
}

# quiet CMD…: all is synced, CMD is the only thing that happens, and the power goes at the moment it returns: beside a load the
# sync that one operation lacks is mostly made by another's
quiet() {
    sync -f "$DISK"
    is "$QUIET_FS, quiet: ${*//"$MNT/"/}" "$("$HELPERS/syscall" "$@")" ok
    cut_power "$QUIET_FS"
    start_program ''
}

quiet_shutdowns() { # FS
    local QUIET_FS=$1
    in_store
    start_program ''
    prepare quiet base
    sync -f "$DISK" # so that nothing but the commit is to bring the contents, and their folder, to the disk
    mkdir "$MNT/active/quiet/fs/dir"
    echo data >"$MNT/active/quiet/fs/dir/file"
    fallocate -l 100000 "$MNT/active/quiet/fs/grown"
    is "$1, quiet: a commit" "$("$HELPERS/syscall" rename "$MNT/active/quiet" "$MNT/snapshots/quiet")" ok
    cut_power "$1"
    start_program ''
    is "$1, quiet: it is there with what was written" "$(t cat "$MNT/snapshots/quiet/fs/dir/file")" data
    is "$1, quiet: and with what was not" "$(t stat -c %s "$MNT/snapshots/quiet/fs/grown")" 100000
    nok "$1, quiet: it is not active any more" test -e "$MNT/active/quiet"
    quiet rewrite "$MNT/snapshots/quiet/labels/new" value
    is "$1, quiet: a new label is there" "$(t cat "$MNT/snapshots/quiet/labels/new")" value
    quiet rewrite "$MNT/snapshots/quiet/labels/new" other
    is "$1, quiet: and its new value" "$(t cat "$MNT/snapshots/quiet/labels/new")" other
    quiet rename "$MNT/snapshots/quiet" "$MNT/snapshots/renamed"
    is "$1, quiet: the new name" "$(t cat "$MNT/snapshots/renamed/labels/new")" other
    nok "$1, quiet: not the old one" test -e "$MNT/snapshots/quiet"
    snapshot other base
    quiet exchange "$MNT/snapshots/renamed" "$MNT/snapshots/other"
    is "$1, quiet: each has the other's name" "$(t cat "$MNT/snapshots/other/labels/new" "$MNT/snapshots/renamed/fs/of-other")" $'other\nother'
    quiet exchange "$MNT/snapshots/renamed" "$MNT/snapshots/other"
    quiet unlink "$MNT/snapshots/renamed/labels/new"
    nok "$1, quiet: a label that was removed is gone" test -e "$MNT/snapshots/renamed/labels/new"
    works "$1, quiet: the snapshot goes" rmdir "$MNT/snapshots/renamed"
    works "$1, quiet: and the other one" rmdir "$MNT/snapshots/other"
    stop_program
}

mended() { t grep -q 'one of the two copies in this record is damaged (mended)' "$MNT/log"; }

# A start that finds the mark of a clean end looks at nothing: what was prepared before it is there
after_a_clean_end() { # FS
    in_store
    start_program ''
    prepare late base
    t mkdir "$MNT/views/look@base"
    works "$1: a label" rewrite "$MNT/active/late/labels/key" value
    stop_program
    neighbour
    xfs_io -x -c shutdown "$DISK"
    wait_until 30 umount "$DISK" 2>/dev/null || bail "the disk stays in use"
    mount -o loop "$IMAGE" "$DISK" || bail "can't mount $1 again"
    ok "$1: after a clean end the store is clean" test -e "$STORE/clean"
    ok "$1: and in order" "$STRATAFS" --check "$STORE"
    start_program ''
    is "$1: what was prepared last is there" "$(t cat "$MNT/active/late/fs/f" "$MNT/views/look/fs/f" "$MNT/active/late/labels/key")" $'base\nbase\nvalue'
    works "$1: it goes" rmdir "$MNT/active/late"
    works "$1: and the view" rmdir "$MNT/views/look"
    stop_program
}

# What takes the place of a record, or of a label, that was on the disk for long, is there as well, whatever durability says
replacements() { # FS
    local id
    in_store
    start_program ''
    snapshot old base
    snapshot child old
    snapshot other base
    echo former >"$MNT/snapshots/old/labels/key"
    echo former >"$MNT/snapshots/old/labels/named"
    id=$(field id "$MNT/snapshots/old/info")
    stop_program
    printf S | dd of="$STORE/layers/$id/meta" conv=notrunc status=none
    rm "$STORE/clean"
    sync -f "$DISK"
    start_program ''
    ok "$1: a record is mended" wait_until 30 mended
    neighbour
    cut_power "$1"
    start_program ''
    is "$1: and on the disk" "$(t cat "$MNT/snapshots/old/fs/of-old" "$MNT/snapshots/child/fs/of-old")" $'old\nold'
    restart durability=none
    sync -f "$DISK"
    works "$1, without durability: renamed" rename "$MNT/snapshots/old" "$MNT/snapshots/new"
    works "$1, without durability: exchanged" exchange "$MNT/snapshots/child" "$MNT/snapshots/other"
    works "$1, without durability: labelled" rewrite "$MNT/snapshots/new/labels/key" latter
    works "$1, without durability: a label takes another's name" rewrite "$MNT/snapshots/new/labels/fresh" latter
    works "$1, without durability: that is" rename "$MNT/snapshots/new/labels/fresh" "$MNT/snapshots/new/labels/named"
    neighbour
    cut_power "$1"
    start_program durability=none
    is "$1, without durability: its record is there" "$(t cat "$MNT/snapshots/new/fs/of-old" "$MNT/snapshots/other/fs/of-old")" $'old\nold'
    is "$1, without durability: and the exchanged one's" "$(t cat "$MNT/snapshots/child/fs/of-other")" other
    like "$1, without durability: and a value of the label" "$(t cat "$MNT/snapshots/new/labels/key")" '^(former|latter)$'
    like "$1, without durability: and of the other" "$(t cat "$MNT/snapshots/new/labels/named")" '^(former|latter)$'
    works "$1: the one on top goes" rmdir "$MNT/snapshots/other"
    works "$1: and the other" rmdir "$MNT/snapshots/child"
    works "$1: and the one below" rmdir "$MNT/snapshots/new"
    stop_program
}

# The last sync of a commit brings the new link and nothing else of the step to this disk. The many entries keep the sweep from
# coming to that layer before the first look at it.
right_after_a_commit() {
    local i
    umount "$DISK" 2>/dev/null
    truncate -s 1G "$IMAGE"
    mkfs.btrfs -q -f "$IMAGE" >/dev/null 2>&1
    mount -o loop "$IMAGE" "$DISK" || bail "can't mount another image"
    in_store
    start_program ''
    for i in $(seq 50); do mkdir "$MNT"/active/{a,b,c,d,e,f,g,h}"$i".{1..10}; done
    prepare pay
    echo v1 >"$MNT/active/pay/fs/state"
    "$HELPERS/syscall" rename "$MNT/active/pay" "$MNT/snapshots/pay" >"$BASE/got" && cp --reflink=always "$IMAGE" "$BASE/clones/cut.img"
    is "btrfs, at once: a commit" "$(cat "$BASE/got")" ok
    kill_program
    wait_until 30 umount "$DISK" 2>/dev/null || bail "the disk stays in use"
    mount -o loop "$BASE/clones/cut.img" "$DISK" || bail "can't mount the clone"
    ok "btrfs, at once: both links are there" test -L "$STORE/active/pay" -a -L "$STORE/snapshots/pay"
    start_program ''
    is "btrfs, at once: the old name is nothing's" "$(errno rmdir "$MNT/active/pay")" ENOENT
    is "btrfs, at once: the new one has it" "$(t cat "$MNT/snapshots/pay/fs/state")" v1
    ok "btrfs, at once: the sweep removes the old one" wait_until 60 test ! -L "$STORE/active/pay"
    is "btrfs, at once: and nothing else" "$(t cat "$MNT/snapshots/pay/fs/state")" v1
    is "btrfs, at once: it can't be written" "$(errno create "$MNT/snapshots/pay/fs/new")" EROFS
    stop_program
    umount "$DISK"
}

for fs in ext4 xfs btrfs; do
    IMAGE=$BASE/clones/$fs.img
    case $fs in
    ext4) truncate -s 1G "$IMAGE" && mkfs.ext4 -q "$IMAGE" ;;
    xfs) truncate -s 1G "$IMAGE" && mkfs.xfs -q "$IMAGE" ;;
    btrfs) truncate -s 1G "$IMAGE" && mkfs.btrfs -q "$IMAGE" 2>/dev/null ;;
    esac || bail "no mkfs.$fs"
    mount -o loop "$IMAGE" "$DISK" || bail "can't mount $fs"
    : >"$TRIED"
    : >"$DONE"
    in_store
    start_program ''
    snapshot base
    stop_program
    if [ "$fs" != btrfs ]; then # it has no shutdown
        quiet_shutdowns "$fs"
        volatile_shutdown "$fs"
        after_a_clean_end "$fs"
        replacements "$fs"
    fi
    share=$(((CUTS + 2) / 3))
    if [ "$fs" = btrfs ]; then
        share=$((CUTS - COUNT))
    else
        for _ in $(seq $((share / 2))); do by_shutdown "$fs"; done
        share=$((share - share / 2))
    fi
    while [ "$share" -gt 0 ]; do
        some=$((share < 5 ? share : 5))
        clones "$fs" "$some"
        share=$((share - some))
        [ "$share" = 0 ] || mount -o loop "$IMAGE" "$DISK" || bail "can't mount $fs again"
    done
    [ "$fs" != btrfs ] || right_after_a_commit
    rm "$IMAGE"
done
umount "$BASE/clones"
is "$COUNT power cuts" "$COUNT" "$CUTS"
done_testing
