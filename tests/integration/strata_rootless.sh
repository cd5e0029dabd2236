#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# strata run and try inside `unshare -Urm`, where there is one user and one group; and what is offered when nothing ran.
if [ "${1:-}" != inside ]; then
    if ! unshare -Urm true 2>/dev/null; then
        echo '1..0 # SKIP no user namespaces here'
        exit
    fi
    # crun refuses machines with both forms of cgroups
    # shellcheck disable=SC2016
    exec unshare -m --propagation private bash -c '
        [ ! -d /sys/fs/cgroup/unified ] || { umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup; }
        exec unshare -Urm bash "$1" inside' bash "$0"
fi
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"
. "$(dirname "$0")/helpers/s_image.sh"
need skopeo umoci jq runc perl
new_mount
mkdir "$BASE/tmp"
cd / || exit 1
A=$MNT/active S=$MNT/snapshots

I=$BASE/image
new_image "$I:a"
programs "$BASE/root" dash cat id
rmdir "$BASE/root/proc" "$BASE/root/dev" "$BASE/root/sys" # so that the runtime makes them
add_layer "$I:a" "$BASE/root"
top=$(strata pull "oci:$I:a")
isnt "there is an image" "$top" ''
t mkdir "$A/other@$top" && t mv "$A/other" "$S/other" && echo 5:5 >"$S/other/labels/oci.user"

using() { STRATA_RUNTIME=$r strata "$@"; }
for r in $RUNTIMES; do
    for net in '' --net; do
        is "$r: run $net" "$(using run $net "$top" sh -c "id -u; id -g" 2>&1 | xargs)" "0 0"
        is "$r: run $net: the exit code" "$(using run $net "$top" sh -c 'exit 7'; echo $?)" 7
    done
    is "$r: try" "$(echo keep tried | using try "$top" -- sh -c 'echo x >/new' 2>&1 | grep -c '^A /new')$(cat "$A/tried/fs/new")" 1x
    t rmdir "$A/tried"
    for what in "other id" "$top nosuch"; do
        # shellcheck disable=SC2086
        set -- $what
        is "$r: $2 as ${1%%:*} does not start: the exit code" "$(using run --keep none "$@" >"$OUT" 2>&1; echo $?)" 71
        like "$r: that is said" "$(tail -n 1 "$OUT")" "^strata: $r did not start the command\$"
        is "$r: try of it" "$(echo commit leftovers | using try "$1" -- "$2" >"$OUT" 2>&1; echo $?)" 71
        unlike "$r: try asks nothing then" "$(cat "$OUT")" 'commit NAME|^A '
    done
    nok "$r: and nothing is kept of it" test -e "$S/leftovers"
    clean "$r: nothing is left"
done
done_testing
