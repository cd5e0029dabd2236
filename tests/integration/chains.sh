#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Long parent chains: 500 layers; with the old mount API (mountapi=old) no more than its one page of options carries. One more is
# EMLINK at mkdir, and the deepest one accepted reads right.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

MOST=500
case ,$STRATAFS_TEST_OPTIONS, in
*,mountapi=old,*) OLD=yes ;;
*) OLD='' ;;
esac

# Layer N has a file of its own, a new version of two shared ones, and removes the file only of the layer before
write_layer() {
    local fs=$MNT/active/$1/fs n=${1#l}
    echo "$n" >"$fs/own-$n" &&
        echo "$n" >"$fs/same" &&
        echo "$n" >>"$fs/grown" &&
        echo "$n" >"$fs/only-$n" &&
        { [ "$n" = 1 ] || rm "$fs/only-$((n - 1))"; }
}

# what a merged tree of N layers must hold
wanted() {
    local i
    {
        for ((i = 1; i <= $1; i++)); do
            printf 'own-%d %d\n' "$i" "$i"
        done
        printf 'only-%d %d\nsame %d\n' "$1" "$1" "$1"
        printf 'grown %s\n' "$(seq "$1" | sha256sum)"
    } | LC_ALL=C sort
}

found() {
    (cd "$1" && for f in *; do
        if [ "$f" = grown ]; then
            echo "grown $(sha256sum <grown)"
        else
            read -r line <"$f"
            echo "$f $line"
        fi
    done) | LC_ALL=C sort
}

# reads_right DESC ENTRY N
reads_right() {
    is "$1 is an overlay" "$(stat -f -c %T "$MNT/$2/fs")" overlayfs
    is "$1 reads right" "$(found "$MNT/$2/fs" | sha256sum)" "$(wanted "$3" | sha256sum)"
}

# Puts layers l$1 to l$2 on top of each other; stops where no more is accepted. DEPTH is how far it came, ERRNO why.
DEPTH=0 ERRNO=''
grow() {
    local n below
    for ((n = $1; n <= $2; n++)); do
        below=l$((n - 1))
        [ "$n" = 1 ] && below=''
        ERRNO=$(errno mkdir "$MNT/active/l$n${below:+@$below}")
        [ "$ERRNO" = ok ] || return 0
        write_layer "l$n" || { ERRNO="writing layer $n"; return 0; }
        ERRNO=$(errno rename "$MNT/active/l$n" "$MNT/snapshots/l$n")
        [ "$ERRNO" = ok ] || { ERRNO="commit of layer $n: $ERRNO"; return 0; }
        DEPTH=$n
    done
}

refused() {
    local before
    before=$(ls "$MNT/active" "$MNT/views" "$STORE/layers")
    fails "$1: active on it is EMLINK" EMLINK mkdir "$MNT/active/more@l$DEPTH"
    logged "$1: the log says so" 'mkdir|prepare' "active/more" EMLINK
    is "$1: nothing is left of it" "$(ls "$MNT/active" "$MNT/views" "$STORE/layers")" "$before"
    fails "$1: and it is not there" ENOENT lstat "$MNT/active/more"
}

# Everything about the chain that grow has made
check_chain() {
    local n depths="1 2 50 $((DEPTH - 1)) $DEPTH"
    refused "the deepest"
    for n in $depths; do
        reads_right "snapshot of depth $n" "snapshots/l$n" "$n"
        is "its info says depth $n" "$(field depth "$MNT/snapshots/l$n/info")" "$n"
        works "a view of depth $n" mkdir "$MNT/views/v$n@l$n"
        reads_right "the view of depth $n" "views/v$n" "$n"
    done
    for n in 1 2 50 $((DEPTH - 1)); do
        works "an active one on depth $n" mkdir "$MNT/active/a$n@l$n"
        reads_right "the active one on depth $n" "active/a$n" "$n"
        echo changed >"$MNT/active/a$n/fs/own-1"
        is "it is writable" "$(t cat "$MNT/active/a$n/fs/own-1")" changed
        is "and its parent stays" "$(t cat "$MNT/snapshots/l$n/fs/own-1")" 1
    done
    is "overlay lists all layers" "$(t sed 's/,.*//; s/^lowerdir=//' "$MNT/snapshots/l$DEPTH/overlay" | tr : '\n' |
        grep -c "^$STORE/layers/")" "$DEPTH"
    is "children of the first" "$(LC_ALL=C sort "$MNT/snapshots/l1/children" | xargs)" "active/a1 snapshots/l2 views/v1"

    restart
    for n in $depths; do
        reads_right "after a restart: snapshot of depth $n" "snapshots/l$n" "$n"
        reads_right "after a restart: view of depth $n" "views/v$n" "$n"
    done
    refused "after a restart"

    # the limit is one of depth, not of the number of snapshots: there is room beside the chain
    works "another child in the middle" mkdir "$MNT/active/side@l50"
    reads_right "it" active/side 50
}

# durability=none: what is asked here is how deep, not how safe, and a chain is some hundred commits
new_mount durability=none
grow 1 "$MOST"
is "a chain of $MOST layers is made" "$DEPTH" "$MOST"
is "without an error" "$ERRNO" ok
check_chain

# In the old API's one page the length of the ids counts: with long ones less than $MOST fit
if [ -n "$OLD" ]; then
    stop_program
    new_base
    start_program durability=none
    stop_program
    echo 1000000000000 >"$STORE/next"
    start_program durability=none
    DEPTH=0
    grow 1 "$MOST"
    diag "the old mount API carries $DEPTH layers with ids of 13 digits"
    like "ids are long" "$(field id "$MNT/snapshots/l1/info")" '^[0-9]{13}$'
    is "what ends the chain is EMLINK" "$ERRNO" EMLINK
    ok "a good many layers fit all the same" test "$DEPTH" -ge 200
    check_chain
fi

done_testing
