# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# More tools for integration scripts, sourced after lib.sh.
#
#   limit CMD…             CMD under a generous anti-hang limit, for steps that take longer than those of `t`
#   mounts_at PATH         how many mounts sit on just that path
#   overlays               how many overlay mounts there are below $MNT
#   device_at PATH         MAJOR:MINOR of the overlay mounted on just that path, a line a mount
#   prepare KEY [PARENT]   mkdir active/KEY[@PARENT]
#   commit KEY [NAME]      one rename of active/KEY to snapshots/NAME (KEY)
#   snapshot NAME [PARENT] prepares one, gives it files to recognise it by, and commits it
#   count DIR              number of entries of a directory of the store, hidden ones too
#   links                  number of links in the store: its entries of all kinds
#   settled                the store holds one layer a link and no trash; for wait_until
#   leftovers              what is there when it is not settled
#
#   hold KIND PATH [CMD…]  starts b_hold KIND PATH (under CMD) and waits until it holds; its number is $HOLD, its
#                          process ${HOLD_PID[HOLD]}
#   attempt N              makes holder N try again; prints `ok` or the errno's name
#   release N              ends holder N
#
#   manifest DIR           everything about the tree below DIR, a sorted line each: type, mode, owner, mtime, size, link target,
#                          device number, contents, xattrs with ACLs and capabilities, and which names are one file.
#                          Not the times of access and change, nor sizes and link counts of folders.
#   same_tree DESC A B     the manifests of two folders are equal; the first differences become diagnostics

limit() { timeout -k 5 120 "$@"; }

# Field 3 of mountinfo is the device, 5 the path; after the lone - come type and source
mounts_at() { awk -v path="$1" '$5 == path' /proc/self/mountinfo | wc -l; }

device_at() { awk -v path="$1" '$5 == path && / - overlay / { print $3 }' /proc/self/mountinfo; }

overlays() { awk -v path="$MNT/" 'index($5, path) == 1 && / - overlay /' /proc/self/mountinfo | wc -l; }

prepare() { t mkdir "$MNT/active/$1${2:+@$2}"; }

commit() { [ "$(errno rename "$MNT/active/$1" "$MNT/snapshots/${2:-$1}")" = ok ]; }

snapshot() {
    prepare "$1" "${2:-}" &&
        t mkdir -p "$MNT/active/$1/fs/d" &&
        echo "$1" >"$MNT/active/$1/fs/f" &&
        echo "$1" >"$MNT/active/$1/fs/of-$1" &&
        commit "$1"
}

# count_into VARIABLE all|links DIR…: without a process of its own, as it is asked again and again
count_into() {
    local dir file n=0
    for dir in "${@:3}"; do
        for file in "$dir"/* "$dir"/.[!.]* "$dir"/..?*; do
            if [ -L "$file" ] || { [ "$2" = all ] && [ -e "$file" ]; }; then n=$((n + 1)); fi
        done
    done
    printf -v "$1" %d "$n"
}

count() { count_into COUNTED all "$1" && echo "$COUNTED"; }

links() { count_into COUNTED links "$STORE/active" "$STORE/views" "$STORE/snapshots" && echo "$COUNTED"; }

settled() {
    local trash layers links
    count_into trash all "$STORE/trash"
    count_into layers all "$STORE/layers"
    count_into links links "$STORE/active" "$STORE/views" "$STORE/snapshots"
    [ "$trash" = 0 ] && [ "$layers" = "$links" ]
}

leftovers() {
    echo "links: $(links)"
    find "$STORE/layers" "$STORE/trash" -mindepth 1 -maxdepth 1 -printf '%P ' | head -c 2000
}

# ---- holders -------------------------------------------------------------

HOLD=0
HOLD_PID=() HOLD_IN=() HOLD_OUT=()

hold() {
    local kind=$1 path=$2 in out answer
    shift 2
    HOLD=$((HOLD + 1))
    mkfifo "$BASE/hold.$HOLD.in" "$BASE/hold.$HOLD.out"
    "$@" "$HELPERS/b_hold" "$kind" "$path" <"$BASE/hold.$HOLD.in" >"$BASE/hold.$HOLD.out" &
    HOLD_PID[HOLD]=$!
    SPAWNS+=("$!")
    exec {in}>"$BASE/hold.$HOLD.in" {out}<"$BASE/hold.$HOLD.out"
    HOLD_IN[HOLD]=$in HOLD_OUT[HOLD]=$out
    read -rt 60 -u "$out" answer
    [ "$answer" = held ] || diag "holder of $path: ${answer:-no answer}"
}

attempt() {
    local answer='no answer'
    echo >&"${HOLD_IN[$1]}"
    read -rt 60 -u "${HOLD_OUT[$1]}" answer
    echo "$answer"
}

release() {
    local in=${HOLD_IN[$1]} out=${HOLD_OUT[$1]}
    exec {in}>&- {out}<&-
    unspawn "${HOLD_PID[$1]}"
    # its descriptors are closed and its mappings gone only when it has been waited for, which unspawn did
    rm -f "$BASE/hold.$1.in" "$BASE/hold.$1.out"
}

# ---- comparing trees -----------------------------------------------------

manifest() (
    cd "$1" || exit 1
    {
        find . -type d -printf '%p\tdir %m %U:%G %T@\n'
        find . ! -type d -printf '%p\t%y %m %U:%G %T@ %s %n %l\n'
        find . \( -type c -o -type b \) -exec stat -c '%n	device %t:%T' {} +
        find . -type f -print0 | xargs -0r sha256sum | sed -E 's/^(\\?)([0-9a-f]{64})  (.*)$/\3\tsha256 \2/'
        # one line an attribute; getfattr writes `# file: NAME`, then the attributes, then an empty line
        find . -print0 | xargs -0r getfattr -h -d -m - -e hex -- 2>/dev/null |
            awk '/^# file: / { name = substr($0, 9); next } NF { print name "\txattr " $0 }'
        # names of one file carry the first of them
        find . ! -type d -links +1 -printf '%i %p\n' | LC_ALL=C sort -k 2 |
            awk '{ i = $1; sub(/^[0-9]+ /, ""); if (!(i in first)) first[i] = $0; print $0 "\tlink " first[i] }'
    } | LC_ALL=C sort
)

same_tree() {
    local a b
    a=$(mktemp "$BASE/manifest.XXXXXX") b=$(mktemp "$BASE/manifest.XXXXXX")
    manifest "$2" >"$a"
    manifest "$3" >"$b"
    if [ -s "$a" ] && cmp -s "$a" "$b"; then
        pass "$1 ($(wc -l <"$a") facts)"
    else
        fail "$1"
        diag "$(diff "$a" "$b" | head -n 40)"
    fi
    rm -f "$a" "$b"
}
