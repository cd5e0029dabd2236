#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# stratafs --check: a store with one kind of damage after the other. Each is found, nothing is changed by looking, --repair mends what
# can be mended, nothing is deleted that no crash explains, and the store works afterwards.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

examine() { # ARG...: sets STATUS and OUTPUT
    STATUS=0
    OUTPUT=$(timeout -k 5 60 "$STRATAFS" --check "$STORE" "$@" 2>&1) || STATUS=$?
}

# Everything in the store, but what is no part of its contents
facts() { (cd "$STORE" && find . ! -path './trash*' ! -path './lost+found*' -printf '%p %y %m %l %s\n' | LC_ALL=C sort); }

id_of() { basename "$(readlink "$STORE/$1")"; }

# damaged DESC EXPECTED-STATUS-OF-REPAIR WORDS COMMAND...: does the damage, looks, repairs, looks again
damaged() {
    local desc=$1 want=$2 words=$3 before
    shift 3
    rm -rf "$STORE"
    cp -a "$BASE/good" "$STORE"
    "$@"
    before=$(facts)
    examine
    is "$desc: found" "$STATUS" 4
    like "$desc: named" "$OUTPUT" "found: .*$words"
    is "$desc: looking changes nothing" "$(facts)" "$before"
    examine --repair
    is "$desc: repair" "$STATUS" "$want"
    diag "$OUTPUT"
    examine
    is "$desc: looked at again" "$STATUS" "$([ "$want" = 1 ] && echo 0 || echo 4)"
}

lost() { find "$STORE/lost+found" -name '*.note' -exec cat {} + 2>/dev/null; }

flip() { # FILE BYTE BIT
    local value
    value=$(od -An -tu1 -j "$2" -N 1 "$1") || return 1
    # shellcheck disable=SC2059
    printf "\\x$(printf %x $((value ^ (1 << $3))))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

new_mount fingerprint=on
snapshot base
snapshot mid base
prepare work mid
echo data >"$MNT/active/work/fs/new"
t mkdir "$MNT/views/look@mid"
snapshot top mid
echo value >"$MNT/snapshots/mid/labels/key"
cat "$MNT/snapshots/mid/usage" "$MNT/snapshots/base/usage" >/dev/null
examine
is "in use: clean" "$STATUS" 0
like "in use: says so" "$OUTPUT" "the store is in use"
# With too few descriptors it can't read all, and says so: what was not looked at is not called clean
unread=0 wrong='' all=$OUTPUT
for n in {4..24}; do
    STATUS=0
    OUTPUT=$(ulimit -n "$n" && timeout -k 5 60 "$STRATAFS" --check "$STORE" 2>&1) || STATUS=$?
    case $STATUS:$OUTPUT in
    0:"$all") ;;
    8:*"can't read all of"*) unread=$((unread + 1)) ;;
    8:* | 127:*) ;; # it could not even open the store, or be run
    *) ! grep '^found: ' <<<"$OUTPUT" | grep -qv "it can't be examined" || wrong+="$n: $OUTPUT" ;;
    esac
done
ok "too few descriptors: what was not looked at is not called clean ($unread times)" test "$unread" -ge 1
is "too few descriptors: nor damaged" "$wrong" ""
examine --repair
is "in use: no repair" "$STATUS" 8
like "in use: why" "$OUTPUT" "in use"
works "it is mounted" opendir "$MNT/active/work/fs"
cp "$STORE/layers/$(id_of active/work)/mounted" "$BASE/mark"
stop_program
cp -a "$STORE" "$BASE/good"
examine
is "after a clean end: clean" "$STATUS" 0
base=$(id_of snapshots/base) mid=$(id_of snapshots/mid) work=$(id_of active/work) view=$(id_of views/look) top=$(id_of snapshots/top)

damaged "an orphan" 1 "layers/$view: no link" rm "$STORE/views/look"
# cp -a keeps the record of another ID, which then is a damaged one
damaged "a layer of nobody with files" 1 "layers/77: .*holds files" cp -a "$STORE/layers/$base" "$STORE/layers/77"
ok "which is kept" test -e "$STORE/lost+found/1/fs/f" -o -e "$STORE/lost+found/2/fs/f"
like "with a note" "$(lost)" "from: layers/77"
damaged "a link to no layer" 1 "snapshots/gone: layer 4000" ln -s ../layers/4000 "$STORE/snapshots/gone"
relink() { ln -sfn "$2" "$STORE/$1"; }
damaged "a link that leads to nothing readable" 1 "link snapshots/mid does not lead here" relink snapshots/mid '../lbyers/x'
is "is mended from the record" "$(id_of snapshots/mid)" "$mid"
damaged "a link that leads to another layer" 1 "link snapshots/mid does not lead here" relink snapshots/mid "../layers/$base"
is "is mended from the record too" "$(id_of snapshots/mid)" "$mid"
damaged "a link under a wrong name" 1 "leads here, but the record says" mv "$STORE/snapshots/mid" "$STORE/snapshots/mie"
ok "is named as the record says" test -L "$STORE/snapshots/mid"
damaged "a link that is none of ours" 1 "snapshots/odd: this link" relink snapshots/odd /etc/passwd
like "goes to lost+found" "$(lost)" "from: snapshots/odd"
damaged "a file among the links" 1 "active/file: it is no link" touch "$STORE/active/file"
damaged "an old name" 1 "an old name" relink active/old "../layers/$mid"
damaged "a record with a wrong bit" 1 "one of the two copies" flip "$STORE/layers/$mid/meta" 40 3
flip_both() { flip "$1" "$2" "$3" && flip "$1" $(($2 + $(stat -c %s "$1") / 2)) "$3"; }
damaged "both copies of a record with a wrong bit" 1 "record of layer $mid is damaged" flip_both "$STORE/layers/$mid/meta" 40 3
is "is written anew with its parent" "$(sed -n 's/^parent: //p' "$STORE/layers/$mid/meta" | uniq)" "$base"
like "the old one is kept" "$(lost)" "$mid/meta"
three_things() {
    flip_both "$STORE/layers/$mid/meta" 40 3 && flip "$STORE/layers/$mid/usage" 0 1 && flip "$STORE/layers/$mid/labels/key" 0 2
}
damaged "a record, a count and a label of one layer" 1 "record of layer $mid is damaged" three_things
damaged "a file in place of a link" 1 "snapshots/top: it is no link" eval 'rm "$STORE/snapshots/top" && touch "$STORE/snapshots/top"'
damaged "a lost record" 1 "record of layer $base is missing" rm "$STORE/layers/$base/meta"
drop_layer() { rm -rf "$STORE/layers/$base" "$STORE/snapshots/base"; }
damaged "a missing parent" 4 "its parent, layer $base, is missing" drop_layer
damaged "a mark that is missing" 1 "does not know of it" rm "$STORE/layers/$base/children/$mid"
damaged "a mark of nobody" 1 "mark of a child that is none" touch "$STORE/layers/$base/children/999"
damaged "a mark of another's child" 1 "mark of a child that is none" touch "$STORE/layers/$base/children/$work"
damaged "a strange mark" 1 "no mark of a child" touch "$STORE/layers/$base/children/x"
damaged "a strange file in a layer" 1 "no part of a layer" touch "$STORE/layers/$mid/x"
damaged "a strange file in the store" 1 "x: it is no part of a store" touch "$STORE/x"
damaged "a strange file in layers/" 1 "layers/x: its name" touch "$STORE/layers/x"
damaged "a file in place of a layer" 1 "layers/99: a layer is" touch "$STORE/layers/99"
damaged "something in empty/" 1 "empty/ has to be empty" mkdir "$STORE/empty/d"
damaged "a strange label" 1 "no label" mkdir "$STORE/layers/$mid/labels/dir"
damaged "a missing fs/" 4 "this folder of views/look|this folder of active/work" mv "$STORE/layers/$work/fs" "$BASE/away"
rm -rf "$BASE/away"
damaged "a missing work/" 1 "this folder of active/work" rm -rf "$STORE/layers/$work/work"
damaged "a missing folder" 1 "trash: this folder" rmdir "$STORE/trash"
damaged "layers/ is missing" 4 "layers: this folder" mv "$STORE/layers" "$BASE/layers"
examine --repair
is "layers/ is missing: a second repair" "$STATUS" 4
STATUS=0
OUTPUT=$(timeout -k 5 60 "$STRATAFS" "$STORE" "$MNT" 2>&1) || STATUS=$?
is "layers/ is missing: no start" "$STATUS" 1
is "layers/ is missing: it says why" "$OUTPUT" \
    "stratafs: the store $STORE has no layers/, which holds the files of all entries: put it back"
mkdir "$STORE/layers"
examine --repair
is "layers/ is empty: a repair" "$STATUS" 4
rmdir "$STORE/layers"
mv "$BASE/layers" "$STORE/layers"
is "layers/ is there again: no name is lost" "$(cd "$STORE" && echo */look */work */base */mid */top)" \
    "views/look active/work snapshots/base snapshots/mid snapshots/top"
examine
is "layers/ is there again: all is in order" "$STATUS" 0
for folder in active views snapshots; do
    damaged "$folder/ is missing" 1 "$folder: this folder" rm -r "$STORE/$folder"
    is "$folder/ is missing: the repair deletes nothing" "$(ls "$STORE/trash" "$STORE/layers" | sort -u | grep -c '^[0-9]')" 5
    is "$folder/ is missing: and finds all names" "$(cd "$STORE" && echo */"look" */"work" */"base" */"mid" */"top")" \
        "views/look active/work snapshots/base snapshots/mid snapshots/top"
done
lose_link() { rm "$STORE/snapshots/top" && rm -f "$STORE/layers/$mid/children/$top"; }
damaged "a committed one without a link" 1 "its link snapshots/top is lost" lose_link
ok "is there again" test -e "$STORE/snapshots/top/fs/of-top"
damaged "a removal that was cut off" 1 "layers/$top: no link" mv "$STORE/snapshots/top" "$STORE/layers/$top/removed"
nok "is finished" test -e "$STORE/layers/$top" -o -e "$STORE/trash/$top"
damaged "a staged record" 1 "record of a step" cp "$STORE/layers/$mid/meta" "$STORE/layers/$mid/meta.new"
damaged "a usage with a wrong bit" 1 "checksum is wrong" flip "$STORE/layers/$mid/usage" 0 1
damaged "a next with a wrong bit" 1 "next: " flip "$STORE/next" 0 1
damaged "a format with a wrong bit" 1 "format: a bit" flip "$STORE/format" 3 2
damaged "a label with a wrong bit" 1 "the checksum of this label" flip "$STORE/layers/$mid/labels/key" 0 2
damaged "a link with a wrong bit" 1 "a bit of this link" relink snapshots/mid "../layers/$mid/../$work"
is "is mended from what is right of it" "$(id_of snapshots/mid)" "$mid"
flip_mark() { cp "$BASE/mark" "$STORE/layers/$work/mounted" && flip "$STORE/layers/$work/mounted" "$1" 1; } # AT
damaged "a mark with a wrong bit" 1 "mounted: its checksum is wrong; the next" flip_mark 40
damaged "a mark with a wrong boot" 1 "mounted: its checksum is wrong; the next" flip_mark 4
of_volatile() { echo "01234567-89ab-cdef-0123-456789abcdef volatile!xxh3: 0123456789abcdef" >"$STORE/layers/$work/mounted"; }
damaged "a mark of a volatile mount" 4 "mounted: its checksum is wrong, so the entry counts as suspect" of_volatile
damaged "a manifest with a wrong bit" 1 "checksum of this manifest" flip "$STORE/layers/$mid/manifest" 30 1
like "which is kept" "$(lost)" "$mid/manifest"
damaged "a manifest that is missing" 1 "manifest that the record speaks of is missing" rm "$STORE/layers/$mid/manifest"
damaged "a manifest of no commit" 1 "a crash cut the commit off" cp "$STORE/layers/$mid/manifest" "$STORE/layers/$work/manifest"
damaged "a label that was cut off" 1 "setting of a label" touch "$STORE/layers/$mid/labels/.new.1" -d '2 hours ago'

# After each of these the store is what it was: the last one stands for all
start_program
is "the repaired store works" "$(t cat "$MNT/snapshots/mid/fs/of-base" "$MNT/active/work/fs/new" "$MNT/views/look/fs/f" | tr '\n' ' ')" \
    "base data mid "
is "IDs go on" "$(t mkdir "$MNT/active/later" && field id "$MNT/active/later/info")" "$((top + 1))"
stop_program

# slowly ARG…: an examination that takes seconds, as of a large store; $SLOW is its process, $BASE/slow what it says
slowly() {
    timeout -k 5 60 env "ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0" strace -f -qq -o /dev/null -e trace=openat \
        -e inject=openat:delay_enter=200000:when=30+ "$STRATAFS" --check "$STORE" "$@" >"$BASE/slow" 2>&1 &
    SLOW=$!
}
looks() { pgrep -f -- "^$STRATAFS --check $STORE" >/dev/null; }

# The store belongs to whoever starts meanwhile, and what that one does is no finding
slowly
ok "looking: it runs" wait_until 30 looks
said=$(timeout 20 "$STRATAFS" "$STORE" "$MNT" 2>&1)
is "looking: a program starts meanwhile" "$? $said" "0 "
ok "looking: it is looked at still" kill -0 "$SLOW"
n=0 wrong=''
while kill -0 "$SLOW" 2>/dev/null && [ "$n" -lt 3000 ]; do
    n=$((n + 1))
    t sh -c "mkdir '$MNT/active/n$n@mid' && echo v >'$MNT/active/n$n/labels/l' && mv '$MNT/active/n$n' '$MNT/snapshots/n$n' &&
        mv '$MNT/snapshots/n$n' '$MNT/snapshots/m$n' && rmdir '$MNT/snapshots/m$n'" || wrong=$n
done
is "looking: that one works ($n times)" "$wrong" ""
wait "$SLOW"
is "looking: no false alarm" "$? $(grep -c '^found' "$BASE/slow")" "0 0"
diag "$(cat "$BASE/slow")"
t umount -R "$MNT"
wait_until 30 flock -n "$STORE/lock" true
is "the end leaves no process in lock" "$(cat "$STORE/lock")" ""
# A repair keeps it, and is named
echo 1 >"$STORE/lock"
slowly --repair
ok "a repair: it says so in lock" wait_until 30 grep -qx repair "$STORE/lock"
said=$(timeout 20 "$STRATAFS" "$STORE" "$MNT" 2>&1)
is "a repair: no start meanwhile" "$? $said" \
    "1 stratafs: the store $STORE is being repaired by process $(head -n 1 "$STORE/lock"); wait for its end"
isnt "a repair: it is the one that runs" "$(head -n 1 "$STORE/lock")" 1
wait "$SLOW"
is "a repair: in order" "$?" 0
is "a repair: its end leaves no process in lock" "$(cat "$STORE/lock")" ""

# A terminal's escapes do not get through
damaged "a name with an escape" 1 'active/\\033\[31mred' touch "$STORE/active/"$'\e[31mred'

# A mount namespace of somebody's holds a copy of fs/: a commit's mark stays for it, and that is in order
new_mount
prepare held
echo data >"$MNT/active/held/fs/file"
mkdir "$BASE/copy"
# shellcheck disable=SC2016
spawn unshare -m --propagation private sh -c \
    'mount --bind "$0/active/held/fs" "$1" && umount -R -l "$0" && touch "$1.ready" && exec sleep 1000' "$MNT" "$BASE/copy"
ok "a copy in another namespace" wait_until 30 test -e "$BASE/copy.ready"
works "committed while another namespace has its mount" rename "$MNT/active/held" "$MNT/snapshots/held"
stop_program
examine
is "after a clean end: in order" "$STATUS $OUTPUT" "0 1 layers, 0 findings, 0 mended"
unspawn "$SPAWNED"
examine
is "and when that namespace has ended" "$STATUS $OUTPUT" "0 1 layers, 0 findings, 0 mended"
ok "its mark was left" test -e "$STORE"/layers/1/mounted
start_program
ok "and is taken away by the next start" wait_until 30 test ! -e "$STORE"/layers/1/mounted
stop_program

STATUS=0
timeout 60 "$STRATAFS" --check "$BASE/nothing" >/dev/null 2>&1 || STATUS=$?
is "no store" "$STATUS" 8
nok "and none is made" test -e "$BASE/nothing"
mkdir "$BASE/plain"
STATUS=0
timeout 60 "$STRATAFS" --check "$BASE/plain" >/dev/null 2>&1 || STATUS=$?
is "a folder that is no store" "$STATUS" 8
STATUS=0
timeout 60 "$STRATAFS" --check >/dev/null 2>&1 || STATUS=$?
is "no argument" "$STATUS" 2
done_testing
