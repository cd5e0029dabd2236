#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What is mounted is not what the program last knew: taken away by hand and its name forgotten, kept elsewhere over an
# end of the program, not to be looked at for a while. Nothing hangs, nothing that is in use goes, no layer gets a
# second overlay.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

metric() { t sed -n "s/^$1 //p" "$MNT/metrics"; }

is_inside() { [ "$(readlink "/proc/$1/cwd")" = "$2" ]; } # PROCESS FOLDER

# ---- unmounted by hand, and the kernel has forgotten the name

forgotten() { # ENTRY: mounted, looked at once more, unmounted, and dropped from the kernel's caches
    t ls "$1/fs" >/dev/null
    sleep 2.2
    umount "$1/fs"
    sync
    echo 2 >/proc/sys/vm/drop_caches
}
new_mount
snapshot base
prepare removed base
prepare committed base
echo kept >"$MNT/active/committed/fs/file"
forgotten "$MNT/active/removed"
forgotten "$MNT/active/committed"
forgotten "$MNT/snapshots/base"
is "forgotten: a removal" "$(errno rmdir "$MNT/active/removed")" ok
is "forgotten: a commit" "$(errno rename "$MNT/active/committed" "$MNT/snapshots/committed")" ok
is "forgotten: what was committed" "$(t cat "$MNT/snapshots/committed/fs/file")" kept
is "forgotten: a snapshot with a child" "$(errno rmdir "$MNT/snapshots/base")" ENOTEMPTY
t rmdir "$MNT/snapshots/committed"
is "forgotten: a snapshot" "$(errno rmdir "$MNT/snapshots/base")" ok

# ---- unmounted by hand, and another file system has the number of its device by now

prepare stranger
stat "$MNT/active/stranger/fs" >/dev/null
device=$(stat -c %d "$MNT/active/stranger/fs")
umount "$MNT/active/stranger/fs"
mkdir "$BASE"/other.{1..40}
for place in "$BASE"/other.*; do
    mount -t tmpfs -o size=4k stranger "$place"
    [ "$(stat -c %d "$place")" != "$device" ] || break
done
if [ "$(stat -c %d "$place")" = "$device" ]; then
    spawn sh -c 'cd "$1" && exec sleep 600' - "$place"
    wait_until 10 is_inside "$SPAWNED" "$place"
    umount -l "$place"
    is "a stranger with the number of its device does not keep it" "$(errno rmdir "$MNT/active/stranger")" ok
    unspawn "$SPAWNED"
else
    diag "the number of the device was not given out again"
    is "without a stranger" "$(errno rmdir "$MNT/active/stranger")" ok
fi
for place in "$BASE"/other.*; do ! mounted "$place" || umount "$place"; done
stop_program

# ---- taken away by the kernel: a caller of rmdir or of an exchange that is killed before its request was read

removal_killed_while_queued() { # ENTRY: until the kernel has taken its mount away
    local worker caller tries
    for tries in 1 2 3 4 5 6 7 8; do
        t stat "${1%/*}" "$1" >/dev/null # what it asks on the way is not to be what is killed
        worker=$(worker)
        kill -STOP "$worker"
        (trap - INT && exec rmdir "$1") 2>/dev/null &
        caller=$!
        sleep 0.3
        kill -INT "$caller"
        sleep 0.3
        kill -CONT "$worker"
        wait "$caller" 2>/dev/null
        [ "$(mounts_at "$1/fs")" != 0 ] || return 0
    done
    diag "$1 stays mounted after $tries tries"
}
within=()
set -m # or what is in the background ignores SIGINT
new_mount
snapshot base
prepare work base
echo kept >"$MNT/active/work/fs/file"
t mkdir "$MNT/views/look@base" "$MNT/active/other@base"
t ls "$MNT/active/other/fs" >/dev/null
for entry in snapshots/base views/look active/work; do
    (cd "$MNT/$entry/fs" && exec sleep 600) &
    within+=("$!")
    wait_until 5 is_inside "$!" "$MNT/$entry/fs"
done
t rmdir "$MNT/active/other" # no children, or rmdir has another reason
removal_killed_while_queued "$MNT/views/look"
is "killed amid a removal: a view in use" "$(errno rmdir "$MNT/views/look")" EBUSY
logged "killed amid a removal: log names who" rmdir views/look EBUSY "${within[1]}"
t ls "$MNT/views/look/fs" >/dev/null
is "killed amid a removal: also when mounted anew" "$(errno rmdir "$MNT/views/look")" EBUSY
removal_killed_while_queued "$MNT/active/work"
is "killed amid a removal: what is in use is not removed" "$(errno rmdir "$MNT/active/work")" EBUSY
is "killed amid a removal: nor committed" "$(errno rename "$MNT/active/work" "$MNT/snapshots/work")" EBUSY
kill -KILL "${within[1]}" "${within[2]}"
wait "${within[1]}" "${within[2]}" 2>/dev/null
is "killed amid a removal: then the view goes" "$(errno rmdir "$MNT/views/look")" ok
is "killed amid a removal: and the other is as it was" "$(t cat "$MNT/active/work/fs/file")" kept
t rmdir "$MNT/active/work"
removal_killed_while_queued "$MNT/snapshots/base"
is "killed amid a removal: a snapshot in use" "$(errno rmdir "$MNT/snapshots/base")" EBUSY
kill -KILL "${within[0]}"
wait "${within[0]}" 2>/dev/null
is "killed amid a removal: then it goes" "$(errno rmdir "$MNT/snapshots/base")" ok
set +m
stop_program

# ---- bound elsewhere while the program is started anew

for options in '' volatile; do
    what="bound${options:+, $options}"
    new_mount "$options"
    prepare work
    echo before >"$MNT/active/work/fs/file"
    mkdir "$BASE/bound"
    mount --bind "$MNT/active/work/fs" "$BASE/bound"
    mount --make-private "$BASE/bound"
    kill -TERM "$PID" && wait "$PID"
    start_program "$options"
    is "$what: no second overlay on its layer" "$(errno open "$MNT/active/work/fs/file")" EBUSY
    like "$what: log says where it is" "$(t tail -n 1 "$MNT/log")" "still used by mounted on $BASE/bound \(mount namespace of process [0-9]+\)"
    is "$what: no commit" "$(errno rename "$MNT/active/work" "$MNT/snapshots/work")" EBUSY
    logged "$what: with the same reason" rename active/work EBUSY "mounted on $BASE/bound"
    is "$what: no removal" "$(errno rmdir "$MNT/active/work")" EBUSY
    echo after >"$BASE/bound/file"
    umount "$BASE/bound"
    is "$what: free again" "$(t cat "$MNT/active/work/fs/file")" after
    ok "$what: and committed" commit work
    stop_program
done

# a copy in another mount namespace, and an import that is refused
new_mount volatile
prepare work
echo before >"$MNT/active/work/fs/file"
unshare -m --propagation private sleep 600 &
other=$!
elsewhere() { [ "$(readlink "/proc/$other/exe")" = "$(readlink -f "$(command -v sleep)")" ]; } # by then it has its namespace
wait_until 10 elsewhere
is "another namespace: an import" "$(errno rewrite "$MNT/active/work/layer.tar" junk)" EBUSY
logged "another namespace: log says whose" import active/work/layer.tar EBUSY "still used by the mount namespace of process $other"
is "another namespace: no second overlay" "$(errno open "$MNT/active/work/fs/file")" EBUSY
kill "$other"
wait "$other" 2>/dev/null
is "another namespace: free again" "$(t cat "$MNT/active/work/fs/file")" before
stop_program

# ---- a mount that can't be looked at for a while

program=$STRATAFS
new_base
printf '#!/bin/sh\nulimit -n 90 # the soft and the hard one\nexec "%s" "$@"\n' "$STRATAFS" >"$BASE/limited"
chmod +x "$BASE/limited"
STRATAFS=$BASE/limited
start_program keeper=off,expire=0
STRATAFS=$program
snapshot base
prepare work base
t ls "$MNT/snapshots/base/fs" "$MNT/active/work/fs" >/dev/null
(cd "$MNT/snapshots/base/fs" && exec sleep 600) &
inside=$!
fds=()
for _ in $(seq 80); do { exec {fd}<"$MNT/snapshots/base/layer.tar"; } 2>/dev/null && fds+=("$fd"); done
sleep 2.5 # one look a second after the mount
for fd in "${fds[@]}"; do exec {fd}<&-; done
ok "looks fail: there were not enough descriptors" test "${#fds[@]}" -lt 80
is "looks fail: the mounts are known" "$(metric stratafs_live_mounts)" 2
is "looks fail: a commit" "$(errno rename "$MNT/active/work" "$MNT/snapshots/work")" ok
t rmdir "$MNT/snapshots/work"
is "looks fail: in use is in use" "$(errno rmdir "$MNT/snapshots/base")" EBUSY
kill "$inside"
wait "$inside" 2>/dev/null
gone_again() { [ "$(errno rmdir "$MNT/snapshots/base")" = ok ]; }
ok "looks fail: then it goes" wait_until 10 gone_again
stop_program

# ---- a record that is damaged while its entry is in use

new_mount
prepare work
t ls "$MNT/active/work/fs" >/dev/null
(cd "$MNT/active/work/fs" && exec sleep 600) &
inside=$!
printf x | dd of="$STORE/layers/1/meta" conv=notrunc bs=1 seek=20 status=none
printf x | dd of="$STORE/layers/1/meta" conv=notrunc bs=1 seek=$(($(stat -c %s "$STORE/layers/1/meta") / 2 + 20)) status=none
t sh -c "echo v >'$MNT/active/work/labels/x'" 2>/dev/null # so that it is read anew
is "damaged: in use is in use" "$(errno rmdir "$MNT/active/work")" EBUSY
kill "$inside"
wait "$inside" 2>/dev/null
free() { [ "$(errno rmdir "$MNT/active/work")" = ok ]; }
ok "damaged: then it goes" wait_until 10 free
is "damaged: with its mount" "$(metric stratafs_live_mounts)" 0
stop_program

# ---- something else is mounted below fs/

new_mount
prepare work
mkdir "$MNT/active/work/fs/proc"
mount -t tmpfs tmpfs "$MNT/active/work/fs/proc"
echo kept >"$MNT/active/work/fs/proc/file"
is "mounted below: a commit" "$(errno rename "$MNT/active/work" "$MNT/snapshots/work")" EBUSY
like "mounted below: log says where" "$(t tail -n 1 "$MNT/log")" "mounted below.*umount $MNT/active/work/fs/proc\$"
is "mounted below: a removal" "$(errno rmdir "$MNT/active/work")" EBUSY
like "mounted below: log says where, too" "$(t tail -n 1 "$MNT/log")" "in use.*$MNT/active/work/fs/proc"
is "mounted below: it is left as it was" "$(t cat "$MNT/active/work/fs/proc/file")" kept
ok "mounted below: fs/ is writable" t touch "$MNT/active/work/fs/more"
umount "$MNT/active/work/fs/proc"
ok "mounted below: committed without" commit work
stop_program

# ---- the end of the program amid an import

new_mount
prepare begun
prepare opened
prepare other
t ls "$MNT/active/other/fs" >/dev/null
mkdir "$BASE/files"
head -c 3000000 /dev/urandom >"$BASE/files/random"
tar -C "$BASE/files" -cf "$BASE/layer.tar" random
mkfifo "$BASE/fifo"
cat "$BASE/fifo" >"$MNT/active/begun/layer.tar" 2>"$BASE/said" &
writer=$!
exec {fd}>"$BASE/fifo" {fd2}>"$MNT/active/opened/layer.tar"
head -c 2000000 "$BASE/layer.tar" >&"$fd"
ok "amid an import: it has begun" wait_until 10 test -e "$STORE/layers/1/fs.new/random"
is "amid an import: fs/ can't be touched" "$(errno open "$MNT/active/begun/fs/random")" EBUSY
logged "amid an import: with the reason" mount active/begun/fs EBUSY "being imported"
kill -TERM "$PID"
ok "amid an import: the program ends at once" wait_until 10 gone "$PID"
exec {fd}>&- {fd2}>&-
wait "$writer"
isnt "amid an import: its writer is told" "$?" 0
reap "$PID"
is "amid an import: its status" "$?" 0
forget "$PID"
nok "amid an import: nothing is mounted" mounted "$MNT"
nok "amid an import: nothing is left of it" test -e "$STORE/layers/1/fs.new"
is "amid an import: the store is in order" "$("$STRATAFS" --check "$STORE" >/dev/null; echo $?)" 0
start_program ''
for entry in begun opened; do
    ok "amid an import: $entry can be written again" t cp "$BASE/layer.tar" "$MNT/active/$entry/layer.tar"
done
stop_program
done_testing
