#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Folders above the mount point are renamed, and something else is put in their place: the mount goes on where it is now, and
# nothing of a snapshot ever appears, is frozen or unmounted anywhere else.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

# Everything in a file system whose inode numbers come one after the other
new_base
mkdir "$BASE/tmp"
mount -t tmpfs -o size=64m tmp "$BASE/tmp" || bail "no tmpfs"
T=$BASE/tmp
mkdir -p "$T/p/mnt"
MNT=$T/p/mnt
start_program

# away: the folder above the mount point has another name; $AWAY is the mount then
AWAY=$T/away/mnt
away() { mv "$T/p" "$T/away"; }
back() { mv "$T/away" "$T/p"; }

# with_number N DIR: makes DIR, with inode number N, if that is still to come
with_number() {
    mkdir "$T/burnt" || return 1
    seq "$(($(stat -c %i "$T/burnt") + 1))" "$1" | (cd "$T/burnt" && xargs -r mkdir) || return 1
    mv "$T/burnt/$1" "$2" && rm -r "$T/burnt"
    [ "$(stat -c %i "$2")" = "$1" ]
}

# looks_like N NAME: in the mount's old place lies a folder that looks like active/NAME, down to the inode number
looks_like() {
    mkdir -p "$MNT/active"
    with_number "$1" "$MNT/active/$2" && mkdir "$MNT/active/$2/fs"
}

# ---- renamed ----------------------------------------------------------------

snapshot base
for key in bare mounted rm rmbare alike last; do prepare "$key" base; done
ls "$MNT/active/mounted/fs" "$MNT/active/rm/fs" >/dev/null
away
is "a first touch reads" "$(t cat "$AWAY/active/bare/fs/f")" base
is "mount tells the place of now" "$(t cat "$AWAY/active/bare/mount" | grep -c "$AWAY/active/bare/fs")" 1
is "what was mounted is mounted" "$(t cat "$AWAY/active/mounted/fs/f")" base
exec 3>"$AWAY/active/mounted/fs/open"
fails "a commit minds who writes" EBUSY rename "$AWAY/active/mounted" "$AWAY/snapshots/mounted"
exec 3>&-
works "then it commits" rename "$AWAY/active/mounted" "$AWAY/snapshots/mounted"
fails "and nothing writes to it" EROFS create "$AWAY/snapshots/mounted/fs/new"
works "one is removed" rmdir "$AWAY/active/rm"
works "and one that nobody touched" rmdir "$AWAY/active/rmbare"
is "no mount of it is left" "$(mounts_at "$AWAY/active/rm/fs")" 0
if [ "$(worker)" != "$PID" ]; then
    kill -9 "$(worker)"
    is "another worker finds it as well" "$(t cat "$AWAY/active/bare/fs/f")" base
    works "… and its mounts" rename "$AWAY/active/bare" "$AWAY/snapshots/bare"
    is "… once each" "$(mounts_at "$AWAY/active/bare/fs")" 0
fi

# ---- something else in its place -------------------------------------------

id=$(stat -c %i "$AWAY/active/alike")
mkdir "$T/p" "$MNT"
ok "a folder looks like an entry" looks_like "$id" alike
is "a first touch reads" "$(t cat "$AWAY/active/alike/fs/f")" base
is "it is mounted where it belongs" "$(mounts_at "$AWAY/active/alike/fs") $(mounts_at "$MNT/active/alike/fs")" "1 0"
mv "$T/p" "$T/other"
ln -s other "$T/p"
id=$(stat -c %i "$AWAY/active/last")
ok "a link leads to one that does" looks_like "$id" last
is "a first touch reads" "$(t cat "$AWAY/active/last/fs/f")" base
is "it is mounted where it belongs" "$(mounts_at "$AWAY/active/last/fs") $(mounts_at "$T/other/mnt/active/last/fs")" "1 0"

# An overlay of somebody else, in the place of one of ours
mkdir "$BASE"/{low,up,wd}
mount -t overlay -o "lowerdir=$BASE/low,upperdir=$BASE/up,workdir=$BASE/wd" other "$T/other/mnt/active/last/fs"
works "a commit" rename "$AWAY/active/last" "$AWAY/snapshots/last"
works "… and a removal go on" rmdir "$AWAY/active/alike"
is "what is mounted in that place stays" "$(mounts_at "$T/other/mnt/active/last/fs")" 1
works "… and can be written" create "$T/other/mnt/active/last/fs/new"
umount "$T/other/mnt/active/last/fs"

# ---- the end ----------------------------------------------------------------

mount -t tmpfs -o size=1m other "$T/other/mnt"
kill "$PID"
ok "SIGTERM ends the program" wait_until 20 gone "$PID"
is "… and its mount" "$(mounts_below "$T/away" | wc -l)" 0
is "… and no other one" "$(mounts_at "$T/other/mnt")" 1
umount "$T/other/mnt"
reap "$PID"
is "with status 0" "$?" 0
forget "$PID"

# ---- back again -------------------------------------------------------------

rm "$T/p"
mkdir -p "$MNT"
start_program
prepare a base
ls "$MNT/active/a/fs" >/dev/null
rmdir "$T/away/mnt" "$T/away"
away
works "a commit under another name of the folder" rename "$AWAY/active/a" "$AWAY/snapshots/a"
back
works "and one back under the old one" rmdir "$MNT/snapshots/a"
kill "$PID"
reap "$PID"
is "it ends" "$?" 0
forget "$PID"

done_testing
