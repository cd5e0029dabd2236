#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The rules for KEY and NAME, from both sides.
. "$(dirname "$0")/lib.sh"
new_mount
cd / || exit 1
A=$MNT/active V=$MNT/views S=$MNT/snapshots

repeat() { head -c "$2" /dev/zero | tr '\0' "$1"; }

works "a parent for what follows" mkdir "$A/p"
works "and its commit" rename "$A/p" "$S/p"

# accepts DESC NAME: prepare, view, rename, commit, and read it back everywhere
accepts() {
    local desc=$1 name=$2 got
    works "$desc: prepare" mkdir "$A/$name"
    got=$(cd "$A" && printf '%s\n' *)
    is "$desc: listed byte for byte" "$got" "$name"
    got=$(field name "$A/$name/info")
    [[ $got != \"*\" ]] || got=$(printf '%b' "${got:1:-1}") # what a terminal might take for a command is in quotes
    is "$desc: in info" "$got" "$name"
    ok "$desc: fs/ works" sh -c 'echo x >"$0"' "$A/$name/fs/file"
    works "$desc: commit" rename "$A/$name" "$S/$name"
    is "$desc: fs/ of the snapshot" "$(cat "$S/$name/fs/file")" x
    if [ ${#name} -lt 250 ]; then
        works "$desc: as parent" mkdir "$A/c@$name"
        is "$desc: link to the parent" "$(readlink "$A/c/parent")" "../../snapshots/$name"
        is "$desc: children" "$(cat "$S/$name/children")" "active/c"
        works "$desc: as key of a view" mkdir "$V/$name@p"
        works "$desc: release the view" rmdir "$V/$name"
        works "$desc: remove the child" rmdir "$A/c"
    fi
    works "$desc: rename" rename "$S/$name" "$S/plain"
    works "$desc: and back" rename "$S/plain" "$S/$name"
    works "$desc: remove" rmdir "$S/$name"
    fails "$desc: gone" ENOENT stat "$S/$name"
}

# rejects DESC NAME ERRNO
rejects() {
    fails "$1: prepare" "$3" mkdir "$A/$2"
    fails "$1: view" "$3" mkdir "$V/$2"
    fails "$1: rename of an active snapshot" "$3" rename "$A/a" "$A/$2"
    fails "$1: commit" "$3" rename "$A/a" "$S/$2"
    fails "$1: rename of a snapshot" "$3" rename "$S/p" "$S/$2"
    fails "$1: rename of a view" "$3" rename "$V/v" "$V/$2"
}

accepts "one byte" x
accepts "255 bytes" "$(repeat k 255)"
accepts "UTF-8" 'schnappschüß-快照-📷'
accepts "bytes that are not UTF-8" $'\xff\xfe\x80z'
accepts "spaces" ' two  words '
accepts "quotes" "it's \"quoted\""
accepts "backslashes" 'a\b\\c\n'
accepts "shell characters" '$HOME*?[x]{a,b};&|<>!~`#%^=+'
accepts "commas and colons" 'a,b:c=d'
accepts "a leading dash" '-rf'
accepts "dots inside" 'v1.2..3.'
accepts "a name of the control tree" fs
accepts "another" snapshots

works "an active snapshot to try with" mkdir "$A/a"
works "and a view" mkdir "$V/v@p"
BEFORE=$(state)
rejects "a leading dot" .hidden EINVAL
rejects "three dots" ... EINVAL
for byte in {1..31} 127; do
    hex=$(printf '%02x' "$byte")
    fails "byte 0x$hex in a key" EINVAL mkdir "$A/a$(printf '%b' "\\x${hex}b")"
done
rejects "a newline" $'a\nb' EINVAL
rejects "DEL" $'\x7f' EINVAL
rejects "256 bytes" "$(repeat k 256)" ENAMETOOLONG
rejects "700 bytes" "$(repeat k 700)" ENAMETOOLONG
fails "a name of 256 bytes cannot even be looked up" ENAMETOOLONG stat "$S/$(repeat k 256)"

# @ parts KEY from PARENT in mkdir, and stands in no name
fails "KEY@ with nothing behind" EINVAL mkdir "$A/k@"
fails "@PARENT with nothing before" EINVAL mkdir "$A/@p"
fails "@ alone" EINVAL mkdir "$A/@"
fails "two @" EINVAL mkdir "$A/k@p@p"
fails "two @ in a row" EINVAL mkdir "$A/k@@p"
fails "a view's KEY@ with nothing behind" EINVAL mkdir "$V/k@"
fails "a view's @PARENT" EINVAL mkdir "$V/@p"
fails "a bad KEY before a good PARENT" EINVAL mkdir "$A/.k@p"
fails "a bad PARENT behind a good KEY" EINVAL mkdir "$A/k@.p"
fails "a control byte in PARENT" EINVAL mkdir "$A/k@p"$'\x01'
fails "@ in the new key of a rename" EINVAL rename "$A/a" "$A/b@p"
fails "@ in the name of a commit" EINVAL rename "$A/a" "$S/b@p"
fails "@ in the new name of a snapshot" EINVAL rename "$S/p" "$S/b@p"
is "all those refusals changed nothing" "$(state)" "$BEFORE"

# KEY, @ and PARENT share the 255 bytes of one path component
P=$(repeat p 200)
works "a long name" mkdir "$A/tmp"
works "for a parent" rename "$A/tmp" "$S/$P"
works "54 bytes of key fit before 200 of parent" mkdir "$A/$(repeat k 54)@$P"
is "on the right parent" "$(field parent "$A/$(repeat k 54)/info")" "$P"
fails "55 do not" ENAMETOOLONG mkdir "$A/$(repeat k 55)@$P"
works "a short key renames to a long one" mkdir "$A/s@$P"
works "of 255 bytes" rename "$A/s" "$A/$(repeat s 255)"
is "with its parent" "$(field parent "$A/$(repeat s 255)/info")" "$P"

# Odd names stand in the text files without breaking their lines
works "an odd key" mkdir "$A/odd \"q\" \\ é@$P"
is "tree has one line for it" "$(grep -cF 'odd ' "$MNT/tree")" 1
is "mount.json tells its path" "$(jq -r '.[0].source' "$A/odd \"q\" \\ é/mount.json")" "$A/odd \"q\" \\ é/fs"
works "an odd snapshot" rename "$A/odd \"q\" \\ é" "$S/odd \"q\" \\ é"
# shellcheck disable=SC1003
is "graph.dot names it in quotes" "$(grep -cF 'odd \"q\" \\' "$MNT/graph.dot")" 1
# What dot draws is the name: it takes "&…;" for a character, and a backslash for the beginning of one
odd=$'R&D &amp; \xc2\x9b1m \\N'
works "one with what dot reads in its own way" mkdir "$A/$odd@$P"
is "graph.dot has it escaped" "$(grep -cF 'label="active/R&amp;D &amp;amp; \\302\\2331m \\N"' "$MNT/graph.dot")" 1
if command -v dot >/dev/null; then
    is "the picture has the name" "$(dot -Tsvg "$MNT/graph.dot" | sed 's/&#160;/ /g' |
        grep -cF '>active/R&amp;D &amp;amp; \302\2331m \N<')" 1
fi
works "it goes" rmdir "$A/$odd"
fails "a failure with an odd name" ENOENT mkdir "$A/odd key@missing one"
is "is one line in the log" "$(tail -n 1 "$MNT/log" | grep -c ENOENT)" 1
fails "a failure with a newline in the name" EINVAL mkdir "$A/new"$'\n'"line"
like "is one line in the log" "$(tail -n 1 "$MNT/log")" '^[0-9]{4}-.*new.*line.*EINVAL'
done_testing
