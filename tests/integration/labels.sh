#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Labels: one plain file each, on every kind of entry.
. "$(dirname "$0")/lib.sh"
new_mount
cd / || exit 1
A=$MNT/active V=$MNT/views S=$MNT/snapshots

mkdir "$A/base"
mv "$A/base" "$S/base"
mkdir "$A/work@base" "$V/look@base"

names() { t ls -A "$1/labels" | tr '\n' ' '; }
empty() { [ -z "$(cat "$1")" ]; }
bytes() { t cat "$1" | od -An -c | tr -s ' ' | tr -d '\n'; }

for e in "$A/work" "$V/look" "$S/base"; do
    k=${e#"$MNT"/}
    is "$k: no labels at first" "$(names "$e")" ""
    ok "$k: echo creates one" sh -c "echo first >'$e/labels/k'"
    is "$k: it is listed" "$(names "$e")" "k "
    is "$k: its value" "$(cat "$e/labels/k")" first
    ok "$k: echo replaces it" sh -c "echo 2nd >'$e/labels/k'"
    is "$k: wholly" "$(cat "$e/labels/k")" 2nd
    ok "$k: without a newline" sh -c "printf bare >'$e/labels/k'"
    is "$k: one is put behind" "$(bytes "$e/labels/k")" ' b a r e \n'
    ok "$k: append" sh -c "echo more >>'$e/labels/k'"
    is "$k: both lines" "$(bytes "$e/labels/k")" ' b a r e \n m o r e \n'
    ok "$k: truncate to nothing" truncate -s 0 "$e/labels/k"
    is "$k: an empty value" "$(t cat "$e/labels/k")" ""
    ok "$k: truncate while opening" sh -c "echo again >'$e/labels/k' && : >'$e/labels/k'"
    # Nothing was written: that is known only when the last descriptor is gone, a moment after close(2)
    ok "$k: an empty value again" wait_until 10 empty "$e/labels/k"
    ok "$k: several lines, in several writes" sh -c "(echo a; echo b; echo c) >'$e/labels/k'"
    is "$k: are kept" "$(cat "$e/labels/k")" $'a\nb\nc'
    ok "$k: cp into it" cp /proc/version "$e/labels/copy"
    ok "$k: and compare" cmp /proc/version "$e/labels/copy"
    ok "$k: any bytes" sh -c "printf '\\377\\0\\001x\\n' >'$e/labels/bytes'"
    is "$k: are kept" "$(bytes "$e/labels/bytes")" ' 377 \0 001 x \n'
    is "$k: three labels" "$(names "$e")" "bytes copy k "
    ok "$k: rm removes" rm "$e/labels/copy"
    fails "$k: it is gone" ENOENT stat "$e/labels/copy"
    fails "$k: removing it again" ENOENT unlink "$e/labels/copy"
    ok "$k: and another" rm "$e/labels/bytes"
    is "$k: one is left" "$(names "$e")" "k "

    # mv inside labels/ renames, and replaces as files do
    echo other >"$e/labels/o"
    echo first >"$e/labels/k"
    works "$k: rename" rename "$e/labels/o" "$e/labels/p"
    is "$k: the new name has the value" "$(cat "$e/labels/p")" other
    fails "$k: the old one is gone" ENOENT stat "$e/labels/o"
    fails "$k: RENAME_NOREPLACE onto another" EEXIST noreplace "$e/labels/p" "$e/labels/k"
    works "$k: rename onto another replaces it" rename "$e/labels/p" "$e/labels/k"
    is "$k: with the value" "$(cat "$e/labels/k")" other
    is "$k: one label is left" "$(names "$e")" "k "
    fails "$k: rename to a bad name" EINVAL rename "$e/labels/k" "$e/labels/.k"
    fails "$k: rename out of labels/" EPERM rename "$e/labels/k" "$MNT/k"

    # The limit is 64 KiB of value
    head -c 65536 /dev/zero | tr '\0' v >"$BASE/limit"
    { cat "$BASE/limit" && echo; } >"$BASE/limit.nl"
    head -c 65537 /dev/zero | tr '\0' w >"$BASE/over"
    ok "$k: 64 KiB" cp "$BASE/limit" "$e/labels/big"
    ok "$k: are kept" cmp "$e/labels/big" "$BASE/limit.nl"
    is "$k: stat tells the size" "$(stat -c %s "$e/labels/big")" 65537
    nok "$k: one byte more is refused" cp "$BASE/over" "$e/labels/big"
    ok "$k: and changes nothing" cmp "$e/labels/big" "$BASE/limit.nl"
    nok "$k: appending to a full one is refused" sh -c "echo x >>'$e/labels/big'"
    ok "$k: and changes nothing either" cmp "$e/labels/big" "$BASE/limit.nl"
    nok "$k: a value too long for a new one is refused" cp "$BASE/over" "$e/labels/new"
    unlike "$k: nothing of it is kept" "$(cat "$e/labels/new" 2>/dev/null)" w
    ok "$k: rm of the long one" rm -f "$e/labels/big" "$e/labels/new"

    # Names obey the rules of keys
    fails "$k: a leading dot" EINVAL create "$e/labels/.hidden"
    fails "$k: an @" EINVAL create "$e/labels/a@b"
    fails "$k: a control byte" EINVAL create "$e/labels/a"$'\x01'
    fails "$k: DEL" EINVAL create "$e/labels/a"$'\x7f'
    fails "$k: 256 bytes" ENAMETOOLONG create "$e/labels/$(head -c 256 /dev/zero | tr '\0' n)"
    works "$k: 255 bytes" create "$e/labels/$(head -c 255 /dev/zero | tr '\0' n)"
    works "$k: and its removal" unlink "$e/labels/$(head -c 255 /dev/zero | tr '\0' n)"
    works "$k: spaces, quotes, UTF-8" rewrite "$e/labels/a 'b\" ü" "v"
    works "$k: bytes that are not UTF-8" rewrite "$e/labels/"$'\xff' "v"
    works "$k: and their removal" unlink "$e/labels/"$'\xff'
    ok "$k: and their removal" rm "$e/labels/a 'b\" ü"
    fails "$k: no folders" EPERM mkdir "$e/labels/dir"
    fails "$k: no symbolic links" EPERM symlink target "$e/labels/link"
    fails "$k: no pipes" EPERM mkfifo "$e/labels/pipe"
    is "$k: nothing is left of all that" "$(names "$e")" "k "
    works "$k: an exclusive create" create "$e/labels/once"
    fails "$k: a second one" EEXIST create "$e/labels/once"
    works "$k: goes" unlink "$e/labels/once"

    # mtime of the entry
    before=$(stat -c %.9Y "$e")
    sleep 0.02
    echo newer >"$e/labels/k"
    ok "$k: a label moves the entry's mtime" awk "BEGIN { exit !($(stat -c %.9Y "$e") > $before) }"
done

# ---- kept over rename, commit and restart, per entry
echo v1 >"$A/work/labels/k"
echo v2 >"$V/look/labels/k"
echo v3 >"$S/base/labels/k"
mv "$A/work" "$A/job" && mv "$V/look" "$V/see" && mv "$S/base" "$S/ground"
is "kept over rename" "$(cat "$A/job/labels/k" "$V/see/labels/k" "$S/ground/labels/k" | tr '\n' ' ')" "v1 v2 v3 "
mv "$A/job" "$S/done"
is "kept over commit" "$(cat "$S/done/labels/k")" v1
mkdir "$A/next@done"
is "a child has labels of its own" "$(names "$A/next")" ""
mkdir "$A/job"
is "so has a new entry under an old name" "$(names "$A/job")" ""
restart
is "kept over a restart" "$(cat "$S/done/labels/k" "$V/see/labels/k" "$S/ground/labels/k" | tr '\n' ' ')" "v1 v2 v3 "
echo after >"$S/ground/labels/k"
echo fresh >"$A/job/labels/k"
rm "$S/done/labels/k"
kill_program
start_program
is "kept over a kill" "$(cat "$S/ground/labels/k" "$A/job/labels/k" | tr '\n' ' ')" "after fresh "
is "a removal as well" "$(names "$S/done")" ""

# ---- atomic: a reader never sees anything but one of the two values
head -c 60000 /dev/zero | tr '\0' a >"$BASE/a"
head -c 60000 /dev/zero | tr '\0' b >"$BASE/b"
cat "$BASE/a" >"$A/job/labels/k"
flip() {
    while :; do
        cat "$BASE/b" >"$A/job/labels/k"
        cat "$BASE/a" >"$A/job/labels/k"
    done
}
spawn flip
torn=0 whole=0
for _ in $(seq 200); do
    case $(t cat "$A/job/labels/k" | fold -w 1 2>/dev/null | LC_ALL=C sort | uniq -c | tr -s ' ' | tr '\n' ' ') in
    " 60000 a " | " 60000 b ") whole=$((whole + 1)) ;;
    *) torn=$((torn + 1)) ;;
    esac
done
is "200 reads while it is replaced: all whole" "$whole whole $torn torn" "200 whole 0 torn"
kill_program
unspawn "$SPAWNED"
start_program
like "after a kill amid writing: one of both" "$(tr -s 'ab' <"$A/job/labels/k")" '^(a|b)$'
is "of full length" "$(wc -c <"$A/job/labels/k")" 60001
echo alone >"$A/job/labels/two"
is "nothing else is left in labels/" "$(names "$A/job")" "k two "

# ---- one that is open has the length of what was written
cat >"$BASE/lengths.py" <<'END'
import os, sys

key = sys.argv[1]
fd = os.open(key, os.O_RDWR | os.O_CREAT)
os.write(fd, b"abcdef")
print("written", os.fstat(fd).st_size, os.stat(key).st_size, os.lseek(fd, 0, os.SEEK_END))
os.ftruncate(fd, 3)
print("shortened", os.fstat(fd).st_size, os.stat(key).st_size, os.lseek(fd, 0, os.SEEK_END))
os.close(fd)
print("closed", os.stat(key).st_size)
with open(key, "w") as f:
    f.write("abc")
    f.flush()
    f.seek(0, os.SEEK_END)
    f.write("def")
with open(key) as f:
    print("at the end", f.read().strip())
with open(key, "a") as f:
    f.write("ghi")
    f.flush()
    print("appended", f.tell(), os.fstat(f.fileno()).st_size)
reader = os.open(key, os.O_RDONLY)
fd = os.open(key, os.O_WRONLY | os.O_TRUNC)
print("emptied", os.fstat(fd).st_size, os.lseek(fd, 0, os.SEEK_END), os.lseek(reader, 0, os.SEEK_END))
os.close(reader)
os.dup2(fd, fd + 10)
os.write(fd, b"xy")
os.close(fd)
print("closed once", os.fstat(fd + 10).st_size, os.lseek(fd + 10, 0, os.SEEK_END))
END
t python3 "$BASE/lengths.py" "$A/job/labels/length" >"$BASE/lengths"
is "of an open label, by fstat, stat and SEEK_END" "$(cat "$BASE/lengths")" "written 6 6 6
shortened 3 3 3
closed 4
at the end abcdef
appended 10 10
emptied 0 0 11
closed once 3 2"
t rm "$A/job/labels/length"

# ---- one that could not be set is none
t mkdir "$A/plain@ground"
is "a new label of 64 KiB and a byte: EFBIG" "$(head -c 65537 /dev/zero | tr '\0' x | t dd of="$A/plain/labels/big" bs=65537 iflag=fullblock 2>&1 | grep -o 'File too large')" "File too large"
is "it is not listed" "$(names "$A/plain")" ""
nok "it is not there" t test -e "$A/plain/labels/big"
nok "nor to be read" t cat "$A/plain/labels/big"
ok "a right one of that name" sh -c "echo small >'$A/plain/labels/big'"
is "is there" "$(cat "$A/plain/labels/big")" small
head -c 65537 /dev/zero | tr '\0' x | t dd of="$A/plain/labels/big" bs=65537 iflag=fullblock 2>/dev/null
is "one that can't be replaced stays" "$(cat "$A/plain/labels/big")" small
fails "truncate(2) to more" EFBIG truncate "$A/plain/labels/big" 70000
logged "has a reason" label active/plain/labels/big EFBIG "at most 65536 bytes"
fails "another failure" ENOENT mkdir "$A/x@missing"
is "ftruncate(2) to more: EFBIG" "$(t python3 -c '
import errno, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    os.ftruncate(fd, 70000)
    print("ok")
except OSError as e:
    print(errno.errorcode[e.errno])' "$A/plain/labels/big")" EFBIG
logged "has one too" label active/plain/labels/big EFBIG "at most 65536 bytes"

# ---- what copies attributes as well
t mkdir "$A/copy@ground"
is "cp -p" "$(t cp -p "$A/plain/labels/big" "$A/copy/labels/" 2>&1) $(cat "$A/copy/labels/big")" " small"
is "cp -a" "$(t cp -a "$A/plain/labels" "$A/copy/" 2>&1) $(names "$A/copy")" " big "
is "chmod to what it is" "$(t chmod 644 "$A/copy/labels/big" 2>&1)" ""
is "chown to who has it" "$(t chown 0:0 "$A/copy/labels/big" 2>&1)" ""
is "chmod to something else" "$(t chmod 600 "$A/copy/labels/big" 2>&1 | grep -o 'Operation not permitted')" "Operation not permitted"
is "chown to somebody else" "$(t chown 1:0 "$A/copy/labels/big" 2>&1 | grep -o 'Operation not permitted')" "Operation not permitted"
is "a snapshot's files: no other time" "$(t touch -d @1 "$S/ground/info" 2>&1 | grep -o 'Read-only file system')" "Read-only file system"
mkdir "$BASE/files" && echo x >"$BASE/files/x" && tar -C "$BASE/files" -cf "$BASE/layer.tar" .
t mkdir "$A/imported"
is "cp of a layer with its times" "$(t cp --preserve=timestamps "$BASE/layer.tar" "$A/imported/layer.tar" 2>&1) $(cat "$A/imported/fs/x")" " x"
nok "truncate of a layer" t truncate -s 5 "$A/copy/layer.tar"
done_testing
