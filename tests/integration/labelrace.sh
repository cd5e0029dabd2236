#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Labels that several change at once, held up at the worst moments; and more of them than a next worker is told of.
. "$(dirname "$0")/lib.sh"
FAULTS=yes
new_mount
cd / || exit 1
L=$MNT/active/k/labels

mkdir "$MNT/active/k"
names() { t ls -A "$L" | tr '\n' ' '; }
set_to() { sh -c "echo '$1' >'$2'"; }

# What is under way is past what it decided by, and ends only after the others have tried: those that do not wait for it
# are done long before.
let_go_soon() {
    sleep 0.5
    let_go
    wait "$HELD" "$1"
}

# ---- a close, held before the value is in its place

set_to old "$L/k"
hold_call openat 1 set_to new "$L/k"
spawn rm "$L/k"
let_go_soon "$SPAWNED"
is "a removal beside a close is the last word" "$(names)" ""

set_to old "$L/k"
hold_call openat 1 set_to new "$L/k"
spawn mv "$L/k" "$L/p"
let_go_soon "$SPAWNED"
is "a rename beside a close leaves one label" "$(names)" "p "
is "with the value of the close" "$(t cat "$L/p")" new

hold_call openat 1 set_to second "$L/p"
spawn truncate -s 0 "$L/p"
let_go_soon "$SPAWNED"
is "of two closes the last one counts" "$(t cat "$L/p")" ""

# ---- a removal, held before it is durable

set_to old "$L/k"
hold_call fsync 1 rm "$L/k"
again() { until (set -o noclobber && echo again >"$L/k") 2>/dev/null; do sleep 0.01; done; }
spawn again
let_go_soon "$SPAWNED"
is "one that is created anew beside a removal stays" "$(t cat "$L/k")" again
is "and is listed once" "$(names)" "k p "
ok "it can be removed" rm "$L/k" "$L/p"

# ---- one that is created, and not closed yet

exec 7>"$L/begun"
works "it can be renamed" rename "$L/begun" "$L/moved"
is "and then is listed under its new name" "$(names)" "moved "
echo v >&7
exec 7>&-
is "its close sets the new one" "$(names)=$(t cat "$L/moved")" "moved =v"
exec 7>"$L/begun"
fails "RENAME_NOREPLACE sees it" EEXIST noreplace "$L/moved" "$L/begun"
works "rename replaces it" rename "$L/moved" "$L/begun"
is "with the value" "$(t cat "$L/begun")" v
exec 7>&-
is "which its close leaves alone" "$(names)=$(t cat "$L/begun")" "begun =v"

# ---- one that was opened to be emptied, and whose last reference goes late

# A message that nobody has read yet holds the descriptor: the last reference goes without a close
in_a_message() {
    python3 - "$L/begun" <<'END'
import os, socket, subprocess, sys
path = sys.argv[1]
fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
a, b = socket.socketpair()
socket.send_fds(a, [b"x"], [fd])
os.close(fd)
subprocess.run(["sh", "-c", "echo later >'%s'" % path], check=True)
a.close()
b.close()
END
}
ok "a reference outlives its descriptor" in_a_message
sleep 0.3
is "what was closed later is not emptied by it" "$(t cat "$L/begun")" later
stop_program

# ---- more than the next worker is told of

FAULTS=''
new_mount
L=$MNT/active/k/labels
mkdir "$MNT/active/k"
set_to v "$L/first"
many() {
    cd "$STORE/layers/$(field id "$MNT/active/k/info")/labels" || return
    seq -f many%.0f 16400 | xargs sh -c 'tee "$@" <first >/dev/null' tee
    cd /
}
ok "16,400 more" many
is "are there" "$(t ls -l "$L" | wc -l)" 16402
slow() {
    { echo lost && wait_until 60 test -e "$BASE/go"; } | dd of="$L/another" status=none 2>"$BASE/said"
    echo "${PIPESTATUS[1]}" >"$BASE/ended"
}
spawn slow
ok "one more is begun" wait_until 20 test -e "$L/another"
kill_worker
: >"$BASE/go"
wait "$SPAWNED"
is "who has it open when the worker dies is told at close" "$(cat "$BASE/ended"): $(cat "$BASE/said")" \
    "1: dd: closing output file '$L/another': Input/output error"
done_testing
