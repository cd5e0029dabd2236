#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# `verify`: what it says of a layer that is as it was, whatever happened around it, and of one that is not; and one wrong bit in the
# store's own files, met by a program that starts on it or uses it.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

id_of() { basename "$(readlink "$STORE/$1")"; }
verify() { t cat "$MNT/snapshots/$1/verify" 2>&1; }
all_ok() { # DESC: every snapshot is ok
    local name bad=''
    for name in "$MNT"/snapshots/*; do
        [ "$(verify "${name##*/}")" = ok ] || bad+="${name##*/}: $(verify "${name##*/}")"$'\n'
    done
    is "$1" "$bad" ''
}

flip() { # FILE BYTE BIT: and the time stays
    local value
    value=$(od -An -tu1 -j "$2" -N 1 "$1") || return 1
    touch -r "$1" "$BASE/time"
    # shellcheck disable=SC2059
    printf "\\x$(printf %x $((value ^ (1 << $3))))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
    touch -r "$BASE/time" "$1"
}

new_mount fingerprint=on,expire=1
like "version says so" "$(t cat "$MNT/version")" "fingerprint: on"
prepare base
fs=$MNT/active/base/fs
fill "$fs"
mkdir "$fs/gone" "$fs/opaque"
touch "$fs/gone/x" "$fs/opaque/x" "$fs/"$'new\nline'
setfattr -n user.key -v value "$fs/file"
setfacl -m u:5:r "$fs/dir/big" 2>/dev/null
mknod "$fs/pipe" p
truncate -s 1G "$fs/holes"
commit base
prepare child base
fs=$MNT/active/child/fs
rm -r "$fs/gone" "$fs/opaque" "$fs/hard"
mkdir "$fs/opaque"
echo more >>"$fs/dir/deep/file"
mv "$fs/dir/deep" "$fs/moved"
chmod 600 "$fs/file"
commit child
prepare nothing child
commit nothing
all_ok "all of it is ok"
is "and shows no size" "$(stat -c %s "$MNT/snapshots/base/verify")" 0
nok "only snapshots have it" test -e "$MNT/active/verify" -o -e "$MNT/views/verify"

# ---- no false alarms -----------------------------------------------------

prepare top child
t mkdir "$MNT/views/look@child"
t find "$MNT/views/look/fs" "$MNT/snapshots/base/fs" -type f -exec cat {} + >/dev/null
t find "$STORE/layers" -path '*/fs/*' -type f -exec cat {} + >/dev/null # a read of the layers themselves, with their times of access
echo changed >"$MNT/active/top/fs/file"
rm -r "$MNT/active/top/fs/moved"
mkdir "$BASE/bind"
mount --bind "$MNT/snapshots/child/fs" "$BASE/bind"
ls -laR "$BASE/bind" >/dev/null
umount "$BASE/bind"
all_ok "as a lower layer of others, read and bound"
commit top
t mv "$MNT/snapshots/child" "$MNT/snapshots/kid"
works "two change names" exchange "$MNT/snapshots/kid" "$MNT/snapshots/base"
all_ok "under other names"
works "and back" exchange "$MNT/snapshots/kid" "$MNT/snapshots/base"
t mkdir "$MNT/active/in"
t cp "$MNT/snapshots/base/layer.tar" "$MNT/active/in/layer.tar"
commit in
all_ok "of an imported layer too"
kill_program
start_program
all_ok "after a kill"
restart mountapi=old,fingerprint=off
all_ok "under other options"
prepare plain
commit plain
like "without -o fingerprint there is a clear line" "$(verify plain)" "^no fingerprints: none were kept"
t rmdir "$MNT/snapshots/plain"
exec {fd}<"$MNT/snapshots/base/verify"
kill_worker
is "a file that is open outlives the worker" "$(t cat <&"$fd")" ok
exec {fd}<&-
exec {fd}<"$MNT/snapshots/in/verify"
t rmdir "$MNT/snapshots/in"
like "of one that was removed meanwhile nothing is said" "$(t cat <&"$fd" 2>&1)" "No such file"
exec {fd}<&-
stop_program
cp -a "$STORE" "$BASE/good"

# On a copy of the store
renew() {
    rm -rf "$STORE"
    cp -a "$BASE/good" "$STORE"
}
renew
start_program
all_ok "in a copy of the store"

# ---- a layer that rots ---------------------------------------------------

base=$(id_of snapshots/base) kid=$(id_of snapshots/kid)
layer=$STORE/layers/$base/fs
flip "$layer/dir/big" 70000 5
is "a bit of a file" "$(verify base)" "content /dir/big"
logged "is in the log" verify snapshots/base/verify EUCLEAN "1 differences.*content /dir/big"
is "and no other snapshot's" "$(verify kid)" ok
flip "$layer/dir/big" 70000 5
is "is found out as mended, too" "$(verify base)" ok
chmod 777 "$layer/dir"
chown 7 "$layer/pipe"
setfattr -n user.key -v valuf "$layer/file"
touch -r "$layer/dir" "$BASE/time"
rm "$layer/dir/deep/file"
touch "$layer/"$'new\nlines'
touch -r "$BASE/time" "$layer/dir"
is "what else can be wrong" "$(verify base)" "time /
mode /dir
time /dir/deep
missing /dir/deep/file
xattr /file
xattr /hard
added \"/new\\nlines\"
owner /pipe"
rm "$STORE/layers/$kid/fs/hard"
like "a whiteout that is gone" "$(verify kid)" "missing /hard"
stop_program

# ---- the store's own files -----------------------------------------------

others() { [ "$(verify base)" = ok ] && [ "$(t cat "$MNT/snapshots/base/fs/file")" = text ] && t ls "$MNT/snapshots/nothing/fs" >/dev/null; }
named() { t grep -F "$1" "$MNT/log"; }
found() { [ "$("$STRATAFS" --check "$STORE" | grep -cF "$1")" -ge 1 ]; }

renew
echo v >"$BASE/v"
start_program
t cp "$BASE/v" "$MNT/snapshots/kid/labels/key"
t cat "$MNT/snapshots/kid/usage" "$MNT/snapshots/kid/changes" "$MNT/snapshots/kid/layer.tar" >/dev/null
stop_program
rm -rf "$BASE/good"
cp -a "$STORE" "$BASE/good"
for file in manifest meta labels/key usage changes export; do
    renew
    start_program
    t ls -l "$MNT/snapshots" >/dev/null # some is known already
    stop_program
    flip "$STORE/layers/$kid/$file" 12 2
    ok "$file: an examination finds it" found "layers/$kid"
    start_program
    for what in verify info labels/key usage changes layer.tar; do t cat "$MNT/snapshots/kid/$what" >/dev/null 2>&1; done
    ok "$file: use finds it and names it" named "layers/$kid/$file"
    ok "$file: the others are as before" others
    case $file in
    manifest) like "verify says so" "$(verify kid)" "manifest of this snapshot is damaged" ;;
    labels/key)
        nok "a damaged label is not read" cat "$MNT/snapshots/kid/labels/key"
        ok "but can be set" sh -c "echo w >'$MNT/snapshots/kid/labels/key'"
        is "and then is right" "$(t cat "$MNT/snapshots/kid/labels/key")" w
        ;;
    *) is "$file: all of it is made anew" "$(verify kid)" ok ;;
    esac
    stop_program
done
renew
ln -sfn "../layers/$kid/../$base" "$STORE/snapshots/kid"
start_program
is "a link with a wrong bit leads where it did" "$(field name "$MNT/snapshots/kid/info") $(verify kid)" "kid ok"
ok "and is named" named "snapshots/kid"
stop_program
start_program
in_order() { "$STRATAFS" --check "$STORE" >/dev/null; }
ok "the next start writes it anew" wait_until 20 in_order
stop_program

# ---- more readers than there is place for --------------------------------

FAULTS=yes
new_mount fingerprint=on
prepare base
fill "$MNT/active/base/fs"
commit base
readers=()
for i in 1 2; do
    hold_call getdents64 1 cp "$MNT/snapshots/base/verify" "$BASE/said$i"
    readers+=("$HELD")
done
spawn cat "$MNT/snapshots/base/verify"
sleep 0.3
kill -TERM "$SPAWNED"
over() { ! kill -0 "$SPAWNED" 2>/dev/null; }
ok "one that waits for the others is ended by a signal" wait_until 20 over
let_go
for pid in "${readers[@]}"; do wait "$pid"; done
is "the others have their answers" "$(cat "$BASE/said1" "$BASE/said2")" $'ok\nok'
is "and there is another for the next one" "$(verify base)" ok
done_testing
