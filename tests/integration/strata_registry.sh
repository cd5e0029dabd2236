#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A complete pull and push from the shell, against a registry on loopback: an image of real Debian packages, made by umoci, with
# all that layers can hold; changed, committed, pushed, and looked at again by skopeo and umoci.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"
. "$(dirname "$0")/helpers/s_image.sh"
need skopeo umoci jq docker-registry runc setcap setfattr curl
new_mount
mkdir "$BASE/tmp" "$BASE/registry"
cd / || exit 1
S=$MNT/snapshots A=$MNT/active

# ---- a registry on some free port; it says where in its log when it has one
serve() {
    local try
    for try in 1 2 3 4 5 6 7 8 9 10; do
        PORT=$((20000 + (RANDOM + try) % 20000))
        printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%s"}\nlog: {accesslog: {disabled: false}}\n' \
            "$BASE/registry" "$PORT" >"$BASE/registry.yml"
        docker-registry serve "$BASE/registry.yml" >"$BASE/registry.log" 2>&1 &
        REGISTRY=$!
        SPAWNS+=("$REGISTRY")
        wait_until 20 up && kill -0 "$REGISTRY" 2>/dev/null && return
        kill "$REGISTRY" 2>/dev/null
    done
    bail "no registry"
}
up() { ! kill -0 "$REGISTRY" 2>/dev/null || curl -s -m 5 -o "$BASE/up" "http://127.0.0.1:$PORT/v2/"; }
# how many blobs were sent
sent() { grep -ac '"PUT /v2/[^ ]*/blobs/uploads/' "$BASE/registry.log"; }
# how often a layer of the image was fetched
fetched() {
    skopeo inspect --tls-verify=false "$R/test/image:1" | jq -r '.Layers[] | "\"GET /v2/.*/blobs/\(.) "' |
        grep -a -c -f - "$BASE/registry.log"
}
copy() { limit skopeo copy -q --src-tls-verify=false --dest-tls-verify=false "$@"; }
push() { strata push --tls-verify=false "$@"; }
pull() { strata pull --tls-verify=false "$@"; }
serve
R=docker://127.0.0.1:$PORT

# ---- the image
I=$BASE/image:a
new_image "$I"
mkdir "$BASE/root" && programs "$BASE/root" dash
packages "$BASE/root" coreutils grep sed libc6 libselinux1 libpcre2-8-0 libacl1 libattr1 libgmp10 passwd
add_layer "$I" "$BASE/root"
many_kinds() {
    mkdir -p "$ROOT/srv/kinds/sub" "$ROOT/srv/hidden/deep" "$ROOT/srv/replaced" "$ROOT/usr/share/gone/deep"
    cd "$ROOT/srv/kinds" || return 1
    cp /usr/bin/id capable && setcap cap_net_raw+ep capable
    cp /usr/bin/id setuid && chown 12:34 setuid && chmod 6755 setuid
    echo linked >hard1 && ln hard1 hard2 && ln hard1 sub/hard3
    echo x >attributed && setfattr -n user.colour -v blue attributed
    setfattr -n user.on.folder -v yes sub
    truncate -s 5M sparse && printf end | dd of=sparse bs=1 seek=3M conv=notrunc status=none
    mknod char c 1 3 && mknod block b 7 200 && mkfifo -m 622 fifo && chown 1:2 char
    ln -s ../../nowhere dangling && ln -s hard1 soft && chown -h 5:6 soft
    echo n >$'new\nline' && echo b >$'byte-\xff' && echo l >"$(head -c 200 /dev/zero | tr '\0' l)"
    mkdir -p "$(for i in $(seq 30); do printf 'a-long-name-of-a-folder-%d/' "$i"; done)"
    touch -d '1969-05-05 05:05:05.5' old && touch -d '2030-01-01 00:00:00.123456789' new
    echo 1 >"$ROOT/srv/hidden/one" && echo 2 >"$ROOT/srv/hidden/deep/two" && echo f >"$ROOT/srv/file"
    chmod 1777 "$ROOT/srv/replaced"
}
whiteouts() {
    rm -r "$ROOT/usr/share/gone" "$ROOT/srv/kinds/hard2" "$ROOT/srv/kinds/sparse" "$ROOT/srv/hidden/deep"
    echo more >>"$ROOT/srv/kinds/sub/hard3"
}
types() {
    rm -r "$ROOT/srv/file" && mkdir "$ROOT/srv/file" && echo in >"$ROOT/srv/file/in"
    rm -r "$ROOT/srv/replaced" && ln -s hidden "$ROOT/srv/replaced"
    rm "$ROOT/srv/kinds/fifo" && echo now >"$ROOT/srv/kinds/fifo"
    chmod 700 "$ROOT/srv/kinds/sub" && chown 9:9 "$ROOT/srv/kinds/old"
}
change "$I" many_kinds
change "$I" whiteouts
change "$I" types
mkdir -p "$BASE/opaque/srv/hidden" && echo fresh >"$BASE/opaque/srv/hidden/fresh" && : >"$BASE/opaque/srv/hidden/.wh..wh..opq"
add_layer "$I" "$BASE/opaque"
mkdir -p "$BASE/again/srv" && : >"$BASE/again/srv/.wh.file" && echo last >"$BASE/again/last"
add_layer "$I" "$BASE/again"
umoci config --image "$I" --config.env NAME=value --config.cmd /usr/bin/id >/dev/null
copy "oci:$I" "$R/test/image:1" || bail "cannot fill the registry"
copy "oci:$I" "docker-archive:$BASE/image.tar:test:1"
layers=$(skopeo inspect --tls-verify=false "$R/test/image:1" | jq '.Layers | length')
is "the image has its layers" "$layers" 6
before_push=$(sent)

# ---- pull
status_is "an unknown image of the registry" 66 pull --tls-verify=false "$R/test/nosuch:1"
status_is "a registry that does not answer" 69 pull docker://127.0.0.1:1/x
top=$(pull "$R/test/image:1")
is "pulled, a snapshot a layer" "$(t ls "$S" | wc -l)" "$layers"
unpack "$I" "$BASE/unpacked"
same_tree "the files equal what umoci unpacks" "$S/$top/fs" "$BASE/unpacked/rootfs"
is "the opaque folder hides what was there" "$(t ls "$S/$top/fs/srv/hidden")" fresh
is "as many names of one file" "$(stat -c %h "$S/$top/fs/srv/kinds/hard1")" "$(stat -c %h "$BASE/unpacked/rootfs/srv/kinds/hard1")"
before=$(fetched)
is "pulled again" "$(pull "$R/test/image:1")" "$top"
isnt "layers were fetched at first" "$before" 0
is "and not again" "$(fetched)" "$before"
is "from an archive: the same snapshot" "$(pull "docker-archive:$BASE/image.tar")" "$top"
is "names of both" "$(strata images | cut -f 1 | sort | xargs)" "127.0.0.1:$PORT/test/image:1 docker-archive:$BASE/image.tar"
clean "nothing is left over"

# podman's and containerd's own idea of the image, where they work: their times of folders are those of unpacking, and they
# know none before 1970
untimed() { manifest "$1" | grep -av '/kinds/old' | sed -E 's/(dir [0-7]+ [0-9:]+) .*/\1/'; }
podman_in() { limit podman --root "$BASE/podman" --runroot "$BASE/podrun" --storage-driver vfs "$@" 2>"$BASE/podman.log"; }
if command -v podman >/dev/null && podman_in pull -q --tls-verify=false "${R#docker://}/test/image:1" >/dev/null; then
    at=$(podman_in image mount "${R#docker://}/test/image:1")
    is "the files equal what podman mounts" "$(diff <(untimed "$S/$top/fs") <(untimed "$at") | head -n 20)" ''
    podman_in image unmount -a >/dev/null
    from="containers-storage:[vfs@$BASE/podman+$BASE/podrun]${R#docker://}/test/image:1"
    is "from podman's own store: the same snapshot" "$(pull "$from")" "$top"
    ok "its name is dropped" strata images -d "$from"
else
    diag "podman does not work here: $(tail -n 1 "$BASE/podman.log")"
fi

# a server of its own
start_containerd() {
    mkdir "$BASE/containerd" &&
        printf 'version = 2\nroot = "%s"\nstate = "%s"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "%s"\n' \
            "$BASE/containerd/root" "$BASE/containerd/state" "$BASE/containerd/sock" >"$BASE/containerd/config.toml" &&
        { containerd --config "$BASE/containerd/config.toml" >"$BASE/containerd.log" 2>&1 & } &&
        SPAWNED=$! && SPAWNS+=("$SPAWNED") && wait_until 30 containerd_in version
}
containerd_in() { limit ctr --address "$BASE/containerd/sock" "$@" >>"$BASE/ctr.log" 2>&1; }
if command -v containerd ctr >/dev/null; then
    mkdir "$BASE/mounted"
    ok "containerd takes the image" eval 'start_containerd && containerd_in images import --snapshotter overlayfs "$BASE/image.tar" &&
        containerd_in images mount --snapshotter overlayfs docker.io/library/test:1 "$BASE/mounted"'
    is "the files equal what containerd mounts" "$(diff <(untimed "$S/$top/fs") <(untimed "$BASE/mounted") | head -n 20)" '' ||
        diag "$(tail -n 3 "$BASE/ctr.log")"
    umount "$BASE/mounted" 2>/dev/null
    unspawn "$SPAWNED"
else
    diag "no containerd here"
fi

# ---- run, change, commit
like "run: the image's command" "$(STRATA_RUNTIME=runc strata run "127.0.0.1:$PORT/test/image:1")" '^uid=0'
change_it='set -e; echo changed >/srv/kinds/attributed; rm /last; mkdir /srv/file; echo x >/srv/file/x; chmod 600 /srv/hidden/fresh; ln /srv/file/x /srv/file/y'
ok "run: a change that is kept" env STRATA_RUNTIME=runc TMPDIR="$BASE/tmp" STRATA_MNT="$MNT" "$STRATA" run --keep work "$top" sh -c "$change_it"
changes=$(strata diff work)
for line in 'M /srv/kinds/attributed' 'D /last' 'A /srv/file' 'A /srv/file/x' 'M /srv/hidden/fresh'; do
    like "diff: $line" "$changes" "(^|
)$line(
|$)"
done
ok "commit" mv "$A/work" "$S/work"

# ---- push
is "push is quiet in a pipe" "$(push work "$R/test/image:2" 2>&1; echo $?)" 0
is "one layer and the configuration are sent" "$(sent)" $((before_push + 2))
ok "pushed once more" push work "$R/test/image:3"
is "nothing is sent" "$(sent)" $((before_push + 2))
copy "$R/test/image:2" "oci:$BASE/back:2"
unpack "$BASE/back:2" "$BASE/unpacked2"
same_tree "what was pushed, by skopeo and umoci: equal" "$S/work/fs" "$BASE/unpacked2/rootfs"
out=$(skopeo inspect --config "oci:$BASE/back:2")
is "its environment, command and layers" "$(jq -c '[(.config.Env | index("NAME=value") != null), .config.Cmd, (.rootfs.diff_ids | length)]' <<<"$out")" "[true,[\"/usr/bin/id\"],$((layers + 1))]"
is "its history has an entry a layer" "$(jq '[.history[] | select(.empty_layer | not)] | length' <<<"$out")" $((layers + 1))
like "the last one tells the command" "$(jq -r '.history[-1].created_by' <<<"$out")" 'echo changed'
is "the layers below are as they came" "$(skopeo inspect --tls-verify=false "$R/test/image:2" | jq -c ".Layers[:$layers]")" "$(skopeo inspect --tls-verify=false "$R/test/image:1" | jq -c .Layers)"
work=$(pull "$R/test/image:2")
same_tree "pulled back: the same files" "$S/work/fs" "$S/$work/fs"
is "on the same layers" "$(field parent "$S/$work/info")" "$top"

# a target that has none of it gets all layers as they are exported
ok "push to where the layers are not" push work "oci:$BASE/fresh:1"
unpack "$BASE/fresh:1" "$BASE/unpacked3"
same_tree "unpacked by umoci: equal" "$S/work/fs" "$BASE/unpacked3/rootfs"
clean "nothing is left over"

# ---- from store to store
one=$MNT
at=$work
chain=()
while [ -n "$at" ]; do
    chain=("$at" "${chain[@]}")
    at=$(field parent "$S/$at/info")
done
new_mount
parent=''
for at in "${chain[@]}"; do
    mkdir "$MNT/active/k${parent:+@$parent}"
    limit cp "$one/snapshots/$at/layer.tar" "$MNT/active/k/layer.tar" || diag "cannot copy $at"
    mv "$MNT/active/k" "$MNT/snapshots/$at"
    ok "exported, imported, exported: the same bytes (${at:0:15})" cmp "$one/snapshots/$at/layer.tar" "$MNT/snapshots/$at/layer.tar"
    parent=$at
done
same_tree "and the same files" "$one/snapshots/$work/fs" "$MNT/snapshots/$work/fs"
unspawn "$REGISTRY"
done_testing
