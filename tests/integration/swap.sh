#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Layers that change under the walks over them, and entries that are renamed, committed and removed while their files are read:
# no walk leaves the layer, nobody is told a part as if it were the whole.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"
new_mount durability=none,fingerprint=on # no sync for each commit
cd / || exit 1
A=$MNT/active V=$MNT/views S=$MNT/snapshots

CANARY=$BASE/canary OUTSIDE=$BASE/outside
mkdir "$CANARY" "$CANARY/canary-folder"
echo canary-contents >"$CANARY/secret"
echo canary-contents >"$CANARY/canary-folder/secret"
WHOLE=$(digest "$CANARY")

fill_swapped() {
    local i
    for i in 0 1 2 3 4 5 6 7; do
        mkdir -p "$1/dir$i" && echo inside >"$1/dir$i/own" && mkdir "$1/dir$i/sub" && echo inside >"$1/dir$i/sub/own" &&
            echo inside >"$1/file$i" || return 1
    done
    # shellcheck disable=SC2016
    perl -e 'chdir shift or die; mkdir "deep"; chdir "deep" or die; for (1 .. 150) { mkdir "d"; chdir "d" or die; open my $f, ">", "own" }' "$1"
}

# Starts a swapper on the folder $1 and waits for its first round
SWAPPER='' SWAPPED=0
start_swapper() {
    local said
    SWAPPED=$((SWAPPED + 1))
    mkdir "$OUTSIDE$SWAPPED"
    mkfifo "$BASE/swapper"
    "$HELPERS/swapper" "$1" "$CANARY" "$OUTSIDE$SWAPPED" >"$BASE/swapper" &
    SWAPPER=$!
    SPAWNS+=("$SWAPPER")
    read -rt 60 said <"$BASE/swapper"
    rm "$BASE/swapper"
    [ "$said" = ready ] || diag "no swapper on $1"
}

# ---- contents that change
mkdir "$A/base" "$A/base/fs/dir0" "$A/base/fs/deep" "$A/base/fs/deep/d"
echo below >"$A/base/fs/dir0/below"
mv "$A/base" "$S/base"
mkdir "$A/k@base"
ok "a layer" fill_swapped "$A/k/fs"
LAYER=$STORE/layers/$(field id "$A/k/info")/fs
umount "$A/k/fs" 2>/dev/null
start_swapper "$LAYER"
: >"$BASE/errors"
for i in {1..25}; do
    t cat "$A/k/changes" 2>>"$BASE/errors" >"$BASE/text" || echo "changes, round $i" >>"$BASE/errors"
    t cat "$A/k/usage" 2>>"$BASE/errors" >>"$BASE/text" || echo "usage, round $i" >>"$BASE/errors"
    t cat "$A/k/layer.tar" 2>>"$BASE/errors" >"$BASE/tar" || echo "layer.tar, round $i" >>"$BASE/errors"
    # A link into it is part of the layer, when it is there
    {
        grep -a canary "$BASE/text"
        grep -a -m 1 -o canary-contents "$BASE/tar"
        tar -tf "$BASE/tar" 2>>"$BASE/errors" | grep -a 'canary\|secret$\|dir./below'
    } >>"$BASE/seen"
done
is "no walk ends with an error" "$(cat "$BASE/errors")" ""
is "none shows anything from outside" "$(cat "$BASE/seen")" ""
like "usage is one of the layer alone" "$(t cat "$A/k/usage")" '^[0-9]+ [0-9]{2,3}$'
unspawn "$SWAPPER"
t cat "$A/k/changes" >"$BASE/text"
is "afterwards changes has all of it" "$(grep -c '/own$' "$BASE/text")" $((16 + 150))

# ---- a removal
for i in {1..8}; do
    mkdir "$A/gone"
    fill_swapped "$A/gone/fs"
    LAYER=$STORE/layers/$(field id "$A/gone/info")/fs
    ok "fs/ is at rest ($i)" wait_until 30 umount "$A/gone/fs"
    start_swapper "$LAYER"
    works "removed while it changes ($i)" rmdir "$A/gone"
    wait_until 1 test "$(count "$STORE/trash")" = 0
    unspawn "$SWAPPER"
done
is "what is outside is as before" "$(digest "$CANARY")" "$WHOLE"
works "the next removal" mkdir "$A/last"
works "deletes what could not be" rmdir "$A/last"
ok "all of it" wait_until 600 settled || diag "$(leftovers)"
is "and nothing outside" "$(digest "$CANARY")" "$WHOLE"
rm -rf "$OUTSIDE"*

# ---- entries that are renamed, committed and removed while they are read
mkdir "$A/big@base"
# shellcheck disable=SC2016
perl -e 'chdir shift or die; for my $i (1 .. 500) { open my $f, ">", "f$i" or die; print $f "$i\n" x 100 }
    open my $f, ">", "z" or die; print $f "0123456789abcdef" x 65536 for 1 .. 24' "$A/big/fs"
mv "$A/big" "$S/big"
t cat "$S/big/layer.tar" >"$BASE/whole.tar"
t cat "$S/big/changes" >"$BASE/whole.changes"
t cut -d ' ' -f 2 "$S/big/usage" >"$BASE/whole.usage"
t cat "$S/big/verify" >"$BASE/whole.verify"
is "verify has something to compare" "$(cat "$BASE/whole.verify")" ok

# The whole, or no success: compares what a reader got, whose status is $2, with the whole
judge() {
    case $2 in
    0) # how much is allocated for new files is known only once they are on the disk
        [ "${1##*.}" != usage ] || sed -i 's/.* //' "$1"
        cmp "$1" "$BASE/whole.${1##*.}" >>"$BASE/wrong" 2>&1 || echo "a part of ${1##*/} as if it were all" >>"$BASE/wrong"
        ;;
    *) grep -q 'No such file or directory$' "$1.err" || echo "${1##*/}: $(cat "$1.err")" >>"$BASE/wrong" ;;
    esac
    echo "${1##*.} $2" >>"$BASE/ends"
}
: >"$BASE/wrong"
for i in {1..16}; do
    mkdir "$A/new@base"
    works "an import ($i)" import "$BASE/whole.tar" "$A/new/layer.tar"
    entry=$A/new
    if [ $((i % 3)) != 0 ]; then
        works "a commit ($i)" rename "$A/new" "$S/new"
        entry=$S/new
    fi
    readers=()
    for what in tar changes usage verify; do
        file=$what
        [ $what != tar ] || file=layer.tar
        (timeout -k 5 60 cat "$entry/$file" >"$BASE/got.$what" 2>"$BASE/got.$what.err") &
        readers+=($!)
    done
    sleep "0.0$((i % 8))"
    case $((i % 3)) in
    0) is "commit meanwhile ($i)" "$(errno rename "$A/new" "$S/new" | sed 's/EBUSY/ok/')" ok ;;
    1) works "rename meanwhile ($i)" rename "$S/new" "$S/other" ;;
    esac
    [ $((i % 4)) = 3 ] || for entry in "$A/new" "$S/new" "$S/other"; do
        [ ! -e "$entry" ] || works "removal meanwhile ($i)" rmdir "$entry"
    done
    n=0
    for what in tar changes usage verify; do
        wait "${readers[n]}"
        judge "$BASE/got.$what" $?
        n=$((n + 1))
    done
    for entry in "$A/new" "$S/new" "$S/other"; do
        [ ! -e "$entry" ] || rmdir "$entry"
    done
done
is "every reader has all of it, or is told that it is gone" "$(cat "$BASE/wrong")" ""
diag "$(sort "$BASE/ends" | uniq -c)"
ok "some were told" grep -q 'tar 1' "$BASE/ends"
ok "and some had all" grep -q 'tar 0' "$BASE/ends"
ok "nothing is left" wait_until 600 settled || diag "$(leftovers)"
rmdir "$S/big" "$A/k"
is "no view stands on what is gone" "$(t ls "$V")" ""
done_testing
