#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Hostile names and hostile contents: no terminal is commanded, no walk leaves the layer, takes descriptors or memory without a
# bound, or leaves anything behind. HOSTILE_ENTRIES is the number of names in one folder, 50,000 if not said otherwise.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

ENTRIES=${HOSTILE_ENTRIES:-50000}
new_mount durability=none # not slowed down by a sync for each commit
cd / || exit 1
A=$MNT/active V=$MNT/views S=$MNT/snapshots

# ---- names: each byte that could be a command to a terminal
# Bytes that are no UTF-8, and characters of two bytes. The bytes of ASCII can't stand in names of entries, but below fs/
SINGLE=s DOUBLE=u ASCII=a
for byte in {128..159}; do
    hex=$(printf '%02x' "$byte")
    SINGLE+=$(printf '%b' "-\\x$hex")
    DOUBLE+=$(printf '%b' "\\xc2\\x$hex")
done
for byte in {1..31} 127; do
    printf -v hex '%02x' "$byte"
    printf -v char '%b' "\\x$hex"
    ASCII+=$char
done
SINGLE+=- # or a name behind it would begin with a byte that makes it a character

# plain DESC FILE: nothing but printable ASCII and the ends of lines is in it
plain() { is "$1" "$(LC_ALL=C tr -d ' -~\n' <"$2" | od -An -tx1 | head -n 3)" ""; }

# The value of line KEY in FILE, without quotes if it has some
value() {
    local text
    text=$(LC_ALL=C field "$1" "$2")
    case $text in
    \"*\") printf '%b' "${text:1:-1}" ;;
    *) printf '%s' "$text" ;;
    esac
}

for name in "$SINGLE" "$DOUBLE"; do
    desc=${name%"${name#?}"}
    works "$desc: prepare" mkdir "$A/$name"
    for file in "$SINGLE" "$DOUBLE" "$ASCII"; do
        echo x >"$A/$name/fs/$file"
        mkdir "$A/$name/fs/dir-$file"
        ln -s "$file" "$A/$name/fs/link-$file"
    done
    echo x >"$A/$name/labels/$name"
    works "$desc: commit" rename "$A/$name" "$S/$name"
    works "$desc: child" mkdir "$A/$name"
    works "$desc: view" mkdir "$V/v$name"
    rmdir "$A/$name"
    works "$desc: on it" mkdir "$A/${desc}@$name"
    mv "$A/$desc" "$A/$name"
    for entry in "$S/$name" "$A/$name" "$V/v$name"; do
        for file in info mount mount.json overlay changes children usage; do
            [ ! -e "$entry/$file" ] || t cat "$entry/$file" >"$BASE/text"
            plain "$desc: $file" "$BASE/text"
        done
    done
    is "$desc: the name in info" "$(value name "$A/$name/info")" "$name"
    is "$desc: the parent in info" "$(value parent "$A/$name/info")" "$name"
    LC_ALL=C sed 's/^/child: /' "$S/$name/children" >"$BASE/text"
    is "$desc: children" "$(value child "$BASE/text")" "active/$name"
    LC_ALL=C sed 's/^-o rbind,rw /path: /' "$A/$name/mount" >"$BASE/text"
    is "$desc: mount" "$(value path "$BASE/text")" "$A/$name/fs"
    ok "$desc: mount.json is well-formed" jq -e '.[0].options == ["rbind", "rw"]' "$A/$name/mount.json"
    is "$desc: changes has a line for each" "$(t cat "$S/$name/changes" | wc -l)" 9
    fails "$desc: a failure" EEXIST mkdir "$A/$name"
    fails "$desc: a failure with a parent" ENOENT mkdir "$A/other@no$name"
    fails "$desc: a file that is not allowed" EPERM create "$A/$name/file$name"
    hold write "$A/$name/fs/file"
    fails "$desc: busy" EBUSY rename "$A/$name" "$S/x$name"
    release "$HOLD"
done
is "mount.json tells the name" "$(jq -r '.[0].source' "$A/$DOUBLE/mount.json")" "$A/$DOUBLE/fs"
fails "a name with the bytes of ASCII" EINVAL mkdir "$A/k$ASCII"
# A process can call itself anything, and the log tells who holds a snapshot
works "a snapshot to hold" mkdir "$A/held"
# shellcheck disable=SC2016
spawn perl -e 'chdir shift or die; $0 = "\e]0;\x9b\x7f"; sleep 300' "$A/held/fs"
ok "a process holds it" wait_until 30 grep -q '\]0;' "/proc/$SPAWNED/comm"
fails "who holds it has a name that commands" EBUSY rmdir "$A/held"
unspawn "$SPAWNED"
for file in tree graph.dot log metrics version; do
    t cat "$MNT/$file" >"$BASE/text"
    plain "$file" "$BASE/text"
done
is "the log has a line for each failure" "$(wc -l <"$MNT/log")" 8
is "and names them all" "$(grep -c '\\200' "$MNT/log")" 6
is "tree has a line for each" "$(wc -l <"$MNT/tree")" 7
ok "graph.dot is a graph" sh -c 'command -v dot >/dev/null || exit 0; dot -Tsvg "$0" >/dev/null' "$MNT/graph.dot"

ODD=$'\e[2J\x9b\xc2\x9b\x7f'
for arguments in "$BASE/no$ODD/store|$MNT" "$BASE/store$ODD|$BASE/nowhere$ODD" "$BASE/s|$MNT|-o|expire=$ODD" "$BASE/s|$BASE|-o|$ODD" \
    "--check|$BASE/s$ODD" "--check|--repair|$STORE|$ODD" "--upgrade|$BASE/$ODD" "$BASE/s|$BASE/stderr$ODD"; do
    IFS='|' read -rd '' -a words <<<"$arguments|"
    unset 'words[-1]'
    timeout 20 "$STRATAFS" "${words[@]}" >"$BASE/text" 2>&1
    status=$?
    ok "stratafs ${words[*]}: refused" test "$status" != 0 -a "$status" != 124
    plain "in printable words" "$BASE/text"
done
mkdir "$BASE/store$ODD"
timeout 20 "$STRATAFS" "$BASE/store$ODD" "$BASE" >"$BASE/text" 2>&1
is "a store whose path holds controls is refused" $? 1
plain "in printable words" "$BASE/text"
for entry in "$A"/* "$V"/*; do rmdir "$entry"; done
for entry in "$S"/*; do rmdir "$entry"; done

# ---- contents
CANARY=$BASE/canary
mkdir "$CANARY"
fill "$CANARY"
WHOLE=$(digest "$CANARY")

# A folder 4,096 deep, with a file at its end; names in one folder; links to one file; all that is odd
# shellcheck disable=SC2016
make_deep='use strict; chdir shift or die; my $n = "d" . "x" x (shift); for (1 .. 4096) { mkdir $n or die "$_: $!"; chdir $n or die } open my $f, ">", "bottom" or die'
# shellcheck disable=SC2016
make_wide='chdir shift or die; mkdir "wide"; chdir "wide" or die; for (1 .. shift) { open my $f, ">", "name-$_" or die "$!" }'
# shellcheck disable=SC2016
make_farm='chdir shift or die; mkdir "farm"; chdir "farm" or die; for my $i (1 .. 20) { open my $f, ">", "f$i" or die; link "f$i", "f$i-$_" or die "$!" for 1 .. 500 }'
works "an active snapshot" mkdir "$A/bad"
fs=$A/bad/fs
# For what takes longer than usual with a million names; a function, so that the common limit is not put around it
patient() { timeout -k 5 1800 "$@"; }
ok "a folder 4,096 deep" perl -e "$make_deep" "$fs" 0
ok "$ENTRIES names in one folder" patient perl -e "$make_wide" "$fs" "$ENTRIES"
ok "10,000 links to 20 files" perl -e "$make_farm" "$fs"
mkdir "$fs/links" "$fs/odd" "$fs/nothing"
ln -s / "$fs/links/root"
ln -s "$CANARY" "$fs/links/canary"
ln -s ../../../../../../../../../../etc "$fs/links/up"
ln -s "$(printf 'x/%.0s' {1..2000})" "$fs/links/long"
ln -s self "$fs/links/self"
ln -s "$CANARY/file" "$fs/links/file"
for file in $'new\nline' "$ASCII" "$SINGLE" '"' "\\" ' ' "$(printf 'n%.0s' {1..255})" '-rf' '.hidden'; do
    echo x >"$fs/odd/$file"
done
echo x >"$fs/nothing/file"
chmod 0 "$fs/nothing/file" "$fs/nothing"
echo x >"$fs/attrs"
# As much as a block of ext4 holds
setfattr -n "user.$(printf 'a%.0s' {1..250})" -v "$(printf 'v%.0s' {1..3000})" "$fs/attrs"
echo x >"$fs/immutable" && echo x >"$fs/append" && mkdir "$fs/fixed" && echo x >"$fs/fixed/file"
ok "immutable and append-only files" sh -c 'chattr +i "$0/immutable" "$0/fixed" && chattr +a "$0/append"' "$fs"
FILES=$(cd "$fs" && find . -mindepth 1 -printf x | wc -c)
ok "all of it is there" test "$FILES" -gt $((4096 + ENTRIES + 10000))

# The worker gets few descriptors, and may not need much memory
WORKER=$(worker)
prlimit --pid "$WORKER" --nofile=300:300
peak() { awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$WORKER/status"; } # MiB
before=$(peak)
report() {
    diag "$1: $(peak) MiB at most, $before before"
    # A sanitizer keeps what was freed
    grep -q __asan_init "$STRATAFS" || ok "$1: memory is bounded" test $(($(peak) - before)) -lt $((100 + ENTRIES / 4000))
}
look() {
    ok "$1: changes" patient sh -c 'cat "$0/changes" >"$1"' "$2" "$BASE/changes"
    is "$1: has a line for each" "$(wc -l <"$BASE/changes")" "$FILES"
    is "$1: in order of bytes" "$(cut -c 3- "$BASE/changes" | grep -v '^"' | LC_ALL=C sort -c 2>&1)" ""
    is "$1: the longest path" "$(awk '{ if (length > n) n = length } END { print n }' "$BASE/changes")" $((2 + 2 * 4096 + 7))
    plain "$1: in printable bytes" "$BASE/changes"
    ok "$1: usage" patient sh -c 'cat "$0/usage" >"$1"' "$2" "$BASE/usage"
    is "$1: inodes" "$(cut -d ' ' -f 2 "$BASE/usage")" $((FILES - 10000 + 1))
    ok "$1: layer.tar" patient sh -c 'cat "$0/layer.tar" >"$1"' "$2" "$BASE/tar"
    is "$1: has an entry for each" "$(tar -tf "$BASE/tar" 2>/dev/null | wc -l)" $((FILES + 1))
    is "$1: and nothing from outside" "$(tar -tf "$BASE/tar" 2>/dev/null | grep -c '^./links/[^/]*/')$(grep -c '^inner$' "$BASE/tar")" 00
}
look active "$A/bad"
report active
works "commit" rename "$A/bad" "$S/bad"
look committed "$S/bad"
cp "$BASE/tar" "$BASE/first.tar"
ok "the same bytes again" patient sh -c 'cat "$0/layer.tar" | cmp - "$1"' "$S/bad" "$BASE/first.tar"
works "a child" mkdir "$A/child@bad"
rm -r "$A/child/fs/wide" "$A/child/fs/dx" "$A/child/fs/d" 2>/dev/null
ok "its changes" patient sh -c 'cat "$0/changes" >"$1"' "$A/child" "$BASE/changes"
is "are two lines" "$(cat "$BASE/changes")" $'D /d\nD /wide'
report committed
works "removal of the child" rmdir "$A/child"
works "removal" rmdir "$S/bad"
ok "all of it goes" wait_until 600 settled || diag "$(leftovers)"
report removed
is "no failure is in the log but those from before" "$(t tail -n +9 "$MNT/log")" ""

# What chattr(1) did in the store itself goes too
works "another" mkdir "$A/fixed"
mkdir "$A/fixed/fs/dir" && echo x >"$A/fixed/fs/dir/file"
LAYER=$STORE/layers/$(field id "$A/fixed/info")/fs
chattr +i "$LAYER/dir/file" && chattr +a "$LAYER/dir"
works "its removal" rmdir "$A/fixed"
ok "goes through" wait_until 600 settled || { diag "$(leftovers)"; chattr -R -i -a "$STORE/trash"; }

# A path over what a name can be long gives a text beyond all bounds: refused, and the worker lives
if [ "$ENTRIES" -gt 500000 ]; then
    works "an active snapshot" mkdir "$A/long"
    ok "4,096 folders with long names" perl -e "$make_deep" "$A/long/fs" 100
    nok "its changes are too long" cat "$A/long/changes"
    like "which the log tells" "$(tail -n 1 "$MNT/log")" 'EFBIG'
    ok "its layer.tar is as good as ever" patient sh -c 'cat "$0/layer.tar" | tar -tf - | wc -l' "$A/long"
    works "its removal" rmdir "$A/long"
    ok "goes through" wait_until 600 settled
fi
is "it is the same worker" "$(worker)" "$WORKER"
is "what is outside is as before" "$(digest "$CANARY")" "$WHOLE"
done_testing
