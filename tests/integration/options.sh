#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The command line, odd paths, what is in the way at the start, and every way to end.
. "$(dirname "$0")/lib.sh"
new_mount
cd / || exit 1

# run ARG…: the program in the background mode, with a time limit; status in $STATUS, output in $SAID
run() {
    STATUS=0
    # Not $(…): a program that keeps its output open in the background would hang it
    timeout -k 5 60 "$STRATAFS" "$@" >"$OUT" 2>&1 </dev/null || STATUS=$?
    SAID=$(cat "$OUT")
}
# refused DESC ERE: that run failed with one line that says why
refused() {
    like "$1: fails" "$STATUS" '^([1-9]|[1-9][0-9]|1[01][0-9]|12[0-3])$'
    is "$1: with one line" "$(printf '%s\n' "$SAID" | wc -l)" 1
    like "$1: which tells why" "$SAID" "$2"
    is "$1: and mounts nothing" "$(mounts_below "$BASE" | grep -v " $MNT")" ""
}
# The pids of this very program on store $1, by its open files: a background process has no parent to ask
serving() {
    local dir
    for dir in /proc/[0-9]*; do
        [ "$(readlink "$dir/exe")" = "$STRATAFS" ] || continue
        ! tr '\0' '\n' <"$dir/cmdline" | grep -qxF -e "$1" || echo "${dir#/proc/}"
    done 2>/dev/null
}
none_serving() { [ -z "$(serving "$1")" ]; }
# A background program is cleaned up by unmounting; these are left only when that fails
leave() { umount -R "$1" && wait_until 30 none_serving "$2"; }

# ---- help and version
run -h
is "-h ends with 0" "$STATUS" 0
like "-h tells the arguments" "$SAID" '[Uu]sage:.*STORE.*MOUNTPOINT'
for option in expire= durability= fingerprint= mountapi= maxlayer= keeper= volatile allow_other nosuid noexec noatime ro auto_unmount \
    '--check STORE' --repair '--upgrade MOUNTPOINT'; do
    like "-h tells of $option" "$SAID" "$option"
done
unlike "-h tells of no option that is refused" "$SAID" allow_root
run -h -o allow_root
is "-h does not mind what is refused" "$STATUS" 0
run --help
is "--help as well" "$STATUS" 0
run -V
is "-V ends with 0" "$STATUS" 0
like "-V tells the version" "$SAID" '^stratafs.*[0-9]+\.[0-9]+'
run --version
is "--version as well" "$STATUS" 0

# ---- wrong command lines
mkdir "$BASE/m"
run
refused "no arguments" '[Uu]sage|STORE|missing'
run "$BASE/s"
refused "one argument" '[Uu]sage|MOUNTPOINT|mount point|missing'
run "$BASE/s" "$BASE/m" "$BASE/x"
refused "three arguments" "$BASE/x|argument|[Uu]sage"
mkdir "$BASE/here"
cd "$BASE/here" || exit 1
for empty in store mountpoint check; do
    case $empty in
    store) run "" "$BASE/m" ;;
    mountpoint) run "$BASE/s" "" ;;
    check) run --check "" ;;
    esac
    refused "an empty $empty" 'empty|[Uu]sage'
    [ $empty = check ] || is "an empty $empty: its status" "$STATUS" 2
done
is "the folder they were given in is no store" "$(ls -A "$BASE/here")" ""
cd / || exit 1
run "$BASE/s" "$BASE/m" --unknown
refused "an unknown option" '--unknown'
run "$BASE/s" "$BASE/m" -o nosuchoption
refused "an unknown -o option" 'nosuchoption'
is "its status: a mistake in the arguments" "$STATUS" 2
for bad in expire=soon expire=-1 expire= durability=some mountapi=new2; do
    run "$BASE/s" "$BASE/m" -o $bad
    refused "-o $bad" "${bad%%=*}"
done
is "none of those made a store" "$(ls -A "$BASE/s" 2>/dev/null)" ""

# ---- stores and mount points that cannot be
rm -rf "$BASE/s"
run "$BASE/s" "$BASE/missing"
refused "no mount point" "$BASE/missing"
touch "$BASE/file"
run "$BASE/s" "$BASE/file"
refused "a file as mount point" "$BASE/file"
run "$BASE/file" "$BASE/m"
refused "a file as store" "$BASE/file"
run "$BASE/none/store" "$BASE/m"
refused "a store below a folder that is not there" "$BASE/none"
mkdir "$BASE/photos"
touch "$BASE/photos/one.jpg"
run "$BASE/photos" "$BASE/m"
refused "a folder of other things as store" "$BASE/photos"
is "which stays as it was" "$(ls -A "$BASE/photos")" one.jpg
mkdir "$BASE/newer"
run "$BASE/newer" "$BASE/m"
leave "$BASE/m" "$BASE/newer"
sed -i 's/[0-9][0-9]*/99/' "$BASE/newer/format"
run "$BASE/newer" "$BASE/m"
refused "a store of a later format" '99|format'
run "$STORE" "$BASE/m"
refused "a second program on one store" "$STORE.*(use|serve|lock|pid)|(use|serve|lock).*$STORE"
works "and the first goes on" mkdir "$MNT/active/k"
[ -e "$BASE/s" ] || mkdir "$BASE/s"
run "$BASE/s" "$BASE/s"
refused "a store as its own mount point" "$BASE/s"
run "$BASE/s/store" "$BASE/s"
refused "a store below its mount point" "$BASE/s"

# ---- in the background
run "$BASE/fresh" "$BASE/m"
is "in the background: ends with 0" "$STATUS" 0
is "in the background: says nothing" "$SAID" ""
ok "in the background: the mount answers at once" test -e "$BASE/m/version"
works "in the background: it works" mkdir "$BASE/m/active/k"
like "one process or two serve it" "$(serving "$BASE/fresh" | wc -l)" '^[12]$'
for pid in $(serving "$BASE/fresh"); do
    is "it stands in no folder of anybody" "$(readlink "/proc/$pid/cwd")" /
    is "it has left the caller's output" "$(readlink "/proc/$pid/fd/1")" /dev/null
    isnt "it has left the caller's session" "$(awk '{ print $6 }' "/proc/$pid/stat")" "$(awk '{ print $6 }' /proc/$$/stat)"
done
ok "umount ends it" umount "$BASE/m"
ok "no process is left" wait_until 30 none_serving "$BASE/fresh"
# shellcheck disable=SC2016
ok "who reads its output sees the end of it" timeout 20 bash -c '"$0" "$1" "$2" 2>&1 | cat' "$STRATAFS" "$BASE/fresh" "$BASE/m"
ok "and it ends" leave "$BASE/m" "$BASE/fresh"
is "the store is 0700" "$(stat -c %a "$BASE/fresh")" 700
mkdir -m 755 "$BASE/empty"
run "$BASE/empty" "$BASE/m"
is "an empty folder is made a store" "$STATUS" 0
is "of mode 0700" "$(stat -c %a "$BASE/empty")" 700
leave "$BASE/m" "$BASE/empty"

# ---- relative paths, odd paths
cd "$BASE" || exit 1
run fresh m
is "relative paths" "$STATUS" 0
like "overlay has the store's real path" "$(cat m/active/k/overlay)" "upperdir=$BASE/fresh/"
is "mount has the mount's real path" "$(cat m/active/k/mount)" "-o rbind,rw $BASE/m/active/k/fs"
works "relative paths: fs/ works" mkdir m/active/k/fs/d
leave "$BASE/m" fresh
cd / || exit 1
ln -s fresh "$BASE/alias"
run "$BASE/alias" "$BASE/m"
is "a symbolic link to a store" "$STATUS" 0
leave "$BASE/m" "$BASE/alias"

i=0
for odd in 'white  space' 'comma,comma' 'colon:colon' 'back\slash' "all of, it: \\ 'q' \"q\" \$x" $'tab\tand ü'; do
    i=$((i + 1))
    run "$BASE/$odd" "$BASE/m"
    refused "odd store $i" "white space|'[,:\\\\]'"
    fails "odd store $i: nothing is made" ENOENT stat "$BASE/$odd"
    ln -s "$BASE/$odd" "$BASE/straight"
    mkdir "$BASE/$odd"
    run "$BASE/straight" "$BASE/m"
    refused "odd store $i behind a symbolic link" "white space|'[,:\\\\]'"
    rm "$BASE/straight"

    # A mount point may be called anything
    s=$BASE/plain$i m=$BASE/$odd
    run "$s" "$m"
    is "odd mount point $i: mounts" "$STATUS" 0 || { diag "$SAID"; continue; }
    works "odd mount point $i: prepare" mkdir "$m/active/k"
    works "odd mount point $i: fs/" rewrite "$m/active/k/fs/file" text
    works "odd mount point $i: commit" rename "$m/active/k" "$m/snapshots/n"
    works "odd mount point $i: child" mkdir "$m/active/c@n"
    is "odd mount point $i: reading through" "$(t cat "$m/active/c/fs/file")" text
    works "odd mount point $i: write" rewrite "$m/active/c/fs/file" other
    is "odd mount point $i: mount.json" "$(jq -r '.[0].source' "$m/active/c/mount.json")" "$m/active/c/fs"
    works "odd mount point $i: commit of the child" rename "$m/active/c" "$m/snapshots/c"
    works "odd mount point $i: view" mkdir "$m/views/v@c"
    is "odd mount point $i: its fs/" "$(t cat "$m/views/v/fs/file")" other
    ok "odd mount point $i: ends" leave "$m" "$s"
done

# ---- a mount point left dead
run "$BASE/fresh" "$BASE/m"
pids=$(serving "$BASE/fresh")
ls "$BASE/m/active/k/fs" >"$OUT"
# shellcheck disable=SC2086
kill -KILL $pids
wait_until 30 none_serving "$BASE/fresh"
fails "after a kill the mount point is dead" ENOTCONN opendir "$BASE/m"
run "$BASE/fresh" "$BASE/m"
is "a start replaces it" "$STATUS" 0 || diag "$SAID"
ok "it answers" test -e "$BASE/m/version"
ok "what was written is there" test -d "$BASE/m/active/k/fs/d"
ok "it ends" leave "$BASE/m" "$BASE/fresh"
is "and nothing is left below it" "$(mounts_below "$BASE/m")" ""

# ---- auto_unmount
run "$BASE/fresh" "$BASE/m" -o auto_unmount
is "auto_unmount: mounts" "$STATUS" 0 || diag "$SAID"
like "auto_unmount: the log says that there is no keeper" "$(t cat "$BASE/m/log")" 'start keeper ENOSYS with auto_unmount'
is "auto_unmount: nor is there one" "$(serving "$BASE/fresh" | wc -l)" 1
ok "auto_unmount: it ends" leave "$BASE/m" "$BASE/fresh"

# ---- through mount(8)
mkdir "$BASE/bin"
ln -s "$STRATAFS" "$BASE/bin/stratafs"
# What mount -t fuse.stratafs runs; mount(8) itself may set another PATH
ok "mount.fuse3 -t fuse.stratafs" env PATH="$BASE/bin:$PATH" /sbin/mount.fuse3 "$BASE/fresh" "$BASE/m" -t fuse.stratafs \
    -o expire=5,allow_other
ok "it answers" test -d "$BASE/m/active/k"
like "its type is fuse.stratafs" "$(findmnt -no FSTYPE "$BASE/m")" '^fuse\.stratafs$'
like "its options arrived" "$(findmnt -no OPTIONS "$BASE/m")" allow_other
is "its source is the store" "$(findmnt -no SOURCE "$BASE/m")" "$BASE/fresh"
ok "umount" umount "$BASE/m"
ok "no process is left" wait_until 30 none_serving "$BASE/fresh"

# ---- endings, with fs/ attached and without
PLAIN=$PID
# ended DESC STATUS: the program at $MNT and all of it is gone
ended() {
    is "$1: status" "$2" 0
    is "$1: no mount is left" "$(mounts_below "$MNT")" ""
    ok "$1: no process is left" none_serving "$STORE"
    is "$1: nothing on stderr" "$(cat "$ERRORS")" ""
    : >"$ERRORS"
    start_program
    is "$1: the files are there after it" "$(t cat "$MNT/active/k/fs/file")" text
}
works "a file for the endings" rewrite "$MNT/active/k/fs/file" text
for signal in TERM INT; do
    ok "fs/ is attached" sh -c "ls '$MNT/active/k/fs' && grep -q ' $MNT/active/k/fs ' /proc/mounts"
    kill -$signal "$PID"
    reap "$PID"
    ended "SIG$signal" $?
done
stop_program
start_program
kill -TERM "$PID"
reap "$PID"
ended "SIGTERM with nothing attached" $?
# A commit under way is finished first: what mv says is what is there afterwards
for pause in 0 0.02 0.05 0.1; do
    works "a snapshot to commit late" mkdir "$MNT/active/late"
    head -c 60000000 /dev/zero >"$MNT/active/late/fs/zeros"
    mv -T "$MNT/active/late" "$MNT/snapshots/late" 2>"$OUT" &
    moving=$!
    sleep "$pause"
    kill -TERM "$PID"
    moved=0
    wait "$moving" || moved=1
    reap "$PID"
    ended "SIGTERM during a commit ($pause s)" $?
    committed=1
    [ ! -d "$MNT/snapshots/late" ] || committed=0
    is "SIGTERM during a commit ($pause s): the snapshot is there if mv said so" "$committed" "$moved"
    folder=$([ "$committed" = 0 ] && echo snapshots || echo active)
    is "SIGTERM during a commit ($pause s): it is whole" "$(stat -c %s "$MNT/$folder/late/fs/zeros")" 60000000
    works "SIGTERM during a commit ($pause s): it can be removed" rmdir "$MNT/$folder/late"
done
ls "$MNT/active/k/fs" >"$OUT"
nok "plain umount with fs/ attached" umount "$MNT"
is "says busy, and the program goes on" "$(cat "$MNT/active/k/fs/file")" text
ok "umount -R" umount -R "$MNT"
reap "$PID"
ended "umount -R" $?
stop_program
start_program
ok "fusermount3 -u with nothing attached" fusermount3 -u "$MNT"
reap "$PID"
ended "fusermount3 -u" $?
stop_program
start_program
ok "umount with nothing attached" umount "$MNT"
reap "$PID"
ended "umount" $?

# A look at each new mount is due a second or two later: those of many, when all of them are just gone
stop_program
start_program
t mkdir "$MNT/active/base"
works "a base for many views" rename "$MNT/active/base" "$MNT/snapshots/base"
for i in {1..200}; do t mkdir "$MNT/views/v$i@base"; done
t ls "$MNT"/views/v*/fs >"$OUT"
server=$(worker)
kill -STOP "$server"
sleep 2
ok "unmounted while many looks are due" timeout 20 umount --lazy --no-canonicalize --no-mtab --internal-only "$MNT"
kill -CONT "$server"
reap "$PID"
ended "that" $?

# Another mount namespace with a copy of the mount keeps the connection alive, but not the program
for sig in TERM INT; do
    for keeper in on off; do
        stop_program
        start_program "keeper=$keeper"
        ls "$MNT/active/k/fs" >"$OUT"
        rm -f "$BASE/copied"
        spawn unshare -m --propagation private sh -c "touch '$BASE/copied'; exec sleep 1000"
        ok "a copy elsewhere, keeper=$keeper: it is made" wait_until 30 test -e "$BASE/copied"
        kill "-$sig" "$PID"
        reap "$PID"
        is "SIG$sig with a copy elsewhere, keeper=$keeper: status" "$?" 0
        is "SIG$sig with a copy elsewhere, keeper=$keeper: no mount is left here" "$(mounts_below "$MNT")" ""
        nok "SIG$sig with a copy elsewhere, keeper=$keeper: nobody waits for an answer there" \
            nsenter -t "$SPAWNED" -m cat "$MNT/version"
        unspawn "$SPAWNED"
    done
done

# What somebody mounted on top is not ours to unmount
stop_program
for keeper in on off; do
    start_program "keeper=$keeper"
    ls "$MNT/active/k/fs" >"$OUT"
    mount -t tmpfs other "$MNT"
    mkdir -p "$MNT/active/k/fs"
    mount -t tmpfs inner "$MNT/active/k/fs"
    echo important >"$MNT/active/k/fs/file"
    kill -TERM "$PID"
    reap "$PID"
    is "SIGTERM below another mount, keeper=$keeper: status" "$?" 0
    forget "$PID"
    ok "SIGTERM below another mount, keeper=$keeper: which stays" mountpoint -q "$MNT/active/k/fs"
    is "SIGTERM below another mount, keeper=$keeper: as it is" "$(cat "$MNT/active/k/fs/file")" important
    like "SIGTERM below another mount, keeper=$keeper: and that is told" "$(cat "$ERRORS")" "on top of $MNT and stays"
    : >"$ERRORS"
    umount "$MNT/active/k/fs"
    umount "$MNT"
    fails "SIGTERM below another mount, keeper=$keeper: ours has ended" ENOTCONN opendir "$MNT"
done
start_program ""
is "the next start clears that away" "$(t cat "$MNT/active/k/fs/file")" text

# A file that is open below fs/ outlives the program
exec 8>>"$MNT/active/k/fs/file"
kill -TERM "$PID"
reap "$PID"
is "SIGTERM with a file open: status" "$?" 0
is "SIGTERM with a file open: no mount is left" "$(mounts_below "$MNT")" ""
echo late >&8
exec 8>&-
start_program
is "what was written later is there" "$(tail -n 1 "$MNT/active/k/fs/file")" textlate
isnt "another process serves" "$PID" "$PLAIN"
stop_program

# All that changes something is refused, by way of each fs/ as well
start_program ro
fails "-o ro: no mkdir" EROFS mkdir "$MNT/active/other"
fails "-o ro: no commit" EROFS rename "$MNT/active/k" "$MNT/snapshots/k"
fails "-o ro: no label" EROFS create "$MNT/active/k/labels/l"
fails "-o ro: no new file below fs/" EROFS create "$MNT/active/k/fs/new"
fails "-o ro: no change of one" EROFS write "$MNT/active/k/fs/file" text
is "-o ro: files are read" "$(tail -n 1 "$MNT/active/k/fs/file")" textlate
stop_program
start_program ""
works "without it they are written" create "$MNT/active/k/fs/new"
stop_program
start_program
run "$BASE/fresh" "$BASE/m" -r
is "-r is -o ro" "$(errno mkdir "$BASE/m/active/other")" EROFS
leave "$BASE/m" "$BASE/fresh"

# ---- what mount(8) has besides, at each fs/
# has FLAGS: the mounts at fs/ that have not all of these flags, or others of noexec and the access times
has() {
    local path flags
    for path in active/k views/look snapshots/base; do
        t ls "$MNT/$path/fs" >"$OUT"
        flags=$(findmnt -no VFS-OPTIONS "$MNT/$path/fs" | tr ',' '\n' | grep -xE 'noexec|noatime|nodiratime|relatime' | paste -sd,)
        [ "$flags" = "$1" ] || echo "$path $flags"
    done
}
cp "$(type -P true)" "$MNT/active/k/fs/true"
t mkdir "$MNT/views/look@base"
started() { t "$MNT/active/k/fs/true" 2>"$OUT"; echo $?; }
is "without options" "$(has relatime)" ""
is "programs in fs/ can be started" "$(started)" 0
for options in noexec:noexec,relatime noatime:noatime nodiratime:nodiratime,relatime strictatime: relatime:relatime \
    noexec,noatime,nodiratime:noexec,noatime,nodiratime noexec,exec:relatime noatime,atime:relatime; do
    restart "${options%:*}"
    is "-o ${options%:*}" "$(has "${options#*:}")" ""
done
restart noexec,noatime
is "-o noexec: no program is started" "$(started)" 126
exec 9>>"$MNT/active/k/fs/open"
fails "-o noexec: a commit that fails" EBUSY rename "$MNT/active/k" "$MNT/snapshots/k"
exec 9>&-
is "-o noexec: leaves the flags" "$(has noexec,noatime)" ""
if [ "$(worker)" != "$PID" ]; then
    kill_worker
    is "-o noexec: so does the death of the worker" "$(has noexec,noatime)" ""
    t mkdir "$MNT/views/later@base"
    t ls "$MNT/views/later/fs" >"$OUT"
    like "-o noexec: the next one goes by it" "$(findmnt -no VFS-OPTIONS "$MNT/views/later/fs")" 'noexec,noatime'
    ok "-o noexec: an upgrade" "$STRATAFS" --upgrade "$MNT"
    umount "$MNT/views/later/fs"
    t ls "$MNT/views/later/fs" >"$OUT"
    like "-o noexec: the upgraded one goes by it" "$(findmnt -no VFS-OPTIONS "$MNT/views/later/fs")" 'noexec,noatime'
    works "-o noexec: a view of a process that was there is released" rmdir "$MNT/views/later"
fi
restart ''
is "without it programs are started again" "$(started)" 0
holders=()
for path in active/k views/look snapshots/base; do
    # shellcheck disable=SC2016
    spawn sh -c 'cd "$0" && exec sleep 1000' "$MNT/$path/fs"
    wait_until 30 eval '[ "$(readlink "/proc/$SPAWNED/cwd")" = "$MNT/$path/fs" ]'
    holders+=("$SPAWNED")
done
server=$(worker)
kill -KILL "$PID"
kill -KILL "$server" 2>"$OUT"
reap "$PID"
forget "$PID"
start_program noexec,noatime
is "mounts that processes hold from before a kill go by the new options" "$(has noexec,noatime)" ""
is "and have no programs" "$(started)" 126
for holder in "${holders[@]}"; do unspawn "$holder"; done
mkdir -p "$BASE/m"
for option in sync dirsync; do
    run "$BASE/fresh" "$BASE/m" -o $option
    refused "-o $option" "^stratafs: $option .*overlay"
    is "-o $option: its status" "$STATUS" 2
done
done_testing
