#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The program is killed, idle and under load; it is started again on the same mount point. Every snapshot is then still active or
# committed whole, a removal that was cut off is finished, and nothing is left over.
# LOADS=N: so many kills under load.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"
: "${LOADS:=3}"

# SIGKILL to the program and what it forked; the dead mount stays where it is
kill_only() {
    local children
    children=$(pgrep -P "$PID")
    # shellcheck disable=SC2086
    kill -KILL "$PID" $children 2>/dev/null
    reap "$PID"
    forget "$PID"
}

fuse_mounts() { awk -v path="$MNT" '$5 == path && / - fuse/' /proc/self/mountinfo | wc -l; }

taken_over() { [ "$(overlays)" = "$1" ]; }

# back DESC [N]: N mounts are still in use, and taken over; the program runs again on the same mount point, and that mount is the only one
back() {
    start_program
    wait_until 10 taken_over "${2:-0}"
    is "$1: the mount point answers again" "$(t ls "$MNT" | grep -c -x -e active -e views -e snapshots)" 3
    is "$1: one mount is there, and no dead one below it" "$(fuse_mounts)" 1
    is "$1: no mount of before is left but those in use" "$(overlays)" "${2:-0}"
}

# ---- killed while idle ---------------------------------------------------

new_mount
snapshot base
prepare work base
fill "$MNT/active/work/fs"
sum=$(digest "$MNT/active/work/fs")
t mkdir "$MNT/views/look@base"
t cat "$MNT/views/look/fs/f" >/dev/null
echo value >"$MNT/snapshots/base/labels/key"
before=$(state)
kill_only
ok "a killed program leaves a dead mount" mounted "$MNT"
nok "that does not answer" test -e "$MNT/version"
back "killed idle"
is "entries are the same" "$(state)" "$before"
is "the active one has its files" "$(digest "$MNT/active/work/fs")" "$sum"
works "and is writable" create "$MNT/active/work/fs/new"
is "the snapshot reads" "$(t cat "$MNT/snapshots/base/fs/f")" base
is "the view reads" "$(t cat "$MNT/views/look/fs/f")" base
t rm "$MNT/active/work/fs/new"
works "it can be committed" rename "$MNT/active/work" "$MNT/snapshots/work"
ok "nothing is left over" wait_until 100 settled

# ---- killed with files open below fs/ ------------------------------------

prepare held work
hold write "$MNT/active/held/fs/new"
writer=$HOLD
hold cwd "$MNT/active/held/fs/dir"
kill_only
is "a writer goes on without the program" "$(attempt "$writer")" ok
is "and so does a working directory" "$(attempt "$HOLD")" ok
back "killed in use" 1
# a second overlay on the same upper would break both: the old one is taken over
works "fs/ is what it was" open "$MNT/active/held/fs/new"
fails "and can't be removed as long as it is in use" EBUSY rmdir "$MNT/active/held"
logged "and the log says why" rmdir active/held EBUSY
is "the writer of before goes on" "$(attempt "$writer")" ok
ok "other snapshots are not concerned" test -e "$MNT/snapshots/work/fs/file"
release "$writer"
release "$HOLD"
is "given up, it is there at the next touch" "$(t cat "$MNT/active/held/fs/new")" h
is "with what was made without the program" "$(t ls "$MNT/active/held/fs/dir" | grep made)" made-by-b_hold
works "and can be removed" rmdir "$MNT/active/held"

# ---- a removal that is cut off -------------------------------------------

prepare big base
mkdir "$MNT/active/big/fs"/{1..40}
for dir in {1..40}; do
    (cd "$MNT/active/big/fs/$dir" && seq 1500 | xargs touch)
done
id=$(field id "$MNT/active/big/info")
works "60,000 files are committed" rename "$MNT/active/big" "$MNT/snapshots/big"
works "and removed" rmdir "$MNT/snapshots/big"
kill_only
left=$(find "$STORE/trash" "$STORE/layers/$id" 2>/dev/null | wc -l)
ok "the kill came before the space was freed ($left left)" test "$left" -gt 2
back "killed in a removal"
fails "what was removed does not come back" ENOENT lstat "$MNT/snapshots/big"
ok "the removal is finished in the background" wait_until 100 settled
is "to the last file" "$(settled || leftovers)" ""
is "its parent has no such child" "$(t cat "$MNT/snapshots/base/children" | grep -c big)" 0

# ---- killed under load ---------------------------------------------------

# Clients write down what was answered: "KEY try VERB" before, "KEY did VERB" after a step that succeeded
client() {
    local w=$1 r=0 key
    step() {
        local verb=$1
        shift
        echo "$key try $verb"
        "$HELPERS/syscall" "$@" >/dev/null || return 1
        echo "$key did $verb"
    }
    payload() {
        head -c 20000 /dev/zero | tr '\0' "$((w % 10))" >"$MNT/active/$key/fs/big" && echo "$key" >"$MNT/active/$key/fs/mine"
    }
    while :; do
        r=$((r + 1))
        key=${ROUND}w${w}r$r
        step prepare mkdir "$MNT/active/$key@base" || return
        payload 2>/dev/null || return
        echo "$key did write"
        [ $((r % 5)) != 0 ] || continue
        step commit rename "$MNT/active/$key" "$MNT/snapshots/$key" || return
        case $((r % 3)) in
        0) step remove rmdir "$MNT/snapshots/$key" || return ;;
        1) step rename rename "$MNT/snapshots/$key" "$MNT/snapshots/$key-new" || return ;;
        esac
    done
}

# What is wrong with KEY whose last step is $2, done or tried ($3); W is its client. Prints nothing when all is well.
judge() {
    local key=$1 verb=$2 how=$3 w=$4 at=() place
    for place in active snapshots; do
        for name in "$key" "$key-new"; do
            [ ! -d "$MNT/$place/$name" ] || at+=("$place/$name")
        done
    done
    [ "${#at[@]}" -le 1 ] || echo "$key is in several places: ${at[*]}"
    case "$how $verb ${at[*]}" in
    'try prepare ' | "try prepare active/$key") ;;
    "did prepare active/$key") ;; # killed while it was written to
    "did write active/$key") whole "${at[0]}" "$w" ;;
    "try commit active/$key" | "try commit snapshots/$key") whole "${at[0]}" "$w" ;;
    "did commit snapshots/$key") whole "${at[0]}" "$w" ;;
    'try remove ') ;;
    "try remove snapshots/$key") whole "${at[0]}" "$w" ;;
    'did remove ') ;;
    "try rename snapshots/$key" | "try rename snapshots/$key-new") whole "${at[0]}" "$w" ;;
    "did rename snapshots/$key-new") whole "${at[0]}" "$w" ;;
    *) echo "$key: $how $verb, but found: ${at[*]:-nowhere}" ;;
    esac
    [ "${#at[@]}" != 1 ] || [ "$(cat "$MNT/${at[0]}/fs/f" 2>&1)" = base ] || echo "${at[0]} does not show its parent's file"
    [ "${#at[@]}" != 1 ] || [ "$(field name "$MNT/${at[0]}/info")" = "${at[0]#*/}" ] || echo "${at[0]}: wrong name in info"
}

whole() {
    local key=${1#*/}
    [ "$(cat "$MNT/$1/fs/mine" 2>&1)" = "${key%-new}" ] || echo "$1: payload lost"
    [ "$(tr -d "$(($2 % 10))" <"$MNT/$1/fs/big" | wc -c) $(stat -c %s "$MNT/$1/fs/big")" = "0 20000" ] || echo "$1: payload broken"
}

verdicts() {
    local w key verb how
    for ((w = 1; w <= 8; w++)); do
        # the last line of each key
        while read -r key how verb; do
            judge "$key" "$verb" "$how" "$w"
        done < <(tac "$BASE/client.$w" | awk 'NF == 3 && !seen[$1]++')
    done
}

# Entries that no client has ever asked for
strangers() {
    (cd "$MNT" && printf '%s\n' active/* snapshots/* | grep -v -e '\*$' -e '^snapshots/base$' -e '^snapshots/work$' | sed 's/.*\///; s/-new$//') |
        LC_ALL=C sort >"$BASE/there"
    cut -d' ' -f1 "$BASE"/client.* | LC_ALL=C sort -u | LC_ALL=C comm -13 - "$BASE/there"
}

clear_all() {
    local entry
    for entry in "$MNT"/active/*/ "$MNT"/snapshots/*/; do
        case $entry in
        */\*/ | */base/ | */work/) ;;
        *) t rmdir "$entry" || diag "cannot remove $entry" ;;
        esac
    done
}

steps() { cat "$BASE"/client.* 2>/dev/null | grep -c ' did '; }
under_way() { [ "$(steps)" -gt 20 ]; }

for ROUND in $(seq "$LOADS"); do
    pids=()
    for ((w = 1; w <= 8; w++)); do
        client "$w" >"$BASE/client.$w" 2>/dev/null &
        pids+=($!)
        SPAWNS+=($!)
    done
    wait_until 60 under_way
    sleep "$((ROUND % 3)).$((RANDOM % 500 + 500))"
    kill_only
    for pid in "${pids[@]}"; do
        reap "$pid"
    done
    ok "load $ROUND: work was going on ($(steps) steps)" under_way
    back "load $ROUND"
    is "load $ROUND: every snapshot is active or committed whole" "$(verdicts | head -n 20)" ""
    is "load $ROUND: there is none that nobody asked for" "$(strangers | head -n 20)" ""
    ok "load $ROUND: the sweep clears the store" wait_until 100 settled
    is "load $ROUND: nothing is left over" "$(settled || leftovers)" ""
    clear_all
done

# A mount that lives on in a process, its program killed or itself unmounted lazily: nobody commits or removes below it
for how in killed unmounted; do
    t mkdir "$MNT/active/on"
    # shellcheck disable=SC2016
    spawn sh -c 'exec 3>>"$0"; echo written >&3; exec sleep 1000' "$MNT/active/on/fs/file"
    holder=$SPAWNED
    ok "$how: somebody writes to it" wait_until 50 test -s "$MNT/active/on/fs/file"
    if [ "$how" = killed ]; then
        # From then on the kernel would ask about the way there, which nobody walks again
        fails "$how: with it open for writing it can't be committed" EBUSY rename "$MNT/active/on" "$MNT/snapshots/on"
        sleep 3
        kill_only
        back "$how" 1
        reason='open for writing'
    else
        umount -l "$MNT/active/on/fs"
        reason='end that'
    fi
    fails "$how: its commit is refused" EBUSY rename "$MNT/active/on" "$MNT/snapshots/on"
    logged "$how: with the reason" rename active/on EBUSY "$reason"
    fails "$how: so is its removal" EBUSY rmdir "$MNT/active/on"
    [ "$how" = killed ] || fails "$how: and a second mount" EBUSY opendir "$MNT/active/on/fs"
    unspawn "$holder"
    works "$how: after its end it can be committed" rename "$MNT/active/on" "$MNT/snapshots/on"
    ok "$how: with what was written" test -s "$MNT/snapshots/on/fs/file"
    t rmdir "$MNT/snapshots/on"
done

# What a killed program still holds for a moment, as nobody waits for its end, is waited for
t mkdir "$MNT/active/on"
# shellcheck disable=SC2016
spawn sh -c 'exec 3>>"$0"; echo written >&3; exec sleep 1000' "$MNT/active/on/fs/file"
holder=$SPAWNED
ok "somebody is in a mount" wait_until 50 test -s "$MNT/active/on/fs/file"
umount -l "$MNT/active/on/fs"
kill_only
start_program
spawn sh -c 'sleep 0.5; kill -KILL "$0"' "$holder"
works "its last moments do not show" opendir "$MNT/active/on/fs"
is "and its files are there" "$(t cat "$MNT/active/on/fs/file")" written
t rmdir "$MNT/active/on"

ok "the store is settled" wait_until 100 settled
is "and holds what it held at first" "$(count "$STORE/layers")" 3
is "with the label of then" "$(t cat "$MNT/snapshots/base/labels/key")" value
is "and the same files" "$(digest "$MNT/snapshots/work/fs")" "$sum"

done_testing
