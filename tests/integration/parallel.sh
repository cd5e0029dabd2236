#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Sixteen processes prepare, touch, commit and remove at once: nothing is lost, doubled or leaked. Of several that want the
# same name exactly one gets it.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

CLIENTS=16
ROUNDS=10

new_mount
snapshot base

descriptors() { find "/proc/$(worker)/fd" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l; }
as_few_descriptors() { [ "$(descriptors)" -le "$1" ]; }
only() { [ "$(overlays)" -le "$1" ]; }

# One client: rounds of the five verbs on names of its own. Every failure is a line on stdout, and so is everything that it
# leaves behind: "snapshots/NAME" or "active/KEY".
step() {
    local got
    got=$(timeout -k 5 120 "$HELPERS/syscall" "$@") || echo "failed: $* $got"
}

client() {
    local w=$1 r key
    for ((r = 1; r <= ROUNDS; r++)); do
        key=w$w-r$r
        case $((r % 4)) in
        0) step mkdir "$MNT/active/$key" ;;
        *) step mkdir "$MNT/active/$key@base" ;;
        esac
        case $((r % 3)) in
        0) ;; # never touched
        1) echo "$key" >"$MNT/active/$key/fs/mine" || echo "failed: write $key" ;;
        2) ls "$MNT/active/$key/fs" >/dev/null || echo "failed: ls $key" ;;
        esac
        case $((r % 5)) in
        0)
            step rmdir "$MNT/active/$key"
            ;;
        1)
            step rename "$MNT/active/$key" "$MNT/active/$key-later"
            echo "active/$key-later"
            ;;
        2)
            step rename "$MNT/active/$key" "$MNT/snapshots/$key"
            step mkdir "$MNT/views/$key@$key"
            [ "$(stat -f -c %T "$MNT/views/$key/fs")" = overlayfs ] || echo "failed: view $key is not mounted"
            step rmdir "$MNT/views/$key"
            step rmdir "$MNT/snapshots/$key"
            ;;
        *)
            step rename "$MNT/active/$key" "$MNT/snapshots/$key"
            [ $((r % 3)) != 1 ] || [ "$(cat "$MNT/snapshots/$key/fs/mine")" = "$key" ] || echo "failed: contents of $key"
            echo "snapshots/$key"
            ;;
        esac
    done
}

all_clients() {
    local w pids=()
    for ((w = 1; w <= CLIENTS; w++)); do
        client "$w" >"$BASE/client.$w" 2>&1 &
        pids+=($!)
    done
    wait "${pids[@]}"
    cat "$BASE"/client.* | LC_ALL=C sort
}

listed() { (cd "$MNT" && printf '%s\n' active/* snapshots/* views/*) | grep -v -e '\*' -e '^snapshots/base$' | LC_ALL=C sort; }

# remove_listed: everything but the base, deepest first is not needed as all stand on the base
remove_listed() {
    local entry
    while read -r entry; do
        step rmdir "$MNT/$entry"
    done < <(listed)
}

# A first pass warms up what is made once; what is there after it has been cleared away is what must be there later
all_clients >"$BASE/outcome"
is "warm-up: no step fails" "$(grep failed "$BASE/outcome" | head -n 20)" ""
remove_listed >"$BASE/removed"
is "warm-up: all can be removed" "$(cat "$BASE/removed")" ""
ok "the store settles" wait_until 100 settled
is "one layer is left" "$(leftovers | head -n 1) $(count "$STORE/layers")" "links: 1 1"
fds=$(descriptors)
threads=$(find "/proc/$(worker)/task" -mindepth 1 -maxdepth 1 | wc -l)

all_clients >"$BASE/outcome"
is "no step fails in $((CLIENTS * ROUNDS)) rounds of $CLIENTS processes" "$(grep failed "$BASE/outcome" | head -n 20)" ""
is "what is listed is what was left" "$(listed)" "$(grep -v failed "$BASE/outcome")"
ok "nothing is doubled in the store" wait_until 100 settled
is "leftovers" "$(settled || leftovers)" ""
bad=''
while read -r entry; do
    key=${entry#*/}
    key=${key%-later}
    round=${key#*-r}
    want=base
    [ $((round % 4)) != 0 ] || want=''
    [ "$(cat "$MNT/$entry/fs/f" 2>/dev/null)" = "$want" ] || bad+="$entry: base "
    [ $((round % 3)) != 1 ] || [ "$(cat "$MNT/$entry/fs/mine" 2>/dev/null)" = "$key" ] || bad+="$entry: own "
    [ "$(mounts_at "$MNT/$entry/fs")" = 1 ] || bad+="$entry: mounts $(mounts_at "$MNT/$entry/fs") "
done < <(listed)
is "every one has its files, and one mount" "$bad" ""
ids=$(for entry in $(listed); do field id "$MNT/$entry/info"; done)
is "no id is used twice" "$(sort <<<"$ids" | uniq -d)" ""

before=$(state)
restart
is "the same is there after a restart" "$(state)" "$before"
remove_listed >"$BASE/removed"
is "all can be removed" "$(cat "$BASE/removed")" ""
ok "and then no mount is left but the base's" only 1
ok "nor anything in the store" wait_until 100 settled

all_clients >"$BASE/outcome"
is "a third time" "$(grep failed "$BASE/outcome" | head -n 20)" ""
remove_listed >"$BASE/removed"
ok "no mount is left" only 1
ok "the store is settled" wait_until 100 settled
ok "no more descriptors than before ($fds)" wait_until 30 as_few_descriptors "$fds"
is "descriptors" "$(as_few_descriptors "$fds" || ls -l "/proc/$(worker)/fd")" ""
ok "nor many more threads ($threads)" test "$(find "/proc/$(worker)/task" -mindepth 1 -maxdepth 1 | wc -l)" -le $((threads + 10))

# ---- races for one name --------------------------------------------------

race() { limit "$HELPERS/b_race" "$@"; }

# In the outcomes of N races the right one is seen N times
for ((i = 1; i <= 20; i++)); do
    race 16 mkdir "$MNT/active/race"
    t rmdir "$MNT/active/race"
done >"$BASE/races"
is "sixteen want one KEY: one gets it, the others EEXIST" "$(sort "$BASE/races" | uniq -c | xargs)" "20 EEXIST 15 20 ok 1"

for ((i = 1; i <= 20; i++)); do
    race 16 mkdir "$MNT/active/race@base"
    race 16 rmdir "$MNT/active/race"
done >"$BASE/races"
is "… with a parent, and of sixteen that remove it one does" "$(sort "$BASE/races" | uniq -c | xargs)" \
    "20 EEXIST 15 20 ENOENT 15 40 ok 1"

for ((i = 1; i <= 10; i++)); do
    race 8 mkdir "$MNT/active/race" >"$BASE/race.a" &
    race 8 mkdir "$MNT/views/race" >"$BASE/race.v"
    wait $!
    cat "$BASE/race.a" "$BASE/race.v" | awk '{ sum[$1] += $2 } END { print "ok", sum["ok"], "EEXIST", sum["EEXIST"] }'
    rmdir "$MNT/active/race" 2>/dev/null || rmdir "$MNT/views/race"
done >"$BASE/races"
is "active/ and views/ share the KEYs" "$(sort -u "$BASE/races")" "ok 1 EEXIST 15"

for ((i = 1; i <= 10; i++)); do
    for ((w = 1; w <= 16; w++)); do
        step mkdir "$MNT/active/from$w@base"
    done
    race 16 rename "$MNT/active/from%" "$MNT/snapshots/race"
    [ "$(find "$MNT/active" -maxdepth 1 -name 'from*' | wc -l)" = 15 ] || echo "not fifteen are left"
    rmdir "$MNT"/active/from* "$MNT/snapshots/race"
done >"$BASE/races"
is "sixteen commit to one NAME: one does, and fifteen stay active" "$(sort "$BASE/races" | uniq -c | xargs)" \
    "10 EEXIST 15 10 ok 1"

for ((i = 1; i <= 10; i++)); do
    step mkdir "$MNT/active/one@base"
    race 16 rename "$MNT/active/one" "$MNT/snapshots/to%"
    [ "$(find "$MNT/snapshots" -maxdepth 1 -name 'to*' | wc -l)" = 1 ] || echo "not one"
    rmdir "$MNT"/snapshots/to*
done >"$BASE/races"
is "one committed to sixteen names: one of them" "$(sort "$BASE/races" | uniq -c | xargs)" "10 ENOENT 15 10 ok 1"

# The parent goes while a child is being prepared: either the child is there, or the parent is gone, never both
for ((i = 1; i <= 30; i++)); do
    step mkdir "$MNT/active/p$i"
    step rename "$MNT/active/p$i" "$MNT/snapshots/p$i"
    race 1 rmdir "$MNT/snapshots/p$i" >"$BASE/race.p" &
    race 1 mkdir "$MNT/active/c$i@p$i" >"$BASE/race.c"
    wait $!
    echo "$(cat "$BASE/race.p") $(cat "$BASE/race.c")"
    [ ! -d "$MNT/active/c$i" ] || stat -f -c %T "$MNT/active/c$i/fs" | grep -v overlayfs
    rmdir "$MNT/active/c$i" 2>/dev/null && rmdir "$MNT/snapshots/p$i"
done >"$BASE/races"
is "a parent removed while a child is prepared: one of the two" \
    "$(grep -v -e '^ok 1 ENOENT 1$' -e '^ENOTEMPTY 1 ok 1$' "$BASE/races")" ""
is "thirty times" "$(wc -l <"$BASE/races")" 30

# The last child of a snapshot in use goes at the moment of its removal: it stays all the same
limit python3 - "$MNT" >"$BASE/races" <<'END'
import errno, os, sys

os.chdir(sys.argv[1])
for i in range(60):
    name = "used%d" % i
    os.mkdir("active/" + name)
    os.rename("active/" + name, "snapshots/" + name)
    os.mkdir("views/child@" + name)
    inside = os.open("snapshots/" + name + "/fs", os.O_RDONLY)
    child = os.fork()
    if not child:
        os.rmdir("views/child")
        os._exit(0)
    for _ in range(1000):
        try:
            os.rmdir("snapshots/" + name)
            print("removed")
            break
        except OSError as e:
            if e.errno != errno.ENOTEMPTY:
                print(errno.errorcode[e.errno])
                break
    os.waitpid(child, 0)
    os.close(inside)
    try:
        os.rmdir("snapshots/" + name)
    except FileNotFoundError:
        print("gone")
END
is "a snapshot in use whose last child goes: EBUSY" "$(sort "$BASE/races" | uniq -c | xargs)" "60 EBUSY"

# First touches race with commit: what they see is the old or the new place, never an error of another kind
for ((i = 1; i <= 20; i++)); do
    step mkdir "$MNT/active/t$i@base"
    race 8 read "$MNT/active/t$i/fs/f" >"$BASE/race.t" &
    race 1 rename "$MNT/active/t$i" "$MNT/snapshots/t$i"
    wait $!
    sed 's/ [0-9]*$//' "$BASE/race.t"
    race 8 read "$MNT/snapshots/t$i/fs/f"
    rmdir "$MNT/snapshots/t$i"
done >"$BASE/races"
is "first touches during a commit: read or ENOENT" "$(grep -v -x -e ok -e ENOENT -e 'ok 1' -e 'ok 8' "$BASE/races" | sort | uniq -c)" ""
is "every commit succeeds" "$(grep -c -x 'ok 1' "$BASE/races")" 20
is "and at once all read below snapshots/" "$(grep -c -x 'ok 8' "$BASE/races")" 20

# Exchange from sixteen processes at once is done sixteen times: back where it began
step mkdir "$MNT/active/left"
step mkdir "$MNT/active/right"
left=$(field id "$MNT/active/left/info")
is "sixteen exchanges at once" "$(race 16 exchange "$MNT/active/left" "$MNT/active/right")" "ok 16"
is "an even number of them changes nothing" "$(field id "$MNT/active/left/info")" "$left"
step rmdir "$MNT/active/left"
step rmdir "$MNT/active/right"

ok "after all races: the store is settled" wait_until 100 settled
is "one layer is left" "$(count "$STORE/layers")" 1
ok "no mount is left" only 1
ok "no more descriptors than before" wait_until 30 as_few_descriptors "$((fds + 2))"

done_testing
