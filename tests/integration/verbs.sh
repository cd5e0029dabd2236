#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The five verbs: prepare, view, commit, rename, remove, each on every kind of entry it applies to.
. "$(dirname "$0")/lib.sh"
new_mount
cd / || exit 1
A=$MNT/active V=$MNT/views S=$MNT/snapshots

# What an entry's folder holds, of the names that do not depend on later features
holds() { t find "$1" -mindepth 1 -maxdepth 1 ! -name changes ! -name layer.tar -printf '%f\n' | LC_ALL=C sort | tr '\n' ' '; }
layers() { find "$STORE/layers" -mindepth 1 -maxdepth 1 | wc -l; }
trash_empty() { [ -z "$(ls -A "$STORE/trash")" ]; }

# ---- prepare
is "an empty store lists nothing" "$(find "$A" "$V" "$S" -mindepth 1)" ""
ok "mkdir(1) prepares an empty snapshot" mkdir "$A/base"
is "it is listed" "$(ls -A "$A")" base
is "an active base holds its files" "$(holds "$A/base")" "fs info labels mount mount.json overlay usage "
is "its fs/ is empty" "$(ls -A "$A/base/fs")" ""
ok "fs/ is a mount of its own" mounted "$A/base/fs"
ok "fs/ can be written" fill "$A/base/fs"
is "fs/ of a base is 0755 and root's" "$(stat -c '%a %u %g' "$A/base/fs")" "755 0 0"
BASE_DIGEST=$(digest "$A/base/fs")
ID=$(field id "$A/base/info")

# ---- commit
ok "mv(1) commits under another name" mv "$A/base" "$S/one"
fails "the key is gone" ENOENT stat "$A/base"
is "the snapshot is listed" "$(ls -A "$S")" one
is "a committed base holds its files" "$(holds "$S/one")" "children fs info labels mount mount.json overlay usage verify "
is "kind is committed" "$(field kind "$S/one/info")" committed
is "the id stays" "$(field id "$S/one/info")" "$ID"
is "the files are the same" "$(digest "$S/one/fs")" "$BASE_DIGEST"
fails "fs/ is read-only" EROFS create "$S/one/fs/new"
works "the key is free again" mkdir "$A/base"
ok "a snapshot that was never touched can be committed, into the folder" mv "$A/base" "$S/"
is "it keeps its name" "$(field name "$S/base/info")" base
is "it is empty" "$(ls -A "$S/base/fs")" ""

# ---- prepare on top
works "mkdir KEY@PARENT prepares on top" mkdir "$A/web@one"
is "it is listed by its key" "$(ls -A "$A")" web
fails "KEY@PARENT itself is not there" ENOENT stat "$A/web@one"
fails "nor after the entry was used" ENOENT stat "$A/web@one"
is "parent is a relative link" "$(readlink "$A/web/parent")" "../../snapshots/one"
is "and leads to the parent" "$(realpath "$A/web/parent")" "$S/one"
is "an active child holds its files" "$(holds "$A/web")" "fs info labels mount mount.json overlay parent usage "
is "the child starts with its parent's files" "$(digest "$A/web/fs")" "$BASE_DIGEST"
ok "the child can change a file" sh -c "echo changed >'$A/web/fs/file'"
ok "the child can remove a folder" rm -r "$A/web/fs/dir"
is "the parent's bytes stay" "$(digest "$S/one/fs")" "$BASE_DIGEST"
WEB=$(digest "$A/web/fs")
ok "the child commits" mv "$A/web" "$S/two"
is "depth counts the chain" "$(field depth "$S/two/info")" 2
is "the committed child shows its change" "$(digest "$S/two/fs")" "$WEB"
is "a committed child holds its files" "$(holds "$S/two")" "children fs info labels mount mount.json overlay parent usage verify "
is "children names it" "$(cat "$S/one/children")" snapshots/two
works "grandchild" mkdir "$A/three@two"
is "a grandchild sees the topmost change" "$(cat "$A/three/fs/file")" changed
fails "a grandchild does not see what was removed" ENOENT stat "$A/three/fs/dir"

# ---- the root of a child is like its parent's
works "a base for root attributes" mkdir "$A/rooted"
ok "chmod of the root" chmod 2750 "$A/rooted/fs"
ok "chown of the root" chown 33:44 "$A/rooted/fs"
works "xattr of the root" setxattr "$A/rooted/fs" user.colour
for name in $(own_names "$A/rooted/fs"); do
    ok "one called as overlayfs calls its own: $name" setfattr -n "$name" -v mine "$A/rooted/fs"
done
ok "commit it" mv "$A/rooted" "$S/rooted"
works "prepare on it" mkdir "$A/rooted@rooted"
is "the child's root has the mode and owner" "$(stat -c '%a %u %g' "$A/rooted/fs")" "2750 33 44"
works "committing an untouched child" rename "$A/rooted" "$S/rooted2"
is "its root has them still" "$(stat -c '%a %u %g' "$S/rooted2/fs")" "2750 33 44"
works "and the xattr" getxattr "$S/rooted2/fs" user.colour
is "and all others" "$(xattrs "$S/rooted2/fs")" "$(xattrs "$S/rooted/fs")"
is "so nothing has changed" "$(cat "$S/rooted2/changes")" ""

# ---- view
works "mkdir views/KEY@PARENT makes a view" mkdir "$V/look@two"
fails "views/KEY@PARENT itself is not there" ENOENT stat "$V/look@two"
is "kind is view" "$(field kind "$V/look/info")" view
is "a view holds its files" "$(holds "$V/look")" "fs info labels mount mount.json overlay parent usage "
is "a view shows the parent's files" "$(digest "$V/look/fs")" "$WEB"
fails "a view is read-only" EROFS create "$V/look/fs/new"
works "a view of nothing" mkdir "$V/void"
is "it is empty" "$(ls -A "$V/void/fs")" ""
fails "and read-only" EROFS mkdir "$V/void/fs/new"
fails "it has no parent" ENOENT lstat "$V/void/parent"

# ---- keys are shared by active and views, names are not
fails "an active key is taken for views" EEXIST mkdir "$V/three"
fails "also with a parent" EEXIST mkdir "$V/three@one"
fails "a view's key is taken for active" EEXIST mkdir "$A/look"
fails "also with a parent" EEXIST mkdir "$A/look@one"
fails "a key taken in the same folder, with a parent" EEXIST mkdir "$A/three@one"
works "a snapshot's name is free as a key" mkdir "$A/one@one"
works "which can go" rmdir "$A/one"

# ---- rename
mkdir "$BASE/target"
mount --bind "$A/three/fs" "$BASE/target"
exec 7>"$A/three/fs/open"
works "rename of an active snapshot in use" rename "$A/three" "$A/drei"
fails "the old key is gone" ENOENT stat "$A/three"
is "info tells the new key" "$(field name "$A/drei/info")" drei
ok "its mount moved along" mounted "$A/drei/fs"
echo written >&7
exec 7>&-
is "an open file goes on" "$(cat "$A/drei/fs/open")" written
is "a bind mount stays" "$(cat "$BASE/target/open")" written
umount "$BASE/target"
works "rename of a snapshot with children" rename "$S/one" "$S/uno"
is "the child follows" "$(readlink "$S/two/parent")" "../../snapshots/uno"
is "and info tells the parent's new name" "$(field parent "$S/two/info")" uno
is "its children stay" "$(cat "$S/uno/children")" snapshots/two
is "the child's files stay" "$(digest "$S/two/fs")" "$WEB"
works "rename of a view" rename "$V/look" "$V/peek"
is "a renamed view shows the same" "$(digest "$V/peek/fs")" "$WEB"
works "a view's old key is free" mkdir "$A/look"
works "a name that was just left can be taken by rename" rename "$A/look" "$A/three"
works "rename to itself changes nothing" rename "$A/three" "$A/three"
is "it is still there" "$(field name "$A/three/info")" three
ok "mv(1) renames" mv "$A/three" "$A/look2"

works "RENAME_NOREPLACE to a free key" noreplace "$A/look2" "$A/look"
fails "RENAME_NOREPLACE to a taken key" EEXIST noreplace "$A/look" "$A/drei"
works "RENAME_NOREPLACE commits" noreplace "$A/look" "$S/look"
works "RENAME_NOREPLACE on snapshots" noreplace "$S/look" "$S/seen"
works "RENAME_NOREPLACE on views" noreplace "$V/peek" "$V/peer"
fails "RENAME_NOREPLACE to a view's key from active" EEXIST noreplace "$A/drei" "$A/peer"

works "another active snapshot" mkdir "$A/vier"
echo vier >"$A/vier/fs/who"
echo drei >"$A/drei/fs/who"
works "RENAME_EXCHANGE of two active snapshots" exchange "$A/drei" "$A/vier"
is "the one" "$(cat "$A/drei/fs/who") $(field name "$A/drei/info")" "vier drei"
is "the other" "$(cat "$A/vier/fs/who") $(field name "$A/vier/info")" "drei vier"
ok "both mounts are where they belong" sh -c "grep -q ' $A/drei/fs ' /proc/mounts && grep -q ' $A/vier/fs ' /proc/mounts"
works "RENAME_EXCHANGE of two snapshots" exchange "$S/uno" "$S/seen"
is "children follow" "$(readlink "$S/two/parent")" "../../snapshots/seen"
is "names were exchanged" "$(digest "$S/seen/fs")" "$BASE_DIGEST"
is "the other is the empty one" "$(ls -A "$S/uno/fs")" ""
works "RENAME_EXCHANGE of parent and child" exchange "$S/two" "$S/seen"
is "the link leads to the parent's new name" "$(readlink "$S/seen/parent")" "../../snapshots/two"
is "the parent's files under the child's name" "$(digest "$S/two/fs")" "$BASE_DIGEST"
works "RENAME_EXCHANGE of two views" exchange "$V/peer" "$V/void"
is "views exchanged" "$(digest "$V/void/fs")" "$WEB"
fails "RENAME_EXCHANGE with nothing" ENOENT exchange "$A/drei" "$A/nothing"

# ---- kept over a restart
BEFORE=$(state)
restart
is "a restart shows the same" "$(state)" "$BEFORE"
is "and the files" "$(digest "$S/two/fs") $(cat "$A/drei/fs/who")" "$BASE_DIGEST vier"
works "a new entry after a restart" mkdir "$A/later"
ok "its id was never used before" test "$(field id "$A/later/info")" -gt "$(field id "$A/vier/info")"

# ---- remove
works "rmdir of an active snapshot whose fs/ is attached" rmdir "$A/drei"
fails "it is gone" ENOENT stat "$A/drei"
ok "so is its mount" sh -c "! grep -q ' $A/drei/fs ' /proc/mounts"
works "rmdir of an untouched active snapshot" rmdir "$A/later"
works "rmdir of a view whose fs/ is attached" rmdir "$V/void"
works "rmdir of an untouched view" rmdir "$V/peer"
works "rmdir of an active child" rmdir "$A/vier"
works "rmdir of a committed child" rmdir "$S/seen"
works "rmdir of its parent, now that it has no child" rmdir "$S/two"
works "rmdir of a child" rmdir "$S/rooted2"
works "rmdir of the rest" rmdir "$S/rooted"
works "rmdir of the rest" rmdir "$S/base"
ok "rmdir(1) of the last" rmdir "$S/uno"
is "nothing is listed" "$(find "$A" "$V" "$S" -mindepth 1)" ""
ok "the space is freed" wait_until 60 trash_empty
is "no layer is left in the store" "$(layers)" 0
done_testing
