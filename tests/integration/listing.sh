#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Listing folders with many entries, also while entries come and go.
. "$(dirname "$0")/lib.sh"
new_mount durability=none
cd / || exit 1
A=$MNT/active S=$MNT/snapshots V=$MNT/views
N=3000

prepare() { (cd "$A" && seq -f "$1%05.0f" "$2" "$3" | xargs -n 100 mkdir); }
remove() { (cd "$A" && seq -f "$1%05.0f" "$2" "$3" | xargs -n 100 rmdir); }
# Names of a listdir output, sorted
listed() { cut -d' ' -f2- "$1" | LC_ALL=C sort; }
doubles() { cut -d' ' -f2- "$1" | LC_ALL=C sort | uniq -d | wc -l; }

ok "prepare $N" prepare k 1 $N
is "ls lists all" "$(t ls "$A" | wc -l)" $N
is "and each once" "$(t ls -U "$A" | sort -u | wc -l)" $N
is "ls -U again gives the same" "$(t ls -U "$A" | LC_ALL=C sort | sha256sum)" "$(seq -f 'k%05.0f' 1 $N | sha256sum)"

for bytes in 300 4096 1048576; do
    t "$HELPERS/listdir" "$A" $bytes >"$BASE/list"
    is "with a buffer of $bytes bytes: all" "$(listed "$BASE/list" | sha256sum)" "$(seq -f 'k%05.0f' 1 $N | sha256sum)"
done

# ---- inode numbers
t ls -iU "$A" | awk '{ print $1, $2 }' | LC_ALL=C sort -k2 >"$BASE/ls"
(cd "$A" && seq -f 'k%05.0f' 1 $N | t xargs stat -c '%i %n') >"$BASE/stat"
ok "ls -i tells stat's inode numbers" cmp "$BASE/ls" "$BASE/stat"
LC_ALL=C sort -k2 "$BASE/list" >"$BASE/list.sorted"
ok "so does getdents" cmp "$BASE/list.sorted" "$BASE/stat"
is "no inode number twice" "$(cut -d' ' -f1 "$BASE/stat" | sort | uniq -d | wc -l)" 0
stays() { [ "$(stat -c %i "$1")" = "$2" ]; }
ok "an inode number stays" stays "$A/k00007" "$(awk '$2 == "k00007" { print $1 }' "$BASE/stat")"
for d in "$MNT" "$A/k00001" "$A/k00001/labels"; do
    is "inode numbers in ${d#"$BASE"/}" "$(cd "$d" && ls -iAU | awk '$2 != "fs" { print $1, $2 }' | sort)" \
        "$(cd "$d" && ls -A | grep -vx fs | xargs -r stat -c '%i %n' | sort)"
done

# ---- what comes and goes while somebody lists
# churn DESC BYTES COMMANDS: list, stop after the first piece, run COMMANDS, list the rest into $BASE/list
churn() {
    local bytes=$1 line
    shift
    mkfifo "$BASE/fifo"
    timeout 120 "$HELPERS/listdir" "$A" "$bytes" "$BASE/fifo" >"$BASE/list" &
    local pid=$!
    read -r line <"$BASE/fifo"
    [ "$line" = first ] || diag "listdir did not start"
    "$@"
    rm "$BASE/fifo"
    wait "$pid"
}
come() { prepare n 1 500; }
come_and_go() {
    remove k 1 600
    prepare n 501 700
    remove k 2801 3000
    prepare k 1 100
}
all_go() {
    remove k 1 100
    remove k 601 2800
}
leave_and_return() { # the very entries just read
    local name
    cut -d' ' -f2- "$BASE/list" >"$BASE/first"
    (cd "$A" && xargs rmdir <"$BASE/first" && xargs mkdir <"$BASE/first")
}

churn 2000 come
is "while 500 come: the listing ends well" "$?" 0
is "while 500 come: nothing twice" "$(doubles "$BASE/list")" 0
is "while 500 come: nothing missed" "$(listed "$BASE/list" | grep -c '^k')" $N
churn 2000 come_and_go
is "while many come and go: the listing ends well" "$?" 0
is "while many come and go: nothing twice" "$(doubles "$BASE/list" | tee "$BASE/n")" 0
is "while many come and go: nothing that stayed is missed" \
    "$(listed "$BASE/list" | awk '$1 > "k00600" && $1 < "k02801" || /^n/ && $1 < "n00501"' | wc -l)" 2700
is "the next listing is right" "$(t ls "$A" | wc -l)" 3000
churn 300 leave_and_return
is "while what was read leaves and returns: nothing that stayed is missed" \
    "$(listed "$BASE/list" | grep -cvxFf "$BASE/first")" $((3000 - $(wc -l <"$BASE/first")))
churn 2000 all_go
is "while most go: the listing ends well" "$?" 0
is "while most go: nothing twice" "$(doubles "$BASE/list")" 0
is "while most go: nothing that stayed is missed" "$(listed "$BASE/list" | grep -c '^n')" 700
is "what is left is right" "$(t ls "$A" | wc -l)" 700

# Under load, without stopping
busy() {
    while :; do
        (cd "$A" && mkdir b1 b2 b3 b4 b5 b6 b7 b8 b9 && rmdir b1 b2 b3 b4 b5 b6 b7 b8 b9)
    done
}
spawn busy
missed=0 double=0
for _ in $(seq 50); do
    t "$HELPERS/listdir" "$A" 1500 >"$BASE/list" || missed=error
    [ "$(listed "$BASE/list" | grep -c '^n')" = 700 ] || missed=$((missed + 1))
    [ "$(listed "$BASE/list" | grep '^n' | uniq -d | wc -l)" = 0 ] || double=$((double + 1))
done
unspawn "$SPAWNED"
is "50 listings while others come and go" "$missed missed $double double" "0 missed 0 double"

# ---- find, and the other folders
(cd "$A" && for i in b1 b2 b3 b4 b5 b6 b7 b8 b9; do [ ! -e $i ] || rmdir $i; done)
is "find sees every entry" "$(t find "$A" -mindepth 1 -maxdepth 1 -type d -name 'n*' | wc -l)" 700
is "find sees every info" "$(t find "$A" -mindepth 2 -maxdepth 2 -name info -type f | wc -l)" 700
ok "commit 300" sh -c "cd '$A' && for i in \$(seq -f 'n%05.0f' 1 300); do mv \$i ../snapshots/ || exit 1; done"
is "snapshots/ lists them" "$(t ls "$S" | wc -l)" 300
is "active/ no longer" "$(t ls "$A" | wc -l)" 400
ok "50 views" sh -c "cd '$V' && seq -f 'v%02.0f@n00001' 1 50 | xargs mkdir"
is "views/ lists them" "$(t ls "$V" | wc -l)" 50
is "children lists them" "$(wc -l <"$S/n00001/children")" 50
is "links of a folder do not mislead find" "$(t find "$MNT" -maxdepth 2 -mindepth 2 | wc -l)" 750
echo here >"$A/n00700/fs/needle"
is "find descends into fs/" "$(t find "$A/n00700" -name needle)" "$A/n00700/fs/needle"
is "a listing from the start after rewinding is the same" "$(cd "$S" && t ls -U | sha256sum)" "$(cd "$S" && t ls -U | sha256sum)"
restart
is "after a restart: active/" "$(t ls "$A" | wc -l)" 400
is "after a restart: snapshots/" "$(t ls "$S" | wc -l)" 300
is "after a restart: views/" "$(t ls "$V" | wc -l)" 50
done_testing
