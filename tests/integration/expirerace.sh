#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# First touches, renames and removals at the very moment when idle mounts are released: nothing hangs, nobody lands on the
# bare directory, nothing is left.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

race() { timeout -k 1 60 "$HELPERS/b_race" "$@"; }

new_mount expire=1
prepare base
echo base >"$MNT/active/base/fs/f"
commit base

workers=12
rounds=6

# A pause that ends when a mount touched at its start is about to be released: after 1 to 2.2 seconds
pause() { sleep "$((1 + RANDOM % 2)).$((RANDOM % 3))$((RANDOM % 10))"; }

renamer() { # N
    local from=views/r$1a to=views/r$1b round
    mkdir "$MNT/$from@base"
    for ((round = 0; round < rounds; round++)); do
        race 2 read "$MNT/$from/fs/f" | sed 's/^/before /'
        pause
        race 3 overlay "$MNT/$from/fs" | sed 's/^/touch /' &
        race 1 rename "$MNT/$from" "$MNT/$to" | sed 's/^/rename /'
        wait $!
        race 2 read "$MNT/$to/fs/f" | sed 's/^/after /'
        local swap=$from
        from=$to to=$swap
    done
    rmdir "$MNT/$from"
}

remover() { # N
    local round
    for ((round = 0; round < rounds; round++)); do
        mkdir "$MNT/views/d$1@base"
        race 2 read "$MNT/views/d$1/fs/f" | sed 's/^/before /'
        pause
        race 3 overlay "$MNT/views/d$1/fs" | sed 's/^/touch /' &
        race 1 rmdir "$MNT/views/d$1" | sed 's/^/remove /'
        wait $!
        rmdir "$MNT/views/d$1" 2>/dev/null # where somebody was inside
        [ ! -e "$MNT/views/d$1" ] || echo "not removed 1"
    done
}

pids=()
for ((n = 1; n <= workers; n++)); do
    renamer "$n" >"$BASE/out.r$n" 2>&1 &
    pids+=($!)
    remover "$n" >"$BASE/out.d$n" 2>&1 &
    pids+=($!)
done
wait "${pids[@]}" # and not for the program

# what PHASE: the outcomes seen in it, without how often
what() { cat "$BASE"/out.* | sed -n "s/^$1 \(.*\) [0-9]*$/\1/p" | sort -u | xargs; }
is "a view reads before" "$(what before)" ok
is "and after its rename" "$(what after)" ok
is "every rename is carried out" "$(what rename)" ok
is "who touches meanwhile lands in the overlay, or finds no such name" "$(what touch | sed 's/ENOENT ok/ok/; s/^ENOENT$/ok/')" ok
is "every removal is carried out, or refused to somebody inside" "$(what remove | sed 's/EBUSY ok/ok/')" ok
is "nothing else is said" "$(cat "$BASE"/out.* | grep -v -E '^(before|after|rename|touch|remove) ' | sort | uniq -c)" ""
is "all rounds were run" "$(cat "$BASE"/out.* | grep -c '^before ')" $((2 * workers * rounds))
is "no view is left" "$(ls "$MNT/views")" ""
ok "the mounts go" wait_until 100 test "$(mounts_below "$MNT/views" | wc -l)" = 0
ok "it stops in order" stop_program

done_testing
