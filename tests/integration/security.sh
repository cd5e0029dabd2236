#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Nobody let in: every cell of the tables in docs/security.md, read from there, and the ways to a layer's setuid programs.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

: "${top_srcdir:=$(dirname "$0")/../..}"
STRATAFS_TEST_OPTIONS=${STRATAFS_TEST_OPTIONS:+$STRATAFS_TEST_OPTIONS,}durability=none # no sync for each commit
PAGE=$top_srcdir/docs/security.md
OTHER=12345 THIRD=54321

# as UID CMD…; setpriv itself still has capabilities when it starts a program, so that it is to start another one first
as() { local uid=$1; shift; timeout -k 5 60 setpriv --reuid="$uid" --regid="$uid" --clear-groups -- env "$@"; }

# A mount namespace of its own with nothing of other tests in it, which would hold their mounts
alone='awk "\$5 ~ /stratafs-test/ { print \$5 }" /proc/self/mountinfo | tac | xargs -r -d "\n" umount -l'

# Lines "FIRST CELL|CELL…" of the table whose first heading is $1 and whose last is $2, without quotes
table() {
    awk -v first="| $1 |" -v last="| $2 |" '
        index($0, first) == 1 && substr($0, length($0) - length(last) + 1) == last { on = 1; getline; next }
        !/^\|/ { on = 0 }
        on { gsub(/`/, ""); gsub(/^\| *| *\|$/, ""); gsub(/ *\| */, "|"); print }' "$PAGE"
}

# The words of an operation, with paths below the mount at $1 and the store at $2
words() {
    local at=$1 store=$2 word
    echo "$3"
    shift 3
    for word; do
        case $word in
        . | tree | log | metrics | version | graph.dot | hardlink | file | folder | elsewhere) echo "$at/$word" ;;
        active | views | snapshots | active/* | views/* | snapshots/*) echo "$at/$word" ;;
        STORE*) echo "$store${word#STORE}" ;;
        LAYER) echo "$BASE/layer.tar" ;;
        *) echo "$word" ;;
        esac
    done
}

# Everything that the tables speak of, in the mount at $1; with $2 there are no other users
fill_mount() {
    local at=$1 name label
    mkdir "$at/active/base" &&
        echo public >"$at/active/base/fs/public" && echo private >"$at/active/base/fs/private" &&
        echo x >"$at/active/base/fs/removed" && mkdir "$at/active/base/fs/closed" && echo x >"$at/active/base/fs/closed/file" &&
        mkdir "$at/active/base/fs/open" "$at/active/base/fs/theirs" &&
        chmod 600 "$at/active/base/fs/private" && chmod 700 "$at/active/base/fs/closed" && chmod 777 "$at/active/base/fs/open" &&
        { [ -n "${2:-}" ] || chown "$OTHER:$OTHER" "$at/active/base/fs/theirs"; } &&
        mv "$at/active/base" "$at/snapshots/base" || return 1
    for name in named left right doomed; do
        mkdir "$at/active/$name" && mv "$at/active/$name" "$at/snapshots/$name" || return 1
    done
    mkdir "$at"/active/{web@base,ready,named,left,right,still,doomed,empty} "$at"/views/{look@base,seen,shown} || return 1
    for name in active/web views/look snapshots/base; do
        for label in kept gone moved; do
            echo v >"$at/$name/labels/$label" || return 1
        done
    done
}

# NUMBER of the column, UID, and what is different in the words of the test
try_column() {
    local rows=$1 column=$2 title=$3 at=$4 store=$5 line cells want
    shift 5
    while IFS= read -r line; do
        IFS='|' read -ra cells <<<"$line"
        want=${cells[column]}
        [ "$want" != yes ] || want=ok
        # shellcheck disable=SC2086 # an operation is words without blanks
        mapfile -t op < <(words "$at" "$store" ${cells[0]})
        is "$title: ${cells[0]}" "$("$@" "$BASE/bin/syscall" "${op[@]}")" "$want"
    done <"$rows"
}

rows_of() {
    table operation "$1" >"$BASE/rows"
    ok "the page has a table for: $1" test "$(wc -l <"$BASE/rows")" -ge "$2"
}

helpers_for_all() {
    mkdir "$BASE/bin"
    install -m 755 "$HELPERS/syscall" "$STRATAFS" "$BASE/bin"
    chmod 755 "$BASE" "$BASE/bin"
    mkdir "$BASE/tree" && echo imported >"$BASE/tree/file" && tar -C "$BASE/tree" -cf "$BASE/layer.tar" .
}

# ---- who may do what
new_mount
helpers_for_all
ok "a store to try with" fill_mount "$MNT"
ls "$MNT"/{active/web,views/look,snapshots/base}/fs >"$OUT"
rows_of 'another user, `allow_other`' 100
is "every file of an entry is in it" "$(for f in "$MNT"/{active/web,views/look,snapshots/base}/*; do
    f=${f#"$MNT"/}
    grep -q "[a-z] ${f}[|/]" "$BASE/rows" || echo "$f"
done)" ""
is "and every file at the top" "$(for f in "$MNT"/*; do grep -q "[a-z] ${f##*/}[|/]" "$BASE/rows" || echo "$f"; done)" ""
BEFORE=$(state)
try_column "$BASE/rows" 2 "another user" "$MNT" "$STORE" as $OTHER
is "another user changed nothing" "$(state)" "$BEFORE"
try_column "$BASE/rows" 1 root "$MNT" "$STORE" timeout -k 5 60

new_mount allow_other
helpers_for_all
ok "a store to try with" fill_mount "$MNT"
BEFORE=$(state)
try_column "${BASES[0]}/rows" 3 "another user, allow_other" "$MNT" "$STORE" as $OTHER
is "another user changed nothing but files below fs/" "$(state)" "$BEFORE"
mkdir -p "$BASE/links/closed" && touch "$BASE/links/closed/hidden" && ln "$BASE/links/closed/hidden" "$BASE/links/closed/link"
tar -C "$BASE/links" -cf "$BASE/links.tar" closed/hidden closed/link && tar --delete -f "$BASE/links.tar" closed/hidden
fails "an import that is refused" EINVAL import "$BASE/links.tar" "$MNT/active/empty/layer.tar"
logged "the reason names a file in a closed folder" import active/empty/layer.tar EINVAL hidden
is "no file tells that to another user" "$(as $OTHER grep -rl hidden "$MNT" 2>"$OUT")" ""
ok "though he has looked into them" as $OTHER grep -rq base "$MNT/tree" "$MNT/active/web/info"

# ---- an ordinary user in a user namespace
new_base
helpers_for_all
mknod -m 0666 "$BASE/fuse" c 10 229
mkdir "$BASE/home"
mv "$MNT" "$BASE/home/mnt"
chown -R $OTHER:$OTHER "$BASE/home"
rows_of 'another user, outside' 10
# As the owner, outside, all the rest is closed with allow_other
awk -F'|' -v OFS='|' '$1 !~ /STORE/ { $3 = "EACCES" } 1' "$BASE/rows" >"$BASE/closed"
for who in inside outside allow_other; do
    options=expire=60
    [ $who != allow_other ] || options=allow_other
    store=$BASE/home/store.$who
    # shellcheck disable=SC2016
    spawn unshare -m --propagation private bash -c "$alone"'
        mount --bind "$1/fuse" /dev/fuse
        exec setpriv --reuid="$2" --regid="$2" --clear-groups --inh-caps=-all unshare -Urm \
            "$1/bin/stratafs" "$3" "$1/home/mnt" -f -o keeper=off,"$4"' - "$BASE" $OTHER "$store" "$options"
    inside=(timeout -k 5 60 nsenter -t "$SPAWNED" -U -m -S 0 -G 0)
    at=/proc/$SPAWNED/root$BASE/home/mnt
    ok "$who: an ordinary user runs it" wait_until 30 "${inside[@]}" test -e "$BASE/home/mnt/version"
    "${inside[@]}" bash -c "$(declare -f fill_mount); fill_mount '$BASE/home/mnt' alone" >"$OUT" 2>&1 || diag "$(cat "$OUT")"
    try_column "$BASE/rows" 4 "$who: another user, outside" "$at" "$store" as $THIRD
    try_column "$BASE/rows" 3 "$who: root, outside" "$at" "$store" timeout -k 5 60
    case $who in
    inside) try_column "$BASE/rows" 1 "owner, inside" "$BASE/home/mnt" "$store" "${inside[@]}" ;;
    outside) try_column "$BASE/rows" 2 "owner, outside" "$at" "$store" as $OTHER ;;
    *) try_column "$BASE/closed" 2 "allow_other: owner, outside" "$at" "$store" as $OTHER ;;
    esac
    unspawn "$SPAWNED"
done

# ---- setuid programs and devices
new_mount
helpers_for_all
A=$MNT/active V=$MNT/views S=$MNT/snapshots
mkdir "$A/base"
install -m 4755 "$(command -v id)" "$A/base/fs/id"
mknod -m 666 "$A/base/fs/zero" c 1 5
mv "$A/base" "$S/base"
mkdir "$A/web@base" "$V/look@base"
cp -p --remove-destination "$A/web/fs/id" "$A/web/fs/own"

# What another user has of the programs and devices in the folder he stands in; he need not be able to walk there
effect() {
    local suid dev
    suid=$(cd "$1" && as $OTHER ./id -u 2>&1)
    dev=$(cd "$1" && as $OTHER head -c 1 ./zero 2>/dev/null | wc -c)
    case "$suid $dev" in
    "0 1") echo plain ;;
    "$OTHER 0") echo nosuid,nodev ;;
    *) echo "uid $suid, bytes of the device $dev" ;;
    esac
}

table options '`snapshots/*/fs`' >"$BASE/rows"
ok "the page has a table of options" test "$(wc -l <"$BASE/rows")" -ge 8
while IFS='|' read -r options active views snapshots <&3; do
    [ "$options" != none ] || options=
    restart "$options"
    is "-o $options: active" "$(effect "$A/web/fs")" "$active"
    is "-o $options: views" "$(effect "$V/look/fs")" "$views"
    is "-o $options: snapshots" "$(effect "$S/base/fs")" "$snapshots"
    case $options in
    *allow_other*)
        uid=$OTHER
        [ "$active" = nosuid,nodev ] || uid=0
        is "-o $options: by its path" "$(as $OTHER "$A/web/fs/own" -u)" "$uid"
        is "-o $options: a first touch by another user" "$(mkdir "$A/fresh@base" && as $OTHER "$A/fresh/fs/id" -u)" "$uid"
        rmdir "$A/fresh"
        ;;
    esac
done 3<"$BASE/rows"
ln -s "$STRATAFS" "$BASE/bin/mount-me"
stop_program
ok "mount.fuse3, as mount(8) and fstab have it" env PATH="$BASE/bin:$PATH" /sbin/mount.fuse3 "mount-me#$STORE" "$MNT" -o allow_other
is "mount.fuse3 -o allow_other: active" "$(effect "$A/web/fs")" nosuid,nodev
is "mount.fuse3 -o allow_other: by its path" "$(as $OTHER "$A/web/fs/own" -u)" $OTHER
umount -R "$MNT"
wait_until 30 flock -n "$STORE/lock" true
OUTPUT=$(timeout 20 "$STRATAFS" "$STORE" "$MNT" -o allow_root 2>&1)
is "allow_root is refused: status" $? 2
like "with a reason" "$OUTPUT" 'allow_root.*everybody'

# ---- the life of a mount
start_program expire=1
for restricted in no yes; do
    [ $restricted = no ] || restart expire=1,allow_other
    want=plain
    [ $restricted = no ] || want=nosuid,nodev
    is "at first ($restricted)" "$(effect "$A/web/fs") $(effect "$V/look/fs")" "$want $want"
    ok "released when idle ($restricted)" wait_until 30 eval '! mounted "$V/look/fs" && ! mounted "$S/base/fs"'
    is "and back again ($restricted)" "$(effect "$V/look/fs") $(effect "$S/base/fs")" "$want nosuid,nodev"
    kill_worker
    is "after the worker was killed ($restricted)" "$(effect "$A/web/fs") $(effect "$V/look/fs") $(effect "$S/base/fs")" \
        "$want $want nosuid,nodev"
    mv "$A/web" "$A/moved" && mv "$V/look" "$V/other"
    is "after a rename ($restricted)" "$(effect "$A/moved/fs") $(effect "$V/other/fs")" "$want $want"
    mv "$A/moved" "$A/web" && mv "$V/other" "$V/look"
    mkdir "$A/child@base"
    is "before a commit ($restricted)" "$(effect "$A/child/fs")" "$want"
    exec 9<"$A/child/fs"
    mv "$A/child" "$S/child$restricted"
    is "after it ($restricted)" "$(effect "$S/child$restricted/fs")" nosuid,nodev
    is "and who had it open has no setuid program any more ($restricted)" "$(as $OTHER /proc/self/fd/9/id -u)" $OTHER
    exec 9<&-
    exec 9>"$A/web/fs/held"
    fails "a commit that fails ($restricted)" EBUSY rename "$A/web" "$S/web"
    exec 9>&-
    is "changes nothing ($restricted)" "$(effect "$A/web/fs")" "$want"
done
restart ''
mkdir -m 755 "$BASE/target"
# mount(8) makes a bind read-only by another step, which sets these flags anew
# shellcheck disable=SC2046
ok "a snapshot is shown elsewhere as the page says" mount $(cat "$S/base/mount") -o nosuid,nodev "$BASE/target"
is "stays nosuid,nodev" "$(effect "$BASE/target") $(as $OTHER "$BASE/target/id" -u)" "nosuid,nodev $OTHER"
umount "$BASE/target"
ok "a plain bind of it" mount --bind "$S/base/fs" "$BASE/target"
is "stays nosuid,nodev too" "$(effect "$BASE/target") $(as $OTHER "$BASE/target/id" -u)" "nosuid,nodev $OTHER"
umount "$BASE/target"

# An administrator's own flags outlive a commit that fails
is "plain" "$(effect "$A/web/fs")" plain
mount -o remount,bind,nosuid,nodev "$A/web/fs"
exec 9>"$A/web/fs/held"
fails "a commit that fails" EBUSY rename "$A/web" "$S/web"
exec 9>&-
works "and a name that is taken" mkdir "$A/taken"
fails "another that fails, once it is frozen" EEXIST rename "$A/web" "$S/base"
is "leave the mount's flags as they were set" "$(effect "$A/web/fs")" nosuid,nodev
works "and it can be written" create "$A/web/fs/after"
rmdir "$A/taken"

# ---- every other way to a setuid program
restart ''
ls "$A/web/fs" "$V/look/fs" "$S/base/fs" >"$OUT"
LAYER=$STORE/layers/$(field id "$S/base/info")/fs
ok "the program lies in the store" test -u "$LAYER/id"
is "not by the store" "$(as $OTHER "$LAYER/id" -u 2>/dev/null; echo $?)" 126
is "EACCES" "$(as $OTHER "$BASE/bin/syscall" stat "$LAYER/id")" EACCES
is "no folder of the store is open" "$(as $OTHER find "$STORE" -mindepth 1 2>/dev/null)" ""
is "not by any mount" "$(while read -r _ path; do
    as $OTHER "$BASE/bin/syscall" stat "$path/id"
done < <(mounts_below "$MNT") | sort -u)" EACCES
for pid in "$PID" "$(worker)"; do
    for path in "root$LAYER/id" fd cwd/; do
        is "not by /proc/ of the program: ${path%%/*}" "$(as $OTHER "$BASE/bin/syscall" opendir "/proc/$pid/$path")" EACCES
    done
done
cd "$A/web/fs" || exit 1
spawn sleep 300
cd / || exit 1
is "not by /proc/ of root's process in it" "$(as $OTHER "$BASE/bin/syscall" stat "/proc/$SPAWNED/cwd/own")" EACCES
unspawn "$SPAWNED"
# One of his own there, in a mount namespace as containers have: he gets in, but setuid does nothing for him
# shellcheck disable=SC2016
spawn unshare -m bash -c 'cd "$1" && eval "$3" && exec setpriv --reuid="$2" --regid="$2" --clear-groups sleep 300' - "$A/web/fs" $OTHER "$alone"
HIS=$SPAWNED
stands_there() { [ "$(awk '/^Uid:/ { print $2 }' "/proc/$HIS/status")" = "$OTHER" ] && [ "$(cat "/proc/$HIS/comm")" = sleep ]; }
wait_until 30 stands_there
is "by /proc/ of his own process in another mount namespace it is no setuid program" "$(as $OTHER "/proc/$HIS/cwd/own" -u)" $OTHER
unspawn "$HIS"
done_testing
