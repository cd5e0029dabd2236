# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the scripts about tools/strata share, sourced after lib.sh and b_common.sh.
#
#   $STRATA                the script under test
#   strata ARG…            it, on $MNT, with $BASE/tmp for its temporary files, under the anti-hang limit
#   status_is DESC STATUS ARG…   strata ARG… ends with STATUS; what it wrote is in $OUT
#   with_runtime RUNTIME ARG…    strata ARG… with that one of $RUNTIMES; become is the same, in the place of the shell
#   need TOOL…             bails out without them
#   programs DIR NAME…     puts programs of this machine and the libraries they need below DIR
#   packages DIR NAME…     puts the files of installed Debian packages below DIR
#   new_image LAYOUT:TAG   an OCI image without layers
#   add_layer IMAGE DIR    a layer with all that is in DIR, as tar makes it
#   change IMAGE CMD…      CMD in the image's unpacked files, as $ROOT, and what it changed as one more layer
#   unpack IMAGE DIR       the image's files below DIR/rootfs
#   clean DESC             nothing is in active/ and nothing in $BASE/tmp

STRATA=$(realpath -m "${top_srcdir:-.}/tools/strata")
ROOT=''

strata() {
    TMPDIR=$BASE/tmp STRATA_MNT=$MNT limit "$STRATA" "$@"
}

status_is() {
    local desc=$1 want=$2 status=0
    shift 2
    strata "$@" >"$OUT" 2>&1 </dev/null || status=$?
    is "$desc" "$status" "$want" || diag "$(tail -n 5 "$OUT")"
}

RUNTIMES='runc unshare'
! command -v crun >/dev/null || RUNTIMES="crun $RUNTIMES"

# crun refuses machines with both forms of cgroups, so it gets a namespace where there is one
become() { # RUNTIME ARG…
    local wrap=()
    if [ "$1" = crun ] && [ -d /sys/fs/cgroup/unified ]; then
        mount --make-shared "$MNT" # or what is attached later is not seen in there
        wrap=(unshare -m --propagation slave sh -c
            'umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"' sh)
    fi
    exec env STRATA_RUNTIME="$1" TMPDIR="$BASE/tmp" STRATA_MNT="$MNT" timeout -k 5 120 "${wrap[@]}" "$STRATA" "${@:2}"
}
with_runtime() { (become "$@"); }

need() {
    local tool
    for tool; do
        command -v "$tool" >/dev/null || bail "no $tool here: tools/install-deps @check"
    done
}

programs() {
    local dir=$1 name
    shift
    mkdir -p "$dir"/usr/{bin,sbin,lib,lib64} "$dir"/{proc,dev,sys,etc,tmp,root}
    chmod 1777 "$dir/tmp"
    ln -sfn usr/bin "$dir/bin"
    ln -sfn usr/sbin "$dir/sbin"
    ln -sfn usr/lib "$dir/lib"
    ln -sfn usr/lib64 "$dir/lib64"
    for name; do
        cp -L "$(command -v "$name")" "$dir/usr/bin/"
        ldd "$(command -v "$name")" | grep -o '/lib[^ ]*' | while read -r name; do
            mkdir -p "$dir/$(dirname "$name")" && cp -L "$name" "$dir/$name"
        done
    done
    ln -sf dash "$dir/usr/bin/sh"
}

packages() {
    local dir=$1
    shift
    dpkg -L "$@" | grep -v '^package diverts\|^/\.$' | LC_ALL=C sort -u |
        while IFS= read -r name; do
            [ ! -e "$name" ] && [ ! -L "$name" ] || printf '%s\0' "${name#/}"
        done | tar -C / --no-recursion --xattrs --acls --null -T - -cf - |
        tar -C "$dir" --keep-directory-symlink --xattrs --acls -xpf -
}

new_image() {
    [ -d "${1%:*}" ] || limit umoci init --layout "${1%:*}"
    limit umoci new --image "$1"
}

add_layer() {
    tar -C "$2" --sort=name --numeric-owner --xattrs --xattrs-include='*' -cf "$BASE/added.tar" . &&
        limit umoci raw add-layer --image "$1" "$BASE/added.tar"
    # shellcheck disable=SC2181
    [ $? = 0 ] || diag "cannot add a layer of $2"
    rm -f "$BASE/added.tar"
}

change() {
    local image=$1 bundle
    shift
    bundle=$(mktemp -d "$BASE/bundle.XXXXXX")
    limit umoci unpack --image "$image" "$bundle/b" >/dev/null 2>&1 || return 1
    # shellcheck disable=SC2034
    ROOT=$bundle/b/rootfs
    ("$@") || diag "cannot change the image: $*"
    limit umoci repack --image "$image" "$bundle/b" >"$BASE/repack.log" 2>&1 || diag "$(tail -n 3 "$BASE/repack.log")"
    rm -rf "$bundle"
}

unpack() { limit umoci unpack --image "$1" "$2" >/dev/null 2>&1; }

clean() {
    is "$1" "$(t ls "$MNT/active")$(ls "$BASE/tmp")" ''
}
