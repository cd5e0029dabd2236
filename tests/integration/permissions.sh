#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who may do what: other users, and what nobody may do.
. "$(dirname "$0")/lib.sh"
new_mount
cd / || exit 1
A=$MNT/active V=$MNT/views S=$MNT/snapshots

chmod 755 "$BASE"
# The helpers may lie where another user cannot reach them
install -m 755 "$HELPERS/syscall" "$BASE/syscall"
other_errno() { timeout -k 5 60 setpriv --reuid=12345 --regid=12345 --clear-groups -- "$BASE/syscall" "$@"; }

mkdir "$A/base"
echo public >"$A/base/fs/public"
echo private >"$A/base/fs/private"
chmod 600 "$A/base/fs/private"
mkdir -m 777 "$A/base/fs/open"
mkdir "$A/base/fs/theirs"
chown 12345:12345 "$A/base/fs/theirs"
mv "$A/base" "$S/base"
mkdir "$A/work@base" "$V/look@base"
ls "$A/work/fs" "$V/look/fs" "$S/base/fs" >"$OUT"

# ---- without allow_other
is "the way to the mount is open to others" "$(other_errno stat "$BASE")" ok
for path in "$MNT" "$MNT/tree" "$A" "$A/work/info" "$A/work/fs" "$A/work/fs/public" "$V/look/fs/public"; do
    is "others see nothing: ${path#"$BASE"/}" "$(other_errno stat "$path")" EACCES
done
is "others cannot list" "$(other_errno opendir "$MNT")" EACCES
is "others cannot prepare" "$(other_errno mkdir "$A/theirs")" EACCES
is "the store is 0700" "$(stat -c '%a %u' "$STORE")" "700 0"
is "others cannot look into the store" "$(other_errno opendir "$STORE")" EACCES
is "nor through it" "$(other_errno stat "$STORE/format")" EACCES
mkdir -m 755 "$BASE/target"
mount --bind "$A/work/fs" "$BASE/target"
is "what root binds elsewhere has the files' own permissions: public" "$(other_errno read "$BASE/target/public")" ok
is "private" "$(other_errno read "$BASE/target/private")" EACCES
is "writable" "$(other_errno create "$BASE/target/open/x")" ok
is "not writable" "$(other_errno create "$BASE/target/x")" EACCES
umount "$BASE/target"

# ---- with allow_other
restart allow_other
ls "$A/work/fs" "$V/look/fs" "$S/base/fs" >"$OUT"
for path in "$MNT" "$A" "$V" "$S" "$A/work" "$A/work/fs" "$A/work/labels"; do
    is "allow_other: others can list ${path#"$BASE"/}" "$(other_errno opendir "$path")" ok
done
for path in "$MNT/tree" "$MNT/version" "$A/work/info" "$A/work/mount" "$A/work/fs/public" "$V/look/fs/public" "$S/base/fs/public"; do
    is "allow_other: others can read ${path#"$BASE"/}" "$(other_errno read "$path")" ok
done
is "allow_other: private stays private" "$(other_errno read "$A/work/fs/private")" EACCES
is "allow_other: in a snapshot too" "$(other_errno read "$S/base/fs/private")" EACCES
is "allow_other: their own folder is theirs" "$(other_errno create "$A/work/fs/theirs/x")" ok
is "allow_other: a new file belongs to them" "$(stat -c '%u %g' "$A/work/fs/theirs/x")" "12345 12345"
is "allow_other: root's folder is not" "$(other_errno create "$A/work/fs/x")" EACCES
BEFORE=$(state)
is "allow_other: others cannot prepare" "$(other_errno mkdir "$A/theirs")" EACCES
is "allow_other: others cannot prepare on a parent" "$(other_errno mkdir "$A/theirs@base")" EACCES
is "allow_other: others cannot make views" "$(other_errno mkdir "$V/theirs@base")" EACCES
is "allow_other: others cannot commit" "$(other_errno rename "$A/work" "$S/theirs")" EACCES
is "allow_other: others cannot rename" "$(other_errno rename "$S/base" "$S/theirs")" EACCES
is "allow_other: others cannot remove" "$(other_errno rmdir "$V/look")" EACCES
is "allow_other: others cannot label" "$(other_errno create "$A/work/labels/theirs")" EACCES
is "allow_other: others cannot write the log" "$(other_errno openw "$MNT/log")" EACCES
is "allow_other: others changed nothing" "$(state)" "$BEFORE"
is "allow_other: the store stays closed" "$(other_errno opendir "$STORE")" EACCES
works "a fresh entry" mkdir "$A/fresh@base"
is "first touch by another user attaches fs/" "$(other_errno read "$A/fresh/fs/public")" ok
rmdir "$A/fresh"

# ---- the store's mode is put right at a start
stop_program
chmod 755 "$STORE"
start_program
is "a store that was opened is 0700 again" "$(stat -c %a "$STORE")" 700

# ---- what not even root may do
BEFORE=$(state)
for dir in "$MNT" "$A" "$S" "$V" "$A/work" "$S/base" "$V/look"; do
    want=EPERM
    case $dir in "$S/base" | "$V/look") want=EROFS ;; esac
    d=${dir#"$BASE"/}
    fails "a file in $d" $want create "$dir/file"
    fails "a link in $d" $want symlink target "$dir/link"
    fails "a pipe in $d" $want mkfifo "$dir/pipe"
    fails "a hard link in $d" $want link "$A/work/info" "$dir/hard"
done
for dir in "$A/work" "$S/base" "$V/look" "$MNT" "$A/work/labels" "$S"; do
    want=EPERM
    case $dir in "$S/base" | "$V/look") want=EROFS ;; esac
    fails "a folder in ${dir#"$BASE"/}" $want mkdir "$dir/folder"
done
for f in info mount mount.json overlay usage; do
    fails "writing to $f of an active snapshot" EPERM openw "$A/work/$f"
    fails "writing to $f of a snapshot" EROFS openw "$S/base/$f"
    fails "writing to $f of a view" EROFS openw "$V/look/$f"
    fails "removing $f of an active snapshot" EPERM unlink "$A/work/$f"
    fails "removing $f of a snapshot" EROFS unlink "$S/base/$f"
    fails "removing $f of a view" EROFS unlink "$V/look/$f"
done
for f in tree graph.dot log metrics version; do
    fails "writing to $f" EPERM openw "$MNT/$f"
    fails "removing $f" EPERM unlink "$MNT/$f"
    fails "truncating $f" EPERM truncate "$MNT/$f" 0
done
fails "writing to children" EROFS openw "$S/base/children"
fails "removing a parent link" EPERM unlink "$A/work/parent"
fails "removing a snapshot's files" EROFS unlink "$S/base/fs/public"
fails "changing a snapshot's files" EROFS openw "$S/base/fs/public"
fails "changing a view's files" EROFS openw "$V/look/fs/public"
fails "setting the owner of an entry" EPERM chown "$A/work" 12345
fails "setting the mode of an entry" EPERM chmod "$A/work" 777
fails "setting the mode of a control file" EPERM chmod "$A/work/info" 666
fails "setting the mode of a snapshot" EROFS chmod "$S/base" 777
fails "setting the mode of active/" EPERM chmod "$A" 777
works "a label of a snapshot is allowed, though" rewrite "$S/base/labels/l" v
works "and its removal" unlink "$S/base/labels/l"
is "all else is as before, but for updated" "$(state | grep -v ^updated)" "$(printf '%s\n' "$BEFORE" | grep -v ^updated)"
is "modes of the folders" "$(stat -c %a "$MNT" "$A" "$V" "$S" "$A/work" "$A/work/labels" | sort -u)" 755
is "modes of the files" "$(stat -c %a "$MNT/tree" "$MNT/version" "$A/work/info" "$S/base/usage" | sort -u)" 444
is "they belong to root" "$(stat -c '%u %g' "$MNT" "$A" "$A/work" "$A/work/info" "$MNT/tree" | sort -u)" "0 0"

# ---- a store in a folder with a default ACL, which it hands down
new_base
chmod 755 "$BASE"
ok "a folder with a default ACL" setfacl -m d:u:12345:rwx "$BASE"
start_program ''
A=$MNT/active V=$MNT/views S=$MNT/snapshots
acl_of() { getfacl -cnpE "$1" 2>"$OUT" | tr '\n' ' '; }
mkdir "$A/base" "$A/import" "$V/void"
is "the root of a base has none of it" "$(acl_of "$A/base/fs")" "user::rwx group::r-x other::r-x  "
is "that of a view of nothing" "$(acl_of "$V/void/fs")" "user::rwx group::r-x other::r-x  "
touch "$A/base/fs/file"
mkdir "$A/base/fs/dir"
mv "$A/base" "$S/base"
mkdir "$A/child@base"
is "nor that of a child" "$(acl_of "$A/child/fs")" "user::rwx group::r-x other::r-x  "
echo more >>"$A/child/fs/file"
touch "$A/child/fs/dir/new"
for path in file dir dir/new; do
    unlike "nor $path, made and changed there" "$(acl_of "$A/child/fs/$path")" 12345
done
is "a child has what was changed" "$(cat "$A/child/changes")" "A /dir/new"$'\n'"M /file"
tar -C "$A/child/fs" -cf "$BASE/layer.tar" dir/new
ok "a layer comes in" cp "$BASE/layer.tar" "$A/import/layer.tar"
for path in . dir dir/new; do
    unlike "which has none of it: $path" "$(acl_of "$A/import/fs/$path")" 12345
done
is "the root of that" "$(acl_of "$A/import/fs")" "user::rwx group::r-x other::r-x  "
mkdir "$A/own"
ok "an ACL of the user's own" setfacl -m u:5:rx,d:u:6:rx "$A/own/fs"
mv "$A/own" "$S/own"
mkdir "$A/heir@own"
is "goes on to the children" "$(acl_of "$A/heir/fs")" "$(acl_of "$S/own/fs")"
is "nothing of the store can be reached through it" "$(setpriv --reuid=12345 --regid=12345 --clear-groups -- "${BASES[0]}/syscall" opendir "$STORE")" EACCES
done_testing
