#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Every way into fs/ lands in the merged tree and never on the bare directory below it, at the very first system call:
# nothing here tries twice. Each way meets an entry of its own that nobody has touched before.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

TOUCH=$HELPERS/b_touch

# Ways that only look: at fs/ itself, and at the file f below it
LOOKS=(open opendir opath opath-nofollow stat lstat statx statx-nosync statfs access listxattr inotify chdir chroot bind
    open-tree handle openat openat-path statx-at fchdir cwd-open cwd-opath cwd-dotdot)
LOOKS_BELOW=(open opath stat lstat statx access listxattr inotify open-tree openat openat-path statx-at fchdir cwd-open
    cwd-opath cwd-dotdot)

# touched DESC ENTRY WAY [NAME]: the touch lands on the one overlay that is attached there
touched() {
    local entry=$MNT/$2 got want
    got=$(limit "$TOUCH" "$3" "$entry" "${4:-}" "$BASE/target" 2>&1)
    want=$(device_at "$entry/fs")
    is "$1: $3 ${4:+of $4 }lands in $2/fs" "$got" "${want:-an overlay on $2/fs}"
}

WAYS=()
for way in "${LOOKS[@]}"; do
    WAYS+=("$way")
done
for way in "${LOOKS_BELOW[@]}"; do
    WAYS+=("$way f")
done

# make_all PREPARE PREFIX: one entry a way, called PREFIX0, PREFIX1 and so on; PREPARE makes the one named $1
make_all() {
    local i
    for i in "${!WAYS[@]}"; do
        "$1" "$2$i" || diag "$1 $2$i failed"
    done
}

# look_all DESC PREFIX: each way on the entry of its own, PREFIX with the folder in front; then they are removed
look_all() {
    local i
    for i in "${!WAYS[@]}"; do
        # shellcheck disable=SC2086
        touched "$1" "$2$i" ${WAYS[i]}
    done
    remove_all "$2"
}

remove_all() {
    local i
    for i in "${!WAYS[@]}"; do
        t rmdir "$MNT/$1$i" || diag "cannot remove $1$i"
    done
}

view() { t mkdir "$MNT/views/$1@base"; }
child() { prepare "$1" base; }
use() { t cat "$MNT/$1/fs/f" >/dev/null; }
used_child() { child "$1" && echo used >"$MNT/active/$1/fs/used"; }
committed_untouched() { child "$1" && commit "$1"; }
committed_used() { used_child "$1" && commit "$1"; }
renamed_untouched() { child "$1-old" && [ "$(errno rename "$MNT/active/$1-old" "$MNT/active/$1")" = ok ]; }
renamed_used() { used_child "$1-old" && [ "$(errno rename "$MNT/active/$1-old" "$MNT/active/$1")" = ok ]; }
made_again() { used_child "$1" && t rmdir "$MNT/active/$1" && child "$1"; }

new_mount
mkdir "$BASE/target"
prepare base
mkdir "$MNT/active/base/fs/d"
echo lower >"$MNT/active/base/fs/f"
cp /bin/true "$MNT/active/base/fs/prog"
ok "a base is committed" commit base

# ---- fresh entries of each kind ------------------------------------------

make_all child a
look_all "fresh" active/a
make_all view v
look_all "fresh" views/v
make_all committed_untouched s
look_all "committed untouched" snapshots/s

for way in open opendir opath stat statx chdir chroot bind openat cwd-open; do
    prepare "bare-$way"
    touched "a base" "active/bare-$way" "$way"
done

child exec
touched "fresh" active/exec exec prog
view exec-view
touched "fresh" views/exec-view exec prog

# ---- writing as first touch ----------------------------------------------

for way in creat mkdir mknod symlink socket mkdirat; do
    child "new-$way"
    touched "fresh" "active/new-$way" "$way" "new"
    ok "what $way made is in the layer" test -e "$STORE/active/new-$way/fs/new" -o -L "$STORE/active/new-$way/fs/new"
    prepare "base-new-$way"
    touched "a base" "active/base-new-$way" "$way" "new"
done
for way in append chmod truncate setxattr rename; do
    child "change-$way"
    touched "fresh" "active/change-$way" "$way" f
done
child change-unlink
touched "fresh" active/change-unlink unlink f
nok "the file removed at first touch is gone" test -e "$MNT/active/change-unlink/fs/f"
child tmpfile
touched "fresh" active/tmpfile tmpfile
child chmod-root
touched "fresh" active/chmod-root chmod

n=0
for op in "create fs/new" "mkdir fs/new" "openw fs/f" "unlink fs/f" "rmdir fs/d" "chmod fs/f 0600" "truncate fs/f 0"; do
    n=$((n + 1))
    read -r call path arg <<<"$op"
    view "ro$n"
    # shellcheck disable=SC2086
    fails "fresh view: $op" EROFS "$call" "$MNT/views/ro$n/$path" $arg
    committed_untouched "ro-s$n"
    # shellcheck disable=SC2086
    fails "fresh snapshot: $op" EROFS "$call" "$MNT/snapshots/ro-s$n/$path" $arg
done
is "the base is untouched by all this" "$(t cat "$MNT/snapshots/base/fs/f")" lower

# ---- programs ------------------------------------------------------------

n=0
# program DESC WANT COMMAND: COMMAND is run by a fresh shell, with E as a fresh entry; WANT is what it prints
program() {
    local got
    n=$((n + 1))
    child "program$n"
    got=$(E=$MNT/active/program$n T=$BASE/target limit bash -c "$3" 2>&1)
    is "first touch by a program: $1" "$got" "$2"
}

# shellcheck disable=SC2016
{
    program "cd and ls" "d f prog" 'cd "$E/fs" && echo $(ls)'
    program "ls" "d f prog" 'echo $(ls "$E/fs")'
    program "ls with a slash" "d f prog" 'echo $(ls "$E/fs/")'
    program "a glob" "d f prog" 'cd /; for f in "$E"/fs/*; do echo "${f##*/}"; done | xargs'
    program "find" "3" 'find "$E/fs" -mindepth 1 | wc -l'
    program "find from the entry" "3" 'find "$E" -path "*/fs/*" | wc -l'
    program "cat below" lower 'cat "$E/fs/f"'
    program "cat relative to the entry" lower 'cd "$E" && cat fs/f'
    program "cat relative to the mount point" lower 'cd "${E%/active/*}" && cat "active/${E##*/}/fs/f"'
    program "cat through . and .." lower 'cat "$E/./fs/d/../f"'
    program "a redirection of the shell" lower 'read -r l <"$E/fs/f"; echo "$l"'
    program "cp -a of all" lower 'cp -a "$E/fs" "$T.copy" && cat "$T.copy/f"; rm -r "$T.copy"'
    program "tar" "./f" 'tar -C "$E/fs" -cf - . | tar tf - ./f'
    program "a symbolic link from outside" lower 'ln -s "$E/fs" "$T.link"; cat "$T.link/f"; rm "$T.link"'
    program "mount --bind" lower 'mount --bind "$E/fs" "$T" && cat "$T/f"; umount "$T"'
    program "mount --rbind of the entry's fs" lower 'mount --rbind "$E/fs" "$T" && cat "$T/f"; umount "$T"'
    program "mount with what mount says" lower 'mount $(cat "$E/mount") "$T" && cat "$T/f"; umount "$T"'
    program "chroot" "" 'chroot "$E/fs" /none 2>/dev/null; stat -f -c %T "$E/fs" | grep -v overlayfs'
    program "stat -f" overlayfs 'stat -f -c %T "$E/fs"'
    program "touch" "d f new prog" 'touch "$E/fs/new" && echo $(ls "$E/fs")'
    program "mkdir -p" "a d f prog" 'mkdir -p "$E/fs/a/b/c" && echo $(ls "$E/fs")'
    program "mv of a file into it" moved 'echo moved >"$T.file"; mv "$T.file" "$E/fs/f" && cat "$E/fs/f"'
    program "ln below it" lower 'ln "$E/fs/f" "$E/fs/l" && cat "$E/fs/l"'
}

snapshot middle base
prepare walk middle
is "the parent is reached through the link first" "$(t cat "$MNT/active/walk/parent/parent/fs/f")" lower
is "so is the one between" "$(t cat "$MNT/active/walk/parent/fs/f")" middle

# ---- after a change of the entry -----------------------------------------

make_all committed_used c
look_all "committed after use" snapshots/c
make_all renamed_untouched r
look_all "renamed untouched" active/r
make_all renamed_used u
look_all "renamed after use" active/u
make_all made_again m
look_all "removed and made again" active/m

# two that change names: one in use, one fresh
make_all used_child x
make_all child y
for i in "${!WAYS[@]}"; do
    [ "$(errno exchange "$MNT/active/x$i" "$MNT/active/y$i")" = ok ] || fail "exchange of x$i and y$i"
done
look_all "fresh before an exchange" active/x
look_all "in use before an exchange" active/y

# ---- after a restart -----------------------------------------------------

make_all used_child a
make_all view v
make_all committed_used s
restart
look_all "restarted" active/a
look_all "restarted" views/v
look_all "restarted" snapshots/s

# ---- many at once --------------------------------------------------------

for i in $(seq 50); do
    child "p$i"
    view "q$i"
    committed_untouched "s$i"
done
is "fifty processes on fifty active snapshots" "$(limit "$HELPERS/b_race" 50 overlay "$MNT/active/p%/fs")" "ok 50"
is "fifty on fifty views" "$(limit "$HELPERS/b_race" 50 read "$MNT/views/q%/fs/f")" "ok 50"
is "fifty on fifty snapshots" "$(limit "$HELPERS/b_race" 50 overlay "$MNT/snapshots/s%/fs")" "ok 50"
bad=''
for i in $(seq 50); do
    for entry in "active/p$i" "views/q$i" "snapshots/s$i"; do
        [ "$(mounts_at "$MNT/$entry/fs")" = 1 ] || bad+="$entry: $(mounts_at "$MNT/$entry/fs") "
    done
done
is "each of the 150 has exactly one mount" "$bad" ""

n=0
for way in overlay read mkdir; do
    n=$((n + 1))
    below=/fs/f want="ok 50"
    [ "$way" != overlay ] || below=/fs
    [ "$way" != mkdir ] || below=/fs/new want=$'EEXIST 49\nok 1'
    child "one$n"
    is "fifty processes on one active snapshot: $way" "$(limit "$HELPERS/b_race" 50 "$way" "$MNT/active/one$n$below")" "$want"
    is "… and exactly one mount" "$(mounts_at "$MNT/active/one$n/fs")" 1
    [ "$way" != mkdir ] || continue
    view "one-view$n"
    is "fifty processes on one view: $way" "$(limit "$HELPERS/b_race" 50 "$way" "$MNT/views/one-view$n$below")" "$want"
    is "… and exactly one mount" "$(mounts_at "$MNT/views/one-view$n/fs")" 1
done

# On a name that the kernel is just told of, one looker may drop what another has found, with its mount
bad=''
for i in $(seq 60); do
    view "crowd$i"
    got=$(limit "$HELPERS/b_race" 50 overlay "$MNT/views/crowd$i/fs")
    [ "$got" = "ok 50" ] || bad+="$i: $got "
done
is "fifty processes on each of sixty views just made" "$bad" ""

# ---- after an expiry -----------------------------------------------------

# Mounts are soon gone again here, so what counts is not to land on the device of the bare folder
released() { [ "$(overlays)" = 0 ]; }
look_expired() {
    local i got
    for i in "${!WAYS[@]}"; do
        # shellcheck disable=SC2086
        set -- "$1" "$2" ${WAYS[i]}
        got=$(limit "$TOUCH" "$3" "$MNT/$2$i" "${4:-}" "$BASE/target" 2>&1)
        [ "$got" != "$BARE" ] || got="the bare folder"
        like "$1: $3 ${4:+of $4 }lands in $2$i/fs" "$got" '^0:[0-9]+$'
    done
}

new_mount expire=1
mkdir "$BASE/target"
BARE=$(stat -c '%Hd:%Ld' "$MNT")
snapshot base
make_all view v
make_all committed_untouched s
for i in "${!WAYS[@]}"; do
    use "views/v$i"
    use "snapshots/s$i"
done
ok "all views and snapshots are released" wait_until 100 released
look_expired "expired" views/v
look_expired "expired" snapshots/s
ok "and released again" wait_until 100 released
is "fifty processes on one expired view" "$(limit "$HELPERS/b_race" 50 read "$MNT/views/v0/fs/f")" "ok 50"

# a working directory in the entry and a descriptor of it stay good over an expiry
view stay
cd "$MNT/views/stay" || fail "cd into an entry"
exec {dir}<"$MNT/views/stay"
use views/stay
ok "a working directory in the entry, not in fs/, keeps no mount" wait_until 100 released
is "a relative path from it comes to the files again" "$(t cat fs/f)" base
ok "released once more" wait_until 100 released
is "a descriptor of the entry comes to the files again" "$(t cat "/proc/self/fd/$dir/fs/f")" base
cd / || fail "cd /"
exec {dir}<&-

# ---- from another mount namespace ----------------------------------------

# One made before the touch sees the attached mount if it receives what happens in the program's namespace
new_base
t mount --bind "$BASE" "$BASE"
t mount --make-rshared "$BASE"
start_program ''
mkdir "$BASE/target"
snapshot base
n=0
for way in open opath stat chdir chroot openat cwd-open; do
    n=$((n + 1))
    child "far$n"
    got=$(limit unshare -m --propagation slave "$TOUCH" "$way" "$MNT/active/far$n" 2>&1)
    want=$(device_at "$MNT/active/far$n/fs")
    is "from a namespace that receives propagation: $way" "$got" "${want:-an overlay}"
done

done_testing
