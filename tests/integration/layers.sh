#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Layers in and out of the tree: changes, layer.tar read and written, what their sizes and errors are, who is kept out.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

new_mount
sum() { sha256sum <"$1" | cut -d ' ' -f 1; }
size() { stat -c %s "$1"; }
import() { errno import "$1" "$MNT/active/$2/layer.tar"; }

# ---- changes -------------------------------------------------------------

prepare base
fill "$MNT/active/base/fs"
mkdir -p "$MNT/active/base/fs/opaque/old" "$MNT/active/base/fs/a" "$MNT/active/base/fs/gone/deep"
touch "$MNT/active/base/fs/opaque/kept" "$MNT/active/base/fs/a/x" "$MNT/active/base/fs/a-b"
is "changes of an active base, as of now" "$(t cat "$MNT/active/base/changes" | tr '\n' ' ')" \
    "A /a A /a-b A /a/x A /dir A /dir/big A /dir/deep A /dir/deep/file A /file A /gone A /gone/deep A /hard A /opaque A /opaque/kept A /opaque/old A /soft "
ok "commit" commit base
is "changes of a committed one has no size before it was read" "$(size "$MNT/snapshots/base/changes")" 0
t cat "$MNT/snapshots/base/changes" >"$BASE/changes"
is "… and the true one after" "$(size "$MNT/snapshots/base/changes")" "$(size "$BASE/changes")"

prepare child base
work=$MNT/active/child/fs
rm -r "$work/opaque" "$work/gone" "$work/soft"
mkdir "$work/opaque" "$work/soft"
touch "$work/opaque/new" "$work/opaque/kept"
chmod 600 "$work/a/x"
chmod 700 "$work/dir/deep"
printf x >"$work/"$'tab\there'
printf x >"$work/with space"
printf x >"$work/quo\"te\\"
is "changes of a child" "$(t cat "$MNT/active/child/changes")" 'M /a/x
M /dir/deep
D /gone
M /opaque/kept
A /opaque/new
D /opaque/old
A "/quo\"te\\"
M /soft
A "/tab\there"
A /with space'
ok "a view is there" t mkdir "$MNT/views/v@base"
is "changes of a view" "$(t cat "$MNT/views/v/changes")" ""

# ---- layer.tar, read -----------------------------------------------------

is "of an active snapshot it shows no size" "$(size "$MNT/active/child/layer.tar")" 0
ok "the layer of an active snapshot is an archive" t tar tf "$MNT/active/child/layer.tar"
like "it holds the whiteout of what is gone" "$(t tar tf "$MNT/active/child/layer.tar" | tr '\n' ' ')" '(^| )(\./)?\.wh\.gone '
like "and the mark of an opaque directory" "$(t tar tf "$MNT/active/child/layer.tar" | tr '\n' ' ')" 'opaque/\.wh\.\.wh\.\.opq '
ok "commit" commit child
is "of a committed one it shows none before it was read" "$(size "$MNT/snapshots/child/layer.tar")" 0
unlike "info has no diffid yet" "$(t cat "$MNT/snapshots/child/info")" diffid
ok "cp takes it out" t cp "$MNT/snapshots/child/layer.tar" "$BASE/child.tar"
is "then stat shows its size" "$(size "$MNT/snapshots/child/layer.tar")" "$(size "$BASE/child.tar")"
is "and info its diffid" "$(field diffid "$MNT/snapshots/child/info")" "sha256:$(sum "$BASE/child.tar")"
ok "cp takes it out again" t cp "$MNT/snapshots/child/layer.tar" "$BASE/again.tar"
ok "the same bytes" cmp "$BASE/child.tar" "$BASE/again.tar"
is "cat as well" "$(t cat "$MNT/snapshots/child/layer.tar" | sum /dev/stdin)" "$(sum "$BASE/child.tar")"
is "tail -c gets the end" "$(t tail -c 3000 "$MNT/snapshots/child/layer.tar" | sum /dev/stdin)" "$(tail -c 3000 "$BASE/child.tar" | sum /dev/stdin)"
is "a piece from the middle" "$(t dd if="$MNT/snapshots/child/layer.tar" bs=700 skip=3 count=2 status=none | sum /dev/stdin)" \
    "$(dd if="$BASE/child.tar" bs=700 skip=3 count=2 status=none | sum /dev/stdin)"
exec {fd}<"$MNT/snapshots/child/layer.tar"
head -c 2048 <&"$fd" >/dev/null
is "read backwards it begins anew" "$(dd bs=512 count=1 iflag=fullblock status=none <"/proc/self/fd/$fd" | sum /dev/stdin)" "$(head -c 512 "$BASE/child.tar" | sum /dev/stdin)"
exec {fd}<&-
ok "no file is left open" t rmdir "$MNT/views/v"
is "a view's layer holds nothing" "$(t mkdir "$MNT/views/v@base" && t tar tf "$MNT/views/v/layer.tar" | grep -cv '^\./$')" 0

prepare seek child
head -c 3000000 /dev/urandom >"$MNT/active/seek/fs/big"
is "an active one can't be read backwards" "$(t python3 -c "
import os, sys, errno
fd = os.open(sys.argv[1], os.O_RDONLY)
os.read(fd, 1000000)
try:
    os.pread(fd, 512, 0)
    print('ok')
except OSError as e:
    print(errno.errorcode[e.errno])" "$MNT/active/seek/layer.tar")" ESPIPE
logged "and the log says why" read active/seek/layer.tar ESPIPE "may change"
ok "removed" t rmdir "$MNT/active/seek"

prepare white
touch "$MNT/active/white/fs/.wh.x"
lines=$(t wc -l <"$MNT/log")
fails "a name that a layer can't carry" EINVAL read "$MNT/active/white/layer.tar"
logged "is the reason in the log" read active/white/layer.tar EINVAL "begins with .wh."
is "in one line" "$(t wc -l <"$MNT/log")" $((lines + 1))
ok "removed" t rmdir "$MNT/active/white"

# ---- layer.tar, written --------------------------------------------------

prepare in base
touched=$(stat -c %y "$MNT/active/in") updated=$(field updated "$MNT/active/in/info")
sleep 0.02
ok "cp brings it in" t cp "$BASE/child.tar" "$MNT/active/in/layer.tar"
ok "the bytes of the archive are the label" test "$(t cat "$MNT/active/in/labels/stratafs.import.diffid")" = "sha256:$(sum "$BASE/child.tar")"
ok "and so are those given" test "$(t cat "$MNT/active/in/labels/stratafs.import.digest")" = "sha256:$(sum "$BASE/child.tar")"
isnt "the time of the entry is that of its labels" "$(stat -c %y "$MNT/active/in")" "$touched"
isnt "… in info as well" "$(field updated "$MNT/active/in/info")" "$updated"
same_tree "what came in equals what went out" "$MNT/active/in/fs" "$MNT/snapshots/child/fs"
is "and so do its changes" "$(t cat "$MNT/active/in/changes")" "$(t cat "$MNT/snapshots/child/changes")"
prepare gap base
mkdir "$BASE/zeroes" && head -c 4M /dev/zero >"$BASE/zeroes/zeroes" && seq 100000 >"$BASE/zeroes/zeroes.after"
tar -C "$BASE/zeroes" --sort=name -cf "$BASE/full.tar" . && cp --sparse=always "$BASE/full.tar" "$BASE/sparse.tar"
is "a hole in the archive file is out of order" "$(t cp "$BASE/sparse.tar" "$MNT/active/gap/layer.tar" 2>&1 | grep -o 'Illegal seek' | head -n 1)" "Illegal seek"
logged "and the log says what to do" import active/gap/layer.tar ESPIPE "cp --sparse=never, or cat"
is "a whole archive, then something out of order" "$(t python3 -c "
import os, sys, errno
fd = os.open(sys.argv[2], os.O_WRONLY)
data = open(sys.argv[1], 'rb').read()
while data:
    data = data[os.write(fd, data):]
for end in (lambda: os.pwrite(fd, b'x', 1 << 20), lambda: os.close(fd)):
    try:
        end()
        print('ok')
    except OSError as e:
        print(errno.errorcode[e.errno])" "$BASE/child.tar" "$MNT/active/gap/layer.tar" | xargs)" "ESPIPE ESPIPE"
is "… leaves nothing" "$(t cat "$MNT/active/gap/changes")" ""
ok "written without holes it comes in" t cp --sparse=never "$BASE/sparse.tar" "$MNT/active/gap/layer.tar"
is "the next one is refused: the layer holds something" "$(import "$BASE/child.tar" in)" ENOTEMPTY
logged "and the log says what to do" import active/in/layer.tar ENOTEMPTY "child"
ok "commit of it" commit in
ok "out again" t cp "$MNT/snapshots/in/layer.tar" "$BASE/in.tar"
ok "the same bytes" cmp "$BASE/child.tar" "$BASE/in.tar"

for kind in gzip zstd xz bzip2; do
    "$kind" -c <"$BASE/child.tar" >"$BASE/child.tar.$kind"
    prepare "$kind" base
    is "$kind comes in" "$(import "$BASE/child.tar.$kind" "$kind")" ok
    is "$kind: digest as given" "$(t cat "$MNT/active/$kind/labels/stratafs.import.digest")" "sha256:$(sum "$BASE/child.tar.$kind")"
    is "$kind: digest of the archive" "$(t cat "$MNT/active/$kind/labels/stratafs.import.diffid")" "sha256:$(sum "$BASE/child.tar")"
    is "$kind: the same tree" "$(digest "$MNT/active/$kind/fs")" "$(digest "$MNT/snapshots/child/fs")"
    t rmdir "$MNT/active/$kind"
done

# flip FILE FROM-END: another byte there
flip() {
    local at=$(($(size "$1") - $2)) byte
    byte=$(od -An -tu1 -j "$at" -N 1 "$1")
    printf '%b' "\\0$(printf %o $((byte ^ 16)))" | dd of="$1" bs=1 seek="$at" conv=notrunc status=none
}
# of a compressed stream in two parts, and one whose sum is wrong: where that stands, from the end
for kind in gzip:8 zstd:2 xz:28 bzip2:5; do
    at=${kind#*:} kind=${kind%:*}
    prepare "$kind" base
    cp "$BASE/child.tar.$kind" "$BASE/bad"
    flip "$BASE/bad" "$at"
    is "$kind with a wrong sum" "$(import "$BASE/bad" "$kind")" EINVAL
    head -c -1 "$BASE/child.tar.$kind" >"$BASE/bad"
    is "$kind without its last byte" "$(import "$BASE/bad" "$kind")" EINVAL
    { head -c 3000 "$BASE/child.tar" | "$kind" -c && tail -c +3001 "$BASE/child.tar" | "$kind" -c; } >"$BASE/parts"
    is "$kind in two parts" "$(import "$BASE/parts" "$kind")" ok
    is "… is one stream" "$(t cat "$MNT/active/$kind/labels/stratafs.import.diffid")" "sha256:$(sum "$BASE/child.tar")"
    t rmdir "$MNT/active/$kind"
done
prepare padded base
{ cat "$BASE/child.tar.gzip" && head -c 1000 /dev/zero; } >"$BASE/padded"
is "gzip with zeroes behind it" "$(import "$BASE/padded" padded)" ok
is "… which are part of what was given" "$(t cat "$MNT/active/padded/labels/stratafs.import.digest")" "sha256:$(sum "$BASE/padded")"
is "… and not of the archive" "$(t cat "$MNT/active/padded/labels/stratafs.import.diffid")" "sha256:$(sum "$BASE/child.tar")"
t rmdir "$MNT/active/padded"
prepare long base
{ cat "$BASE/child.tar.gzip" && head -c 5000 "$BASE/child.tar.gzip"; } >"$BASE/bad"
truncate -s "$(($(size "$BASE/child.tar.gzip") + 100))" "$BASE/bad"
is "gzip with half a part behind it" "$(import "$BASE/bad" long)" EINVAL
t rmdir "$MNT/active/long"
for bs in 1 513 100000; do
    prepare "bs$bs" base
    ok "written $bs bytes at a time" t dd if="$BASE/child.tar" of="$MNT/active/bs$bs/layer.tar" bs="$bs" conv=notrunc status=none
    is "… the same tree" "$(digest "$MNT/active/bs$bs/fs")" "$(digest "$MNT/snapshots/child/fs")"
    t rmdir "$MNT/active/bs$bs"
done
prepare shell base
t cat "$BASE/child.tar" >"$MNT/active/shell/layer.tar"
is "a shell's redirection works" "$(digest "$MNT/active/shell/fs")" "$(digest "$MNT/snapshots/child/fs")"
ok "one cp from tree to tree: a base" prepare twin
ok "… and its layer" t cp "$MNT/snapshots/base/layer.tar" "$MNT/active/twin/layer.tar"
is "… equals the first" "$(digest "$MNT/active/twin/fs")" "$(digest "$MNT/snapshots/base/fs")"

# ---- xattrs called as overlayfs calls its own ----------------------------

prepare named
mkdir -p "$MNT/active/named/fs/d/e"
touch "$MNT/active/named/fs/d/a"
mkfifo "$MNT/active/named/fs/d/p"
for name in $(own_names "$MNT/active/named/fs"); do
    for path in . d d/a d/e; do
        ok "$path: $name" setfattr -n "$name" -v mine "$MNT/active/named/fs/$path"
    done
    case $name in trusted.*) ok "d/p: $name" setfattr -n "$name" -v mine "$MNT/active/named/fs/d/p" ;; esac
done
ok "commit" commit named
mkdir -p "$BASE/named/d/e"
touch "$BASE/named/d/a" "$BASE/named/d/p" "$BASE/named/d/e/new"
ln "$BASE/named/d/a" "$BASE/named/d/c"
ln "$BASE/named/d/p" "$BASE/named/d/q"
# of the links only what comes second, so that they lead to what lies below
t tar -C "$BASE/named" --no-recursion -cf "$BASE/named.tar" d/a d/c d/p d/q d/e/new
t tar --delete -f "$BASE/named.tar" d/a d/p
prepare named2 named
is "a layer with links to what has them comes in" "$(import "$BASE/named.tar" named2)" ok
for path in . d d/a d/e d/p; do
    is "$path has them still" "$(xattrs "$MNT/active/named2/fs/$path")" "$(xattrs "$MNT/snapshots/named/fs/$path")"
done
is "a link to a file has them" "$(xattrs "$MNT/active/named2/fs/d/c")" "$(xattrs "$MNT/snapshots/named/fs/d/a")"
is "a link to a pipe" "$(xattrs "$MNT/active/named2/fs/d/q")" "$(xattrs "$MNT/snapshots/named/fs/d/p")"
is "nothing is changed but what came" "$(t cat "$MNT/active/named2/changes" | tr '\n' ' ')" "M /d/a A /d/c A /d/e/new M /d/p A /d/q "
ok "out, and into another" sh -c "cat '$MNT/snapshots/named/layer.tar' >'$BASE/named.tar'"
prepare named3
is "which comes in" "$(import "$BASE/named.tar" named3)" ok
is "with all of them" "$(for path in . d d/a d/e d/p; do xattrs "$MNT/active/named3/fs/$path"; done)" \
    "$(for path in . d d/a d/e d/p; do xattrs "$MNT/snapshots/named/fs/$path"; done)"
for entry in active/named2 active/named3 snapshots/named; do ok "removed: $entry" t rmdir "$MNT/$entry"; done

# ---- what is refused -----------------------------------------------------

prepare no base
before=$(state)
head -c 5000 "$BASE/child.tar" >"$BASE/cut.tar"
is "an archive that is cut off" "$(import "$BASE/cut.tar" no)" EINVAL
logged "is said to be so" import active/no/layer.tar EINVAL
bad=''
for n in 512 1024 1536 2048 2560 3072 3584 4096; do
    head -c "$n" "$BASE/child.tar" >"$BASE/cut.tar"
    [ "$(import "$BASE/cut.tar" no)" = EINVAL ] || bad+="$n "
done
is "wherever, between two entries as well" "$bad" ""
is "it leaves nothing" "$(t cat "$MNT/active/no/changes")" ""
is "no archive at all" "$(import /bin/ls no)" EINVAL
: >"$BASE/empty.tar"
t cp "$BASE/empty.tar" "$MNT/active/no/layer.tar"
# a close with nothing written says nothing, and the end of the file comes after it
wait_until 20 grep -q "nothing was written" "$MNT/log"
logged "nothing at all" import active/no/layer.tar EINVAL "nothing was written"
gzip -c "$BASE/child.tar" | head -c 400 >"$BASE/cut.tar.gz"
is "a compressed one that is cut off" "$(import "$BASE/cut.tar.gz" no)" EINVAL
fails "a snapshot" EROFS import "$BASE/child.tar" "$MNT/snapshots/base/layer.tar"
fails "a view" EROFS import "$BASE/child.tar" "$MNT/views/v/layer.tar"
fails "a truncation" EPERM truncate "$MNT/active/no/layer.tar" 0
is "nothing has changed" "$(state)" "$before"
is "and the files are as before" "$(digest "$MNT/active/no/fs")" "$(digest "$MNT/snapshots/base/fs")"

hold cwd "$MNT/active/no/fs"
is "while fs/ is in use" "$(import "$BASE/child.tar" no)" EBUSY
logged "the log names who" import active/no/layer.tar EBUSY "${HOLD_PID[HOLD]}"
release "$HOLD"
mkfifo "$BASE/slow"
spawn cp "$BASE/slow" "$MNT/active/no/layer.tar"
exec {fd}>"$BASE/slow"
head -c 3000 "$BASE/child.tar" >&"$fd"
busy() { [ "$(errno stat "$MNT/active/$1/fs")" = EBUSY ]; }
wait_until 20 busy no
is "a second writer at once" "$(import "$BASE/child.tar" no)" EBUSY
fails "a touch of fs/ meanwhile" EBUSY stat "$MNT/active/no/fs/file"
fails "raw O_PATH" EBUSY opath "$MNT/active/no/fs"
fails "a commit" EBUSY rename "$MNT/active/no" "$MNT/snapshots/no"
logged "and the log says why" rename active/no EBUSY "imported"
fails "a removal" EBUSY rmdir "$MNT/active/no"
ok "the other files can be read" t cat "$MNT/active/no/info"
exec {fd}>&-
reap "$SPAWNED"
is "when the writer gives up, all is as before" "$(digest "$MNT/active/no/fs")" "$(digest "$MNT/snapshots/base/fs")"
is "and the layer comes in" "$(import "$BASE/child.tar" no)" ok

# ---- many at one, a writer that is killed, many at once ------------------

prepare one base
pids=()
for i in $(seq 24); do
    import "$BASE/child.tar" one >"$BASE/one$i" &
    pids+=($!)
done
for pid in "${pids[@]}"; do reap "$pid"; done
is "of 24 who write to one at once one comes through" "$(cat "$BASE"/one* | grep -c '^ok$')" 1
is "the others came too early or too late" "$(cat "$BASE"/one* | grep -cvE '^(ok|EBUSY|ENOTEMPTY)$')" 0
is "none waited in vain" "$(t grep -c 'active/one.*just being' "$MNT/log")" 0
is "the layer is whole" "$(digest "$MNT/active/one/fs")" "$(digest "$MNT/snapshots/child/fs")"


prepare killed base
spawn cp "$BASE/slow" "$MNT/active/killed/layer.tar"
exec {fd}>"$BASE/slow"
head -c 3000 "$BASE/child.tar" >&"$fd"
wait_until 20 busy killed
kill -KILL "$SPAWNED"
reap "$SPAWNED"
exec {fd}>&-
free() { [ "$(errno stat "$MNT/active/killed/fs")" = ok ]; }
ok "a killed writer leaves the snapshot as it was" wait_until 20 free
is "… with the files of its parent" "$(digest "$MNT/active/killed/fs")" "$(digest "$MNT/snapshots/base/fs")"

pids=()
for i in $(seq 16); do
    prepare "many$i" base
    cp "$BASE/child.tar" "$MNT/active/many$i/layer.tar" &
    pids+=($!)
    cat "$MNT/snapshots/base/layer.tar" >"$BASE/out$i" &
    pids+=($!)
done
bad=0
for pid in "${pids[@]}"; do wait "$pid" || bad=$((bad + 1)); done
is "sixteen come in and sixteen go out at once" "$bad" 0
want=$(digest "$MNT/snapshots/child/fs")
for i in $(seq 16); do
    [ "$(digest "$MNT/active/many$i/fs")" = "$want" ] && cmp -s "$BASE/out$i" "$BASE/out1" || bad=$((bad + 1))
done
is "all of them whole" "$bad" 0
like "metrics count bytes in" "$(t grep ^stratafs_imported_bytes_total "$MNT/metrics")" ' [1-9][0-9]+$'
like "and out" "$(t grep ^stratafs_exported_bytes_total "$MNT/metrics")" ' [1-9][0-9]+$'

# ---- limits, and the next start ------------------------------------------

restart maxlayer=4096
prepare bomb base
head -c 1000000 /dev/zero >"$BASE/zero"
tar cf - -C "$BASE" zero | gzip >"$BASE/bomb.tar.gz"
is "more than the limit, unpacked" "$(import "$BASE/bomb.tar.gz" bomb)" EFBIG
logged "and the log names it" import active/bomb/layer.tar EFBIG
is "the snapshot is as before" "$(digest "$MNT/active/bomb/fs")" "$(digest "$MNT/snapshots/base/fs")"
is "digests are remembered" "$(field diffid "$MNT/snapshots/child/info")" "sha256:$(sum "$BASE/child.tar")"
for entry in "$MNT"/active/*; do t rmdir "$entry"; done
ok "nothing is left over" wait_until 30 settled
done_testing
