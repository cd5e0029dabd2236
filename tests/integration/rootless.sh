#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# All of it as an ordinary user, without setuid: inside `unshare -Urm`, where the user is root over what is his.
#
# /dev/fuse is open to users on most machines. Where it is not, this script does not change the machine: in a mount namespace of
# its own an open node from the temporary directory is bound over it.
set -u

if [ "${1:-}" != inside ]; then
    : "${top_builddir:=.}"
    : "${STRATAFS:=$top_builddir/stratafs}"
    here=$(dirname "$(realpath "$0")")
    home=$(mktemp -d "${TMPDIR:-/tmp}/stratafs-rootless.XXXXXX") || exit 1
    trap 'rm -rf --one-file-system "$home"' EXIT

    # the user may be barred from the build and the source tree
    mkdir -p "$home/tests/integration/helpers" "$home/tmp"
    cp "$STRATAFS" "$home/stratafs" || { echo 'Bail out! no program'; exit 1; }
    cp "$here/rootless.sh" "$here/lib.sh" "$here/tap.sh" "$home/tests/integration/"
    cp "$here/helpers/b_common.sh" "$home/tests/integration/helpers/"
    for helper in syscall b_touch b_race b_hold; do
        cp "$top_builddir/tests/integration/helpers/$helper" "$home/tests/integration/helpers/" ||
            { echo 'Bail out! no helpers: make check builds them'; exit 1; }
    done
    mknod -m 0666 "$home/fuse" c 10 229
    chown 12345:12345 "$home/tmp"
    chmod 0755 "$home" "$home/tests" "$home/tests/integration" "$home/tests/integration/helpers"

    export TMPDIR=$home/tmp HOME=$home/tmp STRATAFS=$home/stratafs top_builddir=$home
    cd "$home" || exit 1
    # shellcheck disable=SC2016
    unshare -m --propagation private bash -c '
        if ! (: <>"$1/fuse") 2>/dev/null; then
            echo "Bail out! device nodes do not work in ${1%/*}: set TMPDIR"
            exit 1
        fi
        # the mounts of tests that run meanwhile are not to be held
        awk "\$5 ~ /stratafs-test/ { print \$5 }" /proc/self/mountinfo | tac | xargs -r -d "\n" umount -l
        mount --bind "$1/fuse" /dev/fuse &&
            setpriv --reuid=12345 --regid=12345 --clear-groups --inh-caps=-all \
                unshare -Urm bash "$1/tests/integration/rootless.sh" inside' - "$home"
    exit
fi

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

is "the test runs as an ordinary user who is root in a namespace of his own" \
    "$(id -u) $(awk '{ print $1, $2, $3 }' /proc/self/uid_map)" "0 0 12345 1"

new_mount
is "the store belongs to that user" "$(stat -c %u "$STORE/format")" 0

# ---- a base, and a child that changes every kind of thing ----------------

prepare base
fs=$MNT/active/base/fs
is "fs/ is an overlay" "$(stat -f -c %T "$fs")" overlayfs
mkdir -p "$fs/keep/sub" "$fs/replaced/old" "$fs/removed/deep"
echo file >"$fs/file"
echo gone >"$fs/gone"
echo old >"$fs/replaced/old/file"
echo old >"$fs/replaced/other"
echo deep >"$fs/removed/deep/file"
ln "$fs/file" "$fs/keep/hard"
ln -s ../file "$fs/keep/soft"
mkfifo "$fs/fifo"
chmod 0640 "$fs/keep/hard"
works "a user attribute" setxattr "$fs/keep" user.colour
cp -a "$fs" "$BASE/plain"
works "a base is committed" rename "$MNT/active/base" "$MNT/snapshots/base"
same_tree "the base holds what was written" "$BASE/plain" "$MNT/snapshots/base/fs"

# change ROOT: the same on the overlay and on a plain copy
change() {
    rm "$1/gone" &&
        rm -r "$1/removed" &&
        rm -r "$1/replaced" && mkdir "$1/replaced" && echo new >"$1/replaced/new" &&
        rm "$1/fifo" && mkdir "$1/fifo" && echo in >"$1/fifo/file" &&
        rm -r "$1/keep/sub" && echo file >"$1/keep/sub" &&
        echo more >>"$1/keep/hard" &&
        chmod 0700 "$1/keep" &&
        setfattr -n user.colour -v red "$1/keep" &&
        ln -sfn elsewhere "$1/keep/soft" &&
        truncate -s 1M "$1/sparse" &&
        find "$1" -newer "$BASE/marker" -exec touch -h -d '2024-05-06 07:08:09.123456789' {} +
}

touch -d '1 second' "$BASE/marker"
sleep 1.1
# one of two names of a file that is then changed would part from the other on an overlay: index=off, as documented
rm "$BASE/plain/file"
prepare child base
fs=$MNT/active/child/fs
rm "$fs/file"
ok "the child is changed" change "$fs"
ok "so is the plain copy" change "$BASE/plain"
layer=$(realpath "$STORE/active/child")/fs
is "a removed file is a whiteout in the layer" "$(stat -c '%F %t:%T' "$layer/gone")" "character special file 0:0"
is "a replaced folder is opaque, by a user attribute" "$(getfattr --only-values -n user.overlay.opaque "$layer/replaced" 2>/dev/null)" y
same_tree "the child is as the plain copy" "$BASE/plain" "$fs"
hold write "$fs/busy"
fails "a writer makes commit busy" EBUSY rename "$MNT/active/child" "$MNT/snapshots/child"
release "$HOLD"
rm "$fs/busy"
touch -d '2024-05-06 07:08:09.123456789' "$fs"
works "the child is committed" rename "$MNT/active/child" "$MNT/snapshots/child"
works "a view of it" mkdir "$MNT/views/look@child"
same_tree "the view is as the plain copy" "$BASE/plain" "$MNT/views/look/fs"
fails "the view is read-only" EROFS create "$MNT/views/look/fs/new"
fails "the snapshot too" EROFS unlink "$MNT/snapshots/child/fs/keep/hard"

# ---- layers in and out ---------------------------------------------------

layer_of() { tar -C "$1" --sort=name --format=pax "${@:2}" -cf "$BASE/layer.tar" .; }
mkdir -p "$BASE/in/replaced" "$BASE/in/keep" "$BASE/in/new"
: >"$BASE/in/.wh.gone"
: >"$BASE/in/.wh.removed"
: >"$BASE/in/replaced/.wh..wh..opq"
echo new >"$BASE/in/replaced/new"
echo one >"$BASE/in/new/one"
ln "$BASE/in/new/one" "$BASE/in/keep/two"
chmod 4711 "$BASE/in/new/one"
works "with an attribute" setxattr "$BASE/in/new" user.colour
layer_of "$BASE/in" --xattrs
prepare in base
works "a layer comes in" import "$BASE/layer.tar" "$MNT/active/in/layer.tar"
upper=$(realpath "$STORE/active/in")/fs
is "its whiteout is overlayfs' own" "$(stat -c '%F %t:%T' "$upper/gone")" "character special file 0:0"
is "its opaque folder has the user attribute" "$(getfattr --only-values -n user.overlay.opaque "$upper/replaced" 2>/dev/null)" y
fs=$MNT/active/in/fs
is "what it removes is gone" "$(t ls -d "$fs/gone" "$fs/removed" 2>/dev/null)" ""
is "what it hides is hidden" "$(t ls "$fs/replaced")" new
is "a hard link is one" "$(stat -c '%h %a' "$fs/keep/two")" "2 4711"
is "it belongs to the user" "$(stat -c %u:%g "$fs/new/one")" 0:0
is "it has its attribute" "$(getfattr --only-values -n user.colour "$fs/new" 2>/dev/null)" v
is "and the rest is that of the parent" "$(cat "$fs/keep/hard")" file
works "it is committed" rename "$MNT/active/in" "$MNT/snapshots/in"
like "it goes out with the marks of an archive" "$(t tar tf "$MNT/snapshots/in/layer.tar" | tr '\n' ' ')" \
    '^\./ \.wh\.gone \.wh\.removed keep/ keep/two new/ new/one replaced/ replaced/\.wh\.\.wh\.\.opq replaced/new $'

# xattrs called as overlayfs here calls its own
prepare named
fs=$MNT/active/named/fs
mkdir "$fs/d" && touch "$fs/d/a"
for path in . d d/a; do
    ok "$path: an attribute called as overlayfs' own" setfattr -n user.overlay.opaque -v mine "$fs/$path"
    ok "$path: and another" setfattr -n user.overlay.foo -v mine "$fs/$path"
done
works "it is committed" rename "$MNT/active/named" "$MNT/snapshots/named"
mkdir -p "$BASE/named/d" && touch "$BASE/named/d/a" && ln "$BASE/named/d/a" "$BASE/named/d/c"
tar -C "$BASE/named" --no-recursion -cf "$BASE/layer.tar" d/a d/c && tar --delete -f "$BASE/layer.tar" d/a
prepare named2 named
works "a layer with a link to it comes in" import "$BASE/layer.tar" "$MNT/active/named2/layer.tar"
for path in . d d/a; do
    is "$path has them still" "$(xattrs "$MNT/active/named2/fs/$path")" "$(xattrs "$MNT/snapshots/named/fs/$path")"
done
is "and nothing is hidden" "$(t ls "$MNT/active/named2/fs/d" | tr '\n' ' ')" "a c "
for entry in active/named2 snapshots/named; do works "$entry is removed" rmdir "$MNT/$entry"; done

prepare no base
before=$(digest "$MNT/snapshots/base/fs")
tar -C /dev -cf "$BASE/layer.tar" null
fails "a device can't be made here" EPERM import "$BASE/layer.tar" "$MNT/active/no/layer.tar"
logged "which is said" import active/no/layer.tar EPERM "null: a device can.t be made here, as in a user namespace"
layer_of "$BASE/in" --owner=4242 --group=0
fails "an owner who is not mapped" EINVAL import "$BASE/layer.tar" "$MNT/active/no/layer.tar"
logged "is named as the reason" import active/no/layer.tar EINVAL "its owner can.t be set; in a user namespace"
layer_of "$BASE/in" --pax-option='SCHILY.xattr.trusted.x:=y'
fails "an attribute for the real root only" EPERM import "$BASE/layer.tar" "$MNT/active/no/layer.tar"
logged "too" import active/no/layer.tar EPERM "an xattr or ACL of it can.t be set"
is "and all is as before" "$(digest "$MNT/active/no/fs")" "$before"
for entry in active/no snapshots/in; do works "$entry is removed" rmdir "$MNT/$entry"; done

# ---- the rest of the tree ------------------------------------------------

is "the parent" "$(readlink "$MNT/snapshots/child/parent")" ../../snapshots/base
is "the first touch of a fresh entry, by O_PATH" "$(t mkdir "$MNT/views/fresh@child" &&
    "$HELPERS/b_touch" opath "$MNT/views/fresh")" "$(device_at "$MNT/views/fresh/fs")"
mkdir "$BASE/target"
# shellcheck disable=SC2046
ok "mount(8) takes what mount says" t mount $(cat "$MNT/views/look/mount") "$BASE/target"
same_tree "and shows the same there" "$BASE/plain" "$BASE/target"
t umount "$BASE/target"
echo v >"$MNT/snapshots/child/labels/k"
is "labels work" "$(t cat "$MNT/snapshots/child/labels/k")" v
is "twenty processes at once" "$("$HELPERS/b_race" 20 mkdir "$MNT/active/race@child")" $'EEXIST 19\nok 1'

before=$(state)
restart
is "entries are the same after a restart" "$(state)" "$before"
same_tree "and so are the files" "$BASE/plain" "$MNT/snapshots/child/fs"
for entry in active/race views/look views/fresh snapshots/child snapshots/base; do
    works "$entry is removed" rmdir "$MNT/$entry"
done
ok "nothing is left in the store" wait_until 100 settled
ok "the program stops" stop_program
ok "and leaves no mount" eval '! mounted "$MNT"'

done_testing
