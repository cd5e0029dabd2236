#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tools/demo, with the program that is there: it runs again and again, and what it prints at its end can be pasted as it stands.
. "$(dirname "$0")/lib.sh"
new_base # sees to it that there can be a store
TREE=$BASE/tree
mkdir -p "$TREE/tools" "$TREE/build"
cp "${top_srcdir:-.}/tools/demo" "$TREE/tools/"
# all is installed, configured and built
printf '#!/bin/sh\n' >"$TREE/tools/install-deps"
cp "$TREE/tools/install-deps" "$TREE/configure"
chmod +x "$TREE/tools/install-deps" "$TREE/configure"
: >"$TREE/build/config.status"
printf 'all:\n' >"$TREE/build/Makefile"
ln -s "$STRATAFS" "$TREE/build/stratafs"
cd / || exit 1

demo() { # DESC FOLDER
    ok "$1: it runs" t "$2/tools/demo"
    sed -n '/^It stays mounted/,$ s/^    //p' "$OUT" >"$BASE/paste"
}
pasted() { # DESC FOLDER
    ok "$1: what it says to go on, to end it and to throw it away works" t bash -e "$BASE/paste"
    nok "$1: nothing is left" test -e "$2/demo"
}
for round in 1 2 3 4 5; do
    demo "round $round" "$TREE"
    pasted "round $round" "$TREE"
done
demo "the first of two" "$TREE"
demo "the second" "$TREE"
like "it has names of its own" "$(cat "$BASE/paste")" 'mkdir mnt/active/mine@web2'
pasted "the second" "$TREE"

# where the store needs a file system of its own
mkdir "$BASE/upper" "$BASE/work" "$BASE/merged"
mount -t overlay -o "lowerdir=$TREE,upperdir=$BASE/upper,workdir=$BASE/work" overlay "$BASE/merged" || bail "no overlay"
for round in 1 2 3; do
    demo "on an overlay, round $round" "$BASE/merged"
    pasted "on an overlay, round $round" "$BASE/merged"
done
umount "$BASE/merged"
done_testing
