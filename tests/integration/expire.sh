#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Idle mounts of snapshots and views are released after a while and come back at the next touch; what is in use stays, and
# so do active snapshots.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

# released ENTRY…: none of them has a mount
released() {
    local entry
    for entry in "$@"; do
        [ "$(mounts_at "$MNT/$entry/fs")" = 0 ] || return 1
    done
}

view() { t mkdir "$MNT/views/$1@${2:-base}"; }
use() { t cat "$MNT/$1/fs/f"; }
attached() {
    ok "$1" mounted "$MNT/$2/fs" || diag "$(tail -n 3 "$MNT/log"; grep -e ^attached -e mount "$MNT/metrics"; grep -F "$MNT" /proc/self/mountinfo)"
}

# Two full sweeps have passed when a view that was touched now has been released twice
tick_tock() {
    local _
    [ -d "$MNT/views/clock" ] || view clock
    for _ in 1 2; do
        use views/clock >/dev/null
        wait_until 100 released views/clock || diag "the clock view is not released"
    done
}

new_mount expire=1
prepare base
echo base >"$MNT/active/base/fs/f"
mkdir "$MNT/active/base/fs/d"
cp /bin/sleep "$MNT/active/base/fs/sleep"
commit base
snapshot child base

# ---- released, and back --------------------------------------------------

view v child
for entry in snapshots/base snapshots/child views/v; do
    is "$entry reads" "$(use "$entry")" "$([ "$entry" = snapshots/base ] && echo base || echo child)"
    attached "$entry is mounted by that" "$entry"
done
ok "idle mounts of snapshots and views are released" wait_until 100 released snapshots/base snapshots/child views/v
is "the snapshot is back at the next touch" "$(use snapshots/child)" child
is "so is the view" "$(use views/v)" child
attached "the view is mounted again" views/v
ok "they are released again" wait_until 100 released snapshots/child views/v
is "listing the entry shows fs all the same" "$(t ls "$MNT/views/v" | grep -x fs)" fs
is "info needs no mount" "$(field kind "$MNT/views/v/info")" view
ok "reading control files attaches nothing that stays" wait_until 100 released views/v

# ---- active snapshots stay -----------------------------------------------

prepare work base
echo new >"$MNT/active/work/fs/new"
attached "an active snapshot is mounted" active/work
tick_tock
attached "it is not released when idle" active/work
is "and keeps what was written" "$(t cat "$MNT/active/work/fs/new")" new

# ---- what is in use stays ------------------------------------------------

view file
hold read "$MNT/views/file/fs/f"
file=$HOLD
view cwd
hold cwd "$MNT/views/cwd/fs/d"
cwd=$HOLD
view root
hold cwd "$MNT/views/root/fs"
root=$HOLD
view program
spawn "$MNT/views/program/fs/sleep" 1000
program=$SPAWNED
view below
use views/below >/dev/null
t mount -t tmpfs below "$MNT/views/below/fs/d"
view bound
mkdir "$BASE/target"
t mount --bind "$MNT/views/bound/fs" "$BASE/target"
tick_tock
attached "an open file keeps the mount" views/file
attached "a working directory below fs/ keeps it" views/cwd
attached "a working directory at fs/ keeps it" views/root
attached "a running program keeps it" views/program
attached "a mount below fs/ keeps it" views/below
ok "and is still there itself" mounted "$MNT/views/below/fs/d"
is "the open file reads" "$(attempt "$file")" ok
is "the working directory is read-only all the time" "$(attempt "$cwd")" EROFS
is "a bind mount elsewhere reads, released or not" "$(t cat "$BASE/target/f")" base
is "and so does the view behind it" "$(use views/bound)" base

release "$file"
release "$cwd"
release "$root"
unspawn "$program"
t umount "$MNT/views/below/fs/d"
t umount "$BASE/target"
ok "given up, all of them are released" wait_until 100 released views/file views/cwd views/root views/program views/below \
    views/bound
is "and come back" "$(use views/below)" base

# A file opened before several releases of other mounts still reads the right bytes
hold read "$MNT/snapshots/base/fs/f"
tick_tock
is "a reader outlives the releases around it" "$(attempt "$HOLD")" ok
attached "its snapshot is still mounted" snapshots/base
release "$HOLD"

# ---- touched all the time ------------------------------------------------

# Eight readers over some expiries: none ever sees the bare folder or an error
outcomes=''
end=$((SECONDS + 6))
while [ "$SECONDS" -lt "$end" ]; do
    outcomes+="$(limit "$HELPERS/b_race" 8 read "$MNT/views/v/fs/f")"$'\n'
    outcomes+="$(limit "$HELPERS/b_race" 8 overlay "$MNT/snapshots/base/fs")"$'\n'
    sleep "1.$((RANDOM % 10))"
done
is "readers never notice a release" "$(sort -u <<<"$outcomes" | xargs)" "ok 8"

ok "all is released in the end" wait_until 100 released views/v views/clock snapshots/base snapshots/child
ok "no other overlay than that of the active snapshot is left" test "$(overlays)" = 1

# ---- expire=0, and the default -------------------------------------------

new_mount expire=0
snapshot base
view v
is "expire=0: a view reads" "$(use views/v)" base
is "expire=0: a snapshot reads" "$(use snapshots/base)" base
sleep 4
attached "expire=0: a view is not released" views/v
attached "expire=0: nor a snapshot" snapshots/base

new_mount
snapshot base
view v
is "by default a view reads" "$(use views/v)" base
sleep 4
attached "by default an idle view stays for more than a moment" views/v

new_base
nok "expire= takes a number only" limit "$STRATAFS" "$STORE" "$MNT" -f -o expire=soon
nok "and no negative one" limit "$STRATAFS" "$STORE" "$MNT" -f -o expire=-1

# ---- looked at once more -------------------------------------------------

# What was mounted a moment ago and got lost is mounted again without anybody touching it; the look may come before the
# loss, but not each time
start_program expire=0
prepare base
echo base >"$MNT/active/base/fs/f"
commit base
found=0
for try in 1 2 3 4 5; do
    view "again$try"
    use "views/again$try" >/dev/null
    t umount "$MNT/views/again$try/fs"
    ! wait_until 4 mounted "$MNT/views/again$try/fs" || found=$((found + 1))
    [ "$found" = 0 ] || break
done
isnt "a mount that got lost right after it was made is there again" "$found" 0
is "and shows the files" "$(use "views/again$try")" base
works "its view is removed" rmdir "$MNT/views/again$try"

done_testing
