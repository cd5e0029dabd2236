#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Renaming what is in use: mounts, open files and working directories go on, links follow, and a name that is used again
# leads to the new entry, never to what the kernel remembers of the old one.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

new_mount
prepare base
mkdir "$MNT/active/base/fs/d"
echo base >"$MNT/active/base/fs/f"
commit base

move() { works "$1 becomes $2" rename "$MNT/$1" "$MNT/$2"; }
parent_link() { is "the parent link of $1" "$(readlink "$MNT/$1/parent")" "../../snapshots/$2"; }

# ---- a parent with children in use ---------------------------------------

prepare writer base
t mkdir "$MNT/views/reader@base"
prepare idle base
snapshot grandchild base
t mkdir "$MNT/views/deep@grandchild"

hold write "$MNT/active/writer/fs/new"
writing=$HOLD
hold cwd "$MNT/active/writer/fs/d"
inside=$HOLD
hold read "$MNT/views/reader/fs/f"
reading=$HOLD
hold read "$MNT/snapshots/base/fs/f"
parent_reading=$HOLD
hold cwd "$MNT/views/deep/fs/d"
deep=$HOLD
device=$(device_at "$MNT/active/writer/fs")

move snapshots/base snapshots/debian
is "the writer goes on" "$(attempt "$writing")" ok
is "the working directory goes on" "$(attempt "$inside")" ok
is "the reader of the view goes on" "$(attempt "$reading")" ok
is "the reader of the parent itself goes on" "$(attempt "$parent_reading")" ok
is "two levels further down: read-only as before" "$(attempt "$deep")" EROFS
fails "the old name is gone" ENOENT lstat "$MNT/snapshots/base"
for entry in active/writer views/reader active/idle snapshots/grandchild; do
    parent_link "$entry" debian
    is "info of $entry says it too" "$(field parent "$MNT/$entry/info")" debian
    is "the link leads there" "$(t cat "$MNT/$entry/parent/fs/f")" base
done
parent_link views/deep grandchild
is "children of the new name" "$(sort "$MNT/snapshots/debian/children" | xargs)" \
    "active/idle active/writer snapshots/grandchild views/reader"
like "tree shows the new name" "$(t cat "$MNT/tree")" debian
unlike "and not the old one" "$(t cat "$MNT/tree")" '(^|[^a-z])base([^a-z]|$)'
is "the mount of the child is the same" "$(device_at "$MNT/active/writer/fs")" "$device"
is "the mount of the parent has moved along" "$(mounts_at "$MNT/snapshots/debian/fs") $(mounts_at "$MNT/snapshots/base/fs")" "1 0"
is "the parent reads under the new name" "$(t cat "$MNT/snapshots/debian/fs/f")" base
is "a child that was idle reads" "$(t cat "$MNT/active/idle/fs/f")" base
works "a new child can stand on the new name" mkdir "$MNT/active/later@debian"
fails "and none on the old one" ENOENT mkdir "$MNT/active/never@base"
like "mount of the new name" "$(t cat "$MNT/snapshots/debian/mount")" "snapshots/debian/fs$"

# ---- active and view in use ----------------------------------------------

move active/writer active/author
is "the writer goes on under the new KEY" "$(attempt "$writing")" ok
is "and the working directory" "$(attempt "$inside")" ok
is "what it writes is seen there" "$(t ls "$MNT/active/author/fs/d")" made-by-b_hold
is "the mount is the same" "$(device_at "$MNT/active/author/fs")" "$device"
is "and is seen in one place" "$(overlays) $(mounts_at "$MNT/active/writer/fs")" "$(awk -v p="$MNT/" \
    'index($5, p) == 1 && / - overlay / && !seen[$5]++ { n++ } END { print n }' /proc/self/mountinfo) 0"
is "name in info" "$(field name "$MNT/active/author/info")" author
is "mount" "$(t cat "$MNT/active/author/mount")" "-o rbind,rw $MNT/active/author/fs"
move views/reader views/looker
is "the reader goes on" "$(attempt "$reading")" ok
is "the view reads under the new KEY" "$(t cat "$MNT/views/looker/fs/f")" base
is "children follow" "$(sort "$MNT/snapshots/debian/children" | xargs)" \
    "active/author active/idle active/later snapshots/grandchild views/looker"
fails "commit is still busy under the new KEY" EBUSY rename "$MNT/active/author" "$MNT/snapshots/author"
fails "so is removal" EBUSY rmdir "$MNT/active/author"
fails "and that of the view" EBUSY rmdir "$MNT/views/looker"

# a working directory in the entry itself goes along as well
cd "$MNT/active/author" || fail "cd into an entry"
move active/author active/poet
is "relative to a working directory in the entry" "$(t cat info | sed -n 's/^name: //p') $(t cat fs/f)" "poet base"
cd / || fail "cd /"

# ---- a KEY used again ----------------------------------------------------

prepare writer grandchild
is "a KEY renamed away is used again: the fresh entry" "$(t cat "$MNT/active/writer/fs/f")" grandchild
is "with a parent of its own" "$(field parent "$MNT/active/writer/info")" grandchild
isnt "and another id" "$(field id "$MNT/active/writer/info")" "$(field id "$MNT/active/poet/info")"
is "it has its own mount" "$(mounts_at "$MNT/active/writer/fs")" 1
nok "nothing of the old one is in it" test -e "$MNT/active/writer/fs/new"
is "the old one goes on under its name" "$(attempt "$writing")" ok

bad='' last=''
for i in $(seq 30); do
    prepare again debian
    seen=$(t ls "$MNT/active/again/fs" | tr '\n' ' ')
    [ "$seen" = "d f " ] || bad+="round $i: $seen; "
    echo "$i" >"$MNT/active/again/fs/of-$i"
    id=$(field id "$MNT/active/again/info")
    [ "$id" != "$last" ] || bad+="round $i: id $id again; "
    last=$id
    case $((i % 3)) in
    0) t rmdir "$MNT/active/again" || bad+="round $i: rmdir; " ;;
    1) [ "$(errno rename "$MNT/active/again" "$MNT/active/away$i")" = ok ] || bad+="round $i: rename; " ;;
    2) commit again "away$i" || bad+="round $i: commit; " ;;
    esac
done
is "thirty times the same KEY: a fresh entry each time" "$bad" ""
is "those renamed hold their own file" "$(cd "$MNT" && printf '%s\n' {active,snapshots}/away*/fs/of-* | wc -l)" 20
is "and only that" "$(cd "$MNT" && for f in {active,snapshots}/away*/fs/of-*; do
    [ "$(cat "$f")" = "${f##*of-}" ] && [[ $f = */away${f##*of-}/* ]] || echo "$f"
done)" ""

# labels and info are not remembered either
prepare tagged
echo one >"$MNT/active/tagged/labels/k"
t cat "$MNT/active/tagged/info" "$MNT/active/tagged/labels/k" >/dev/null
t rmdir "$MNT/active/tagged"
prepare tagged debian
is "a label of the entry before is not there" "$(ls -A "$MNT/active/tagged/labels")" ""
is "info is that of the new one" "$(field parent "$MNT/active/tagged/info")" debian

# the NAME of a snapshot, with a child that stands on the old one
move snapshots/grandchild snapshots/elder
snapshot grandchild
is "a NAME used again: the fresh snapshot" "$(t cat "$MNT/snapshots/grandchild/info" | sed -n 's/^depth: //p')" 1
parent_link views/deep elder
parent_link active/writer elder
is "the child still reads the old one" "$(t cat "$MNT/views/deep/fs/of-grandchild")" grandchild
is "and its new name too" "$(t ls "$MNT/snapshots/elder/fs" | xargs)" "d f of-grandchild"

# ---- exchange ------------------------------------------------------------

snapshot one
snapshot two
prepare on-one one
t mkdir "$MNT/views/on-two@two"
hold read "$MNT/active/on-one/fs/of-one"
on_one=$HOLD
hold cwd "$MNT/snapshots/two/fs/d"
in_two=$HOLD
ids="$(field id "$MNT/snapshots/one/info") $(field id "$MNT/snapshots/two/info")"
t cat "$MNT/snapshots/one/fs/of-one" "$MNT/views/on-two/fs/of-two" >/dev/null
works "two snapshots in use change names" exchange "$MNT/snapshots/one" "$MNT/snapshots/two"
is "each shows what the other did" "$(t cat "$MNT/snapshots/one/fs/f" "$MNT/snapshots/two/fs/f" | xargs)" "two one"
is "ids go along" "$(field id "$MNT/snapshots/two/info") $(field id "$MNT/snapshots/one/info")" "$ids"
is "names in info" "$(field name "$MNT/snapshots/one/info") $(field name "$MNT/snapshots/two/info")" "one two"
parent_link active/on-one two
parent_link views/on-two one
is "readers go on" "$(attempt "$on_one") $(attempt "$in_two")" "ok EROFS"
works "two active ones in use change names" exchange "$MNT/active/on-one" "$MNT/active/poet"
is "the contents changed places" "$(t cat "$MNT/active/on-one/fs/f" "$MNT/active/poet/fs/f" | xargs)" "base one"
is "writer and reader go on" "$(attempt "$writing") $(attempt "$on_one")" "ok ok"
fails "the busy one is busy under its new KEY" EBUSY rename "$MNT/active/on-one" "$MNT/snapshots/x"
fails "two of different folders do not exchange" EPERM exchange "$MNT/active/on-one" "$MNT/snapshots/one"

# ---- given up ------------------------------------------------------------

for n in "$writing" "$inside" "$reading" "$parent_reading" "$deep" "$on_one" "$in_two"; do
    release "$n"
done
works "no longer in use, it is committed" rename "$MNT/active/on-one" "$MNT/snapshots/written"
works "and the view removed" rmdir "$MNT/views/looker"
before=$(state)
restart
is "all names are the same after a restart" "$(state)" "$before"
parent_link active/poet two
parent_link views/deep elder
ok "nothing is left over in the store" wait_until 100 settled

done_testing
