# shellcheck shell=sh disable=SC2034,SC2154
# SPDX-License-Identifier: Apache-2.0
#
# strata pull and push: part of strata, which see.

# The configuration of an image goes to labels, and its name, which counts from when the snapshot is committed.
label_image() { # ENTRY CONFIG-FILE ID NAME
        hex=${3#sha256:}
        rm -f "$tmp"/piece.*
        jq -cj . "$2" >"$tmp/pieces" && split -b 60000 -d -a 2 "$tmp/pieces" "$tmp/piece." || return 1
        for piece in "$tmp"/piece.*; do
                cp "$piece" "$1/labels/oci.config.$hex.${piece##*.}" || return 1
        done
        name_label "$4"
        echo "$3" >"$1/labels/$label"
}

# In the place of the shell that metered() starts: its errors are not those of the meter.
quietly() { exec "$@" 2>"$tmp/errors"; } # CMD...

# ---- pull ----

# Ends with skopeo's own reason. STATUS is for what is not there.
skopeo_failed() { # WHAT STATUS
        # without room nothing that it said could be kept
        echo >"$tmp/room" || die "$EX_IOERR" "$1: cannot write $tmp"
        reason=$(sed -n 's/.*level=fatal msg="\(.*\)"$/\1/p' "$tmp/errors" | tail -n 1 | sed 's/\\\(["\\]\)/\1/g')
        [ -n "$reason" ] || reason=$(tail -n 1 "$tmp/errors")
        case $reason in
        *'connection refused'* | *'dial tcp'* | *'no such host'*) die "$EX_UNAVAILABLE" "$1: $reason" ;;
        *'no space left'* | *'quota exceeded'*) die "$EX_IOERR" "$1: $reason" ;;
        *'invalid reference format'* | *'nvalid image name'* | *'must be lowercase'* | *': Invalid image '* | \
                *'both a tag and digest'* | *"isn't of the form"*)
                die "$EX_USAGE" "$1: $reason" ;;
        *'manifest unknown'* | *'name unknown'* | *'no such file'* | *'not found'* | *'no descriptor found'* | *'does not exist'* | \
                *'does not resolve to an image'* | *'status code from registry 404'* | *'blob unknown'*)
                die "$2" "$1: $reason" ;;
        *'invalid status code'*) ;;
        *'igest did not match'* | *'unexpected EOF'* | *'unmarshal'* | *'invalid '* | *'end of JSON input'* | *'parsing image configuration'*)
                die "$EX_DATAERR" "$1: $reason" ;;
        esac
        die "$EX_UNAVAILABLE" "$1: $reason"
}

# skopeo has a progress display of its own, on a terminal.
skopeo_copy() { # ARG...
        if [ -n "$progress" ]; then
                job skopeo copy "$@" >&2 2>"$tmp/errors"
        else
                job skopeo copy --quiet "$@" >/dev/null 2>"$tmp/errors"
        fi
}

# ChainID: image-spec, config.md, "Layer ChainID".
chain_id() { # PARENT'S-CHAINID DIFFID
        if [ -z "$1" ]; then
                echo "$2"
        else
                printf 'sha256:%.64s\n' "$(printf '%s %s' "$1" "$2" | sha256sum)"
        fi
}

# skopeo fetches whole images only, but no blob that is in the folder already. So for each layer that is a snapshot an
# empty file of its size is put there; a view keeps gc() away from these.
spare_known() { # CONFIG INSPECTION
        mkdir -p "$tmp/image/blobs/sha256"
        chain='' known=''
        : >"$tmp/spared" && : >"$tmp/held"
        jq -nr --slurpfile config "$1" --slurpfile seen "$2" \
                '[$config[0].rootfs.diff_ids, $seen[0].Layers] | transpose[] | "\(.[0]) \(.[1])"' >"$tmp/known"
        while read -r diff digest; do
                chain=$(chain_id "$chain" "$diff")
                case $chain in */*) break ;; esac
                [ -d "$mnt/snapshots/$chain" ] || break
                known=$chain
                echo "$chain" >>"$tmp/known.chains"
                layer=$mnt/snapshots/$chain/labels/oci.layer
                [ "$(jq -r .digest "$layer")" != "$digest" ] ||
                        printf '%s %s\n' "$(jq -r .size "$layer")" "${digest#sha256:}" >>"$tmp/spared"
        done <"$tmp/known"
        [ -n "$known" ] && hold_on "$known" && mv "$tmp/known.chains" "$tmp/held" || return
        tail -n +"$(($(wc -l <"$tmp/held") + 1))" "$tmp/known" >"$tmp/fetched"
        while read -r size digest; do
                # what comes again further up is needed there
                ! grep -q "$digest" "$tmp/fetched" || continue
                truncate -s "$size" "$tmp/image/blobs/sha256/$digest"
        done <"$tmp/spared"
}

blob() { echo "$tmp/image/blobs/sha256/${1#sha256:}"; } # DIGEST

pull() { # IMAGE
        need skopeo jq
        name=${1#docker://} source=$(reference "$1")
        name_label "$name"
        temporary
        job skopeo inspect ${tls:+"--tls-verify=$tls"} --config --raw "$source" >"$tmp/config" 2>"$tmp/errors" &&
                job skopeo inspect ${tls:+"--tls-verify=$tls"} --no-tags "$source" >"$tmp/seen" 2>"$tmp/errors" ||
                skopeo_failed "$1" "$EX_NOINPUT"
        spare_known "$tmp/config" "$tmp/seen" 2>/dev/null
        skopeo_copy ${tls:+"--src-tls-verify=$tls"} --remove-signatures --dest-oci-accept-uncompressed-layers \
                "$source" "oci:$tmp/image:image" || skopeo_failed "$1" "$EX_NOINPUT"

        manifest=$(blob "$(jq -r '.manifests[0].digest' "$tmp/image/index.json")")
        image=$(jq -r .config.digest "$manifest")
        config=$(blob "$image")
        jq -nr --slurpfile manifest "$manifest" --slurpfile config "$config" '
                [$manifest[0].layers, $config[0].rootfs.diff_ids] | transpose[] |
                [.[0].digest, .[0].size, .[0].mediaType, .[1]] | map(tostring) | join(" ")' >"$tmp/layers" &&
                grep -q . "$tmp/layers" &&
                ! grep -qvE '^sha256:[0-9a-f]{64} [0-9]+ [^ ]+ sha256:[0-9a-f]{64}$' "$tmp/layers" ||
                die "$EX_DATAERR" "$1: its manifest and configuration do not make an image"
        count=$(wc -l <"$tmp/layers") number=0 top=''
        while read -r digest size type diff; do
                number=$((number + 1))
                below=$top
                top=$(chain_id "$below" "$diff")
                # what is held already stays so, as the view is on the last of these
                grep -qxF "$top" "$tmp/held" || { [ -d "$mnt/snapshots/$top" ] && hold_on "$top"; } || pull_layer
        done <"$tmp/layers"
        # A new top was committed with these; one that was there gets them now.
        label_image "$mnt/snapshots/$top" "$config" "$image" "$name" || die "$EX_IOERR" "cannot label $top"
        drop_name "$name" "$top"
        echo "$top" || die "$EX_IOERR" "the image is there, but its name could not be written: $top"
}

# The layer of pull()'s loop: snapshot top on below. Checked before it is committed, and so never half there.
pull_layer() {
        prepare "$below" || die "$EX_OSERR" "cannot prepare a snapshot for layer $number"
        new=$mnt/active/$key
        if ! metered "layer $number of $count" "$size" quietly cp "$(blob "$digest")" "$new/layer.tar"; then
                reason=$(tail -n 1 "$mnt/log")
                case $reason in
                *" EINVAL "* | *" EFBIG "*) die "$EX_DATAERR" "layer $number, $digest: $reason" ;;
                esac
                die "$EX_IOERR" "layer $number, $digest: $(tail -n 1 "$tmp/errors")"
        fi
        [ "$(cat "$new/labels/stratafs.import.digest")" = "$digest" ] ||
                die "$EX_DATAERR" "layer $number is not what the manifest says: $digest"
        [ "$(cat "$new/labels/stratafs.import.diffid")" = "$diff" ] ||
                die "$EX_DATAERR" "layer $number is not what the configuration says: $diff"
        jq -nc '{mediaType: $ARGS.positional[0], digest: $ARGS.positional[1], size: $ARGS.positional[2] | tonumber,
                diff_id: $ARGS.positional[3]}' --args "$type" "$digest" "$size" "$diff" >"$new/labels/oci.layer" ||
                die "$EX_IOERR" "cannot label layer $number"
        [ "$number" != "$count" ] || label_image "$new" "$config" "$image" "$name" || die "$EX_IOERR" "cannot label layer $number"
        : >"$new/labels/oci.hold.$key" || die "$EX_IOERR" "cannot label layer $number"
        mark=$mnt/snapshots/$top/labels/oci.hold.$key
        if ! mv -T "$new" "$mnt/snapshots/$top" 2>"$tmp/errors"; then
                # somebody else may have pulled it meanwhile
                [ -d "$mnt/snapshots/$top" ] || die "$EX_IOERR" "$(cat "$tmp/errors")"
                remove "$new"
        fi
        key=
        hold_on "$top" || die "$EX_OSERR" "cannot hold layer $number"
        rm -f "$mark"
        mark=
}

# ---- push ----

# Writes how an image has a layer: as it came or was pushed before, or (export) made anew from the snapshot.
describe() { # SNAPSHOT reuse|export
        known=$mnt/snapshots/$1/labels/oci.layer
        if [ "$2" = reuse ] && [ -e "$known" ]; then
                jq -ce 'select(.digest and .size and .diff_id)' "$known" || die "$EX_DATAERR" "cannot make sense of $known"
                return
        fi
        tar=$mnt/snapshots/$1/layer.tar
        metered "layer $number of $count" "$(stat -c %s "$tar")" quietly cp "$tar" "$tmp/layer.tar" &&
                metered "layer $number of $count, packed" "$(stat -c %s "$tmp/layer.tar")" quietly gzip -nf "$tmp/layer.tar" ||
                die "$EX_IOERR" "cannot export $1: $(tail -n 1 "$tmp/errors")"
        diff=$(info "$mnt/snapshots/$1" diffid)
        [ -n "$diff" ] || die "$EX_IOERR" "cannot export $1: the info of it has no diffid"
        digest=sha256:$(sha256sum <"$tmp/layer.tar.gz" | cut -c 1-64)
        jq -nc '{mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest: $ARGS.positional[0],
                size: $ARGS.positional[1] | tonumber, diff_id: $ARGS.positional[2]}' \
                --args "$digest" "$(stat -c %s "$tmp/layer.tar.gz")" "$diff" >"$tmp/described" &&
                mv "$tmp/layer.tar.gz" "$(blob "$digest")" && cat "$tmp/described" || die "$EX_IOERR" "cannot write $tmp"
        [ -e "$known" ] || cp "$tmp/described" "$known" || say "$1 will be packed again at the next push"
}

# Makes an image of the snapshots in the file chain. Layers that are reused are described, but not there: skopeo asks the
# target for each by its digest first.
make_image() { # reuse|export
        no_room="cannot write $tmp"
        rm -rf "$tmp/image"
        mkdir -p "$tmp/image/blobs/sha256" && : >"$tmp/layers" && : >"$tmp/made" || die "$EX_IOERR" "$no_room"
        number=0
        while IFS= read -r at; do
                number=$((number + 1))
                describe "$at" "$1" >>"$tmp/layers" </dev/null || die "$EX_IOERR" "$no_room"
                entry=$mnt/snapshots/$at
                jq -nc '{created: $ARGS.positional[0], created_by: $ARGS.positional[1], comment: $ARGS.positional[2]} |
                        with_entries(select(.value != ""))' --args "$(info "$entry" committed)" \
                        "$(cat "$entry/labels/oci.created_by" 2>/dev/null || echo strata)" \
                        "$(cat "$entry/labels/oci.comment" 2>/dev/null)" >>"$tmp/made" || die "$EX_IOERR" "$no_room"
        done <"$tmp/chain"
        case $(uname -m) in
        x86_64) machine=amd64 ;;
        aarch64) machine=arm64 ;;
        *) machine=$(uname -m) ;;
        esac
        # the image's history has an entry a layer, and some without one
        jq -c --slurpfile layers "$tmp/layers" --slurpfile made "$tmp/made" --arg machine "$machine" '
                (.history // []) as $history | ([$history[] | select(.empty_layer | not)] | length) as $old |
                {architecture: $machine, os: "linux"} + . +
                {created: $made[-1].created, rootfs: {type: "layers", diff_ids: [$layers[].diff_id]},
                        history: ($history + $made[$old:])}' "$tmp/config" >"$tmp/config.json" || die "$EX_IOERR" "$no_room"
        config=$(add_blob "$tmp/config.json" application/vnd.oci.image.config.v1+json) || exit
        jq -nc --argjson config "$config" --slurpfile layers "$tmp/layers" '{schemaVersion: 2,
                mediaType: "application/vnd.oci.image.manifest.v1+json", config: $config,
                layers: [$layers[] | del(.diff_id)]}' >"$tmp/manifest.json" || die "$EX_IOERR" "$no_room"
        manifest=$(add_blob "$tmp/manifest.json" application/vnd.oci.image.manifest.v1+json) || exit
        jq -nc --argjson manifest "$manifest" '{schemaVersion: 2,
                manifests: [$manifest + {annotations: {"org.opencontainers.image.ref.name": "image"}}]}' >"$tmp/image/index.json" &&
                echo '{"imageLayoutVersion":"1.0.0"}' >"$tmp/image/oci-layout" || die "$EX_IOERR" "$no_room"
}

# Prints the descriptor.
add_blob() { # FILE TYPE
        digest=sha256:$(sha256sum <"$1" | cut -c 1-64)
        cp "$1" "$(blob "$digest")" || die "$EX_IOERR" "$no_room"
        jq -nc '{mediaType: $ARGS.positional[0], digest: $ARGS.positional[1], size: $ARGS.positional[2] | tonumber}' \
                --args "$2" "$digest" "$(stat -c %s "$1")"
}

push() { # NAME IMAGE
        need skopeo jq gzip
        resolve "$1"
        temporary
        image_config "$snapshot" "$id" "$tmp/config"
        at=$snapshot count=0
        : >"$tmp/chain" || die "$EX_IOERR" "cannot write $tmp"
        while [ -n "$at" ]; do
                count=$((count + 1))
                { echo "$at" && cat "$tmp/chain"; } >"$tmp/chain.new" && mv "$tmp/chain.new" "$tmp/chain" ||
                        die "$EX_IOERR" "cannot write $tmp"
                at=$(parent "$mnt/snapshots/$at")
        done
        make_image reuse
        skopeo_copy ${tls:+"--dest-tls-verify=$tls"} "oci:$tmp/image:image" "$(reference "$2")" && return
        # The target lacks a layer that is not as it came any more, so it gets all of them as they are made here.
        grep -q "$tmp/image/blobs/sha256/[0-9a-f]*: no such file" "$tmp/errors" || skopeo_failed "$2" "$EX_CANTCREAT"
        make_image export
        skopeo_copy ${tls:+"--dest-tls-verify=$tls"} "oci:$tmp/image:image" "$(reference "$2")" || skopeo_failed "$2" "$EX_CANTCREAT"
}
