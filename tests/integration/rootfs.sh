#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A real root file system through all of it: a Debian unpacked and committed, a package installed in a child by its own dpkg, and
# a second child that changes everything that can be changed. Each is compared, fact by fact, to a plain copy on the same
# disk on which the same commands were run.
#
# The Debian is made by mmdebstrap from the machine's own package sources and kept for thirty days in
# ${XDG_CACHE_HOME:-$HOME/.cache}/stratafs-tests.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/stratafs-tests
SUITE=bookworm
PACKAGE=hello

# Only what is from Debian: other archives may need keys or networks that mmdebstrap does not have. Paragraphs of deb822 when
# there are any, one-line sources otherwise: mmdebstrap does not take both at once.
debian_sources() {
    local found
    found=$(cat /dev/null /etc/apt/sources.list.d/*.sources 2>/dev/null | sed '/^#/d' |
        awk -v RS= -v ORS='\n\n' '/URIs:[^\n]*debian/')
    [ -n "$found" ] || found=$(cat /dev/null /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        grep -E '^deb .*debian')
    printf '%s\n' "$found"
}

fresh() { [ -n "$(find "$CACHE/$1" -mtime -30 -size +0 2>/dev/null)" ]; }

# Made under a name of its own and renamed, the package before the tree, so that parallel and broken runs do no harm
fill_cache() {
    local new
    mkdir -p "$CACHE"
    new=$(mktemp -d "$CACHE/new.XXXXXX") || return 1
    # shellcheck disable=SC2016
    debian_sources | NEW=$new PACKAGE=$PACKAGE limit mmdebstrap --quiet --variant=essential \
        --customize-hook='cd "$NEW" && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -q -o APT::Sandbox::User=root download "$PACKAGE"' \
        "$SUITE" "$new/rootfs.tar" - >"$new/log" 2>&1 ||
        { diag "$(tail -n 20 "$new/log")"; rm -rf "$new"; return 1; }
    mv "$new/$PACKAGE"_*.deb "$CACHE/$PACKAGE.deb" && mv "$new/rootfs.tar" "$CACHE/$SUITE.tar"
    rm -rf "$new"
}

fresh "$SUITE.tar" && fresh "$PACKAGE.deb" || fill_cache || bail "mmdebstrap cannot make a $SUITE"
TAR=$CACHE/$SUITE.tar

unpack() { limit tar -C "$1" -xpf "$TAR" --numeric-owner --xattrs --xattrs-include='*' --acls; }

# What was changed since the marker gets one time, as the clock would differ
set_times() { find "$1" -newer "$BASE/marker" -exec touch -h -d '2024-05-06 07:08:09.123456789' {} +; }

# The root's own time is that of whatever changed it last, or of its making
begin_change() {
    touch "$BASE/marker"
    sleep 0.1
}

install_package() {
    cp "$CACHE/$PACKAGE.deb" "$1/tmp/package.deb" &&
        limit chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
            dpkg --force-unsafe-io -i /tmp/package.deb &&
        rm "$1/tmp/package.deb" "$1/var/log/dpkg.log" &&
        touch "$1" &&
        set_times "$1"
}

# Stops at the first failure; each line one kind of change to what the base or the package brought
change() (
    set -e
    cd "$1"
    # files and folders away
    rm etc/issue usr/share/base-files/motd
    rm -r usr/share/doc/bash usr/share/zoneinfo
    # a folder becomes a file, a file a folder, a folder a link, a link a folder
    rm -r usr/share/doc/coreutils && echo 'a file now' >usr/share/doc/coreutils
    rm etc/issue.net && mkdir -m 0750 etc/issue.net && echo inside >etc/issue.net/file
    rm -r usr/share/doc/grep && ln -s ../nowhere usr/share/doc/grep
    rm etc/os-release && mkdir etc/os-release && touch etc/os-release/empty
    # a folder that is replaced by one of the same name hides what was below
    rm -r usr/share/doc/tar && mkdir usr/share/doc/tar && echo new >usr/share/doc/tar/new
    # a file removed and made again
    rm etc/debian_version && echo 99 >etc/debian_version
    # modes, owners, of files and folders, and of what is not followed
    chmod 0600 etc/passwd
    chmod 1777 usr/share/doc
    chmod 6755 usr/bin/env
    chown 1234:5678 etc/group etc/default
    chown -h 42:43 etc/mtab 2>/dev/null || { ln -s /proc/self/mounts etc/mtab && chown -h 42:43 etc/mtab; }
    chmod 0711 .
    # attributes, capabilities and ACLs, on files and folders
    setfattr -n user.test -v 'a value' etc/fstab
    setfattr -n user.test -v 'of a folder' usr/share
    setfattr -n trusted.test -v 0x0001ff etc/hosts 2>/dev/null || { echo h >etc/hosts && setfattr -n trusted.test -v 0x0001ff etc/hosts; }
    setcap cap_net_raw,cap_net_admin+ep usr/bin/dd
    setfacl -m u:1000:rw,g:1001:r etc/shadow
    setfacl -m d:u:1000:rwx,u:1000:rx var/log
    mkdir var/log/inherits && echo acl >var/log/inherits/file
    # contents: longer, shorter, overwritten in the middle
    echo 'more:x:7777:' >>etc/group
    truncate -s 5 etc/hostname 2>/dev/null || echo host >etc/hostname
    printf X | dd of=usr/bin/sed bs=1 seek=1000 conv=notrunc status=none
    # hard links: new ones, and one to a file of the base
    echo linked >srv/one && ln srv/one srv/two && ln srv/two etc/three
    ln etc/profile etc/profile.link
    # a sparse file, data in its middle and a hole at its end
    truncate -s 100M srv/sparse
    printf data | dd of=srv/sparse bs=1 seek=50000000 conv=notrunc status=none
    # nodes
    mknod -m 0640 srv/null c 1 3
    mknod -m 0600 srv/loop b 7 200
    mkfifo -m 0604 srv/fifo
    perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0) && bind(S, pack_sockaddr_un("srv/socket")) || die "$!"'
    # links that lead elsewhere now, dangling ones, long ones
    ln -sfn /elsewhere/entirely bin.link
    ln -sfn "$(head -c 1500 /dev/zero | tr '\0' a)" srv/long
    ln -sf changed etc/alternatives/awk
    # renames of a file, a link and a folder of the base
    mv etc/login.defs etc/login.renamed
    mv etc/alternatives/pager etc/alternatives/reader 2>/dev/null || ln -s x etc/alternatives/reader
    mv usr/share/doc/sed usr/share/doc/sed.moved
    mv etc/skel srv/skel
    # names that shells and archives trip over
    mkdir -p 'srv/a b' $'srv/\xff\xfe' 'srv/-rf' srv/.wh.not-a-whiteout.d
    echo 1 >'srv/a b/ leading' && echo 2 >'srv/-rf/--' && echo 3 >$'srv/\xff\xfe/\xe4' && echo 4 >"srv/quote'\"\\back"
    echo 5 >"srv/$(head -c 255 /dev/zero | tr '\0' n)"
    # empty folders, deep ones
    mkdir -p srv/empty "srv/$(seq -s / 60)"
    chown 7:8 srv/empty && chmod 2770 srv/empty
    cd /
    touch "$1"
    set_times "$1"
)

new_mount
begin_change

# ---- the base ------------------------------------------------------------

PLAIN=$BASE/plain
mkdir "$PLAIN"
prepare debian
ok "a Debian is unpacked into a base" unpack "$MNT/active/debian/fs"
ok "and on the disk" unpack "$PLAIN"
same_tree "the base is as the plain tree before commit" "$PLAIN" "$MNT/active/debian/fs"
works "it is committed" rename "$MNT/active/debian" "$MNT/snapshots/debian"
works "a view of it" mkdir "$MNT/views/debian-look@debian"
same_tree "the view is as the plain tree" "$PLAIN" "$MNT/views/debian-look/fs"
cp -a "$PLAIN" "$BASE/plain-debian"

# ---- a package is installed ----------------------------------------------

works "a child on it" mkdir "$MNT/active/web@debian"
begin_change
ok "dpkg installs a package in it" install_package "$MNT/active/web/fs"
ok "and in the plain tree" install_package "$PLAIN"
is "the package works" "$(limit chroot "$MNT/active/web/fs" "/usr/bin/$PACKAGE" --greeting=works)" works
is "the base has no such program" "$(ls "$MNT/snapshots/debian/fs/usr/bin" | grep -x "$PACKAGE")" ""
works "it is committed" rename "$MNT/active/web" "$MNT/snapshots/web"
works "a view of it" mkdir "$MNT/views/web-look@web"
same_tree "the view is as the plain tree" "$PLAIN" "$MNT/views/web-look/fs"
is "the package works in the view" "$(limit chroot "$MNT/views/web-look/fs" "/usr/bin/$PACKAGE" --greeting=works)" works
ok "the layer holds the package only" test "$(field size "$MNT/snapshots/web/info")" -lt 20000000
cp -a "$PLAIN" "$BASE/plain-web"

# ---- everything is changed -----------------------------------------------

works "a second child on that" mkdir "$MNT/active/edit@web"
begin_change
ok "everything is changed in it" change "$MNT/active/edit/fs"
ok "and in the plain tree" change "$PLAIN"
same_tree "before commit it is as the plain tree" "$PLAIN" "$MNT/active/edit/fs"
works "it is committed" rename "$MNT/active/edit" "$MNT/snapshots/edit"
works "a view of it" mkdir "$MNT/views/edit-look@edit"
same_tree "the view is as the plain tree" "$PLAIN" "$MNT/views/edit-look/fs"
ok "the sparse file is sparse in the view" test "$(stat -c %b "$MNT/views/edit-look/fs/srv/sparse")" -lt 1000
is "the capability works as such" "$(getcap -n "$MNT/views/edit-look/fs/usr/bin/dd" | sed 's/.* //')" \
    "cap_net_admin,cap_net_raw=ep"
nok "no marks of the overlay are seen" sh -c "getfattr -R -P -h -d -m overlay '$MNT/views/edit-look/fs' | grep ."

# ---- and again after a restart -------------------------------------------

restart
same_tree "after a restart: the base" "$BASE/plain-debian" "$MNT/snapshots/debian/fs"
same_tree "after a restart: the view of it" "$BASE/plain-debian" "$MNT/views/debian-look/fs"
same_tree "after a restart: the package" "$BASE/plain-web" "$MNT/views/web-look/fs"
same_tree "after a restart: everything changed" "$PLAIN" "$MNT/snapshots/edit/fs"
same_tree "after a restart: the view of that" "$PLAIN" "$MNT/views/edit-look/fs"
works "a third child, untouched" mkdir "$MNT/active/third@edit"
is "its root is like its parent's" "$(stat -c '%a %u:%g' "$MNT/active/third/fs")" "$(stat -c '%a %u:%g' "$PLAIN")"
ok "an untouched child shows the same" diff <(manifest "$PLAIN" | grep -v "^\.$(printf '\t')dir ") \
    <(manifest "$MNT/active/third/fs" | grep -v "^\.$(printf '\t')dir ")

done_testing
