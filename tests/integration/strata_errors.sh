#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The shell front end when something fails on the way: nothing false is said, sent or kept, and nothing of the user's is lost.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"
. "$(dirname "$0")/helpers/s_image.sh"
need skopeo umoci jq dot
new_mount
mkdir "$BASE/tmp"
cd / || exit 1
S=$MNT/snapshots A=$MNT/active V=$MNT/views
export STRATA_RUNTIME=unshare

I=$BASE/image
new_image "$I:a"
programs "$BASE/root" dash cat ls rm mkdir mkfifo
add_layer "$I:a" "$BASE/root"
mkdir -p "$BASE/second/etc" && echo second >"$BASE/second/etc/second"
add_layer "$I:a" "$BASE/second"
top=$(strata pull "oci:$I:a")
isnt "there is an image" "$top" ''

# said by the last command of status_is
said() { like "$1" "$(cat "$OUT")" "$2"; }

# ---- a place for temporary files that is full
full=$BASE/full
mkdir "$full"
mount -t tmpfs -o size=1m tmp "$full" || bail "no tmpfs"
fill_up() { dd if=/dev/zero of="$full/fill" bs=4k 2>/dev/null; }
crowded() { TMPDIR=$full STRATA_MNT=$MNT limit "$STRATA" "$@"; }
# status_is, with 4 KiB blocks of room
with_room() { # BLOCKS DESC STATUS ARG…
    local desc=$2 want=$3 status=0
    fill_up
    truncate -s $(($(stat -c %s "$full/fill") - $1 * 4096)) "$full/fill"
    crowded "${@:4}" >"$OUT" 2>&1 </dev/null || status=$?
    is "$desc" "$status" "$want" || diag "$(tail -n 5 "$OUT")"
    rm -f "$full/fill"
    is "$desc: nothing is left" "$(ls "$full")$(t ls "$A" "$V" | grep -v :)" ''
}
mkdir "$A/one@$top" && echo new >"$A/one/fs/new" && mv "$A/one" "$S/one"
mkdir "$A/two@$top" && echo other >"$A/two/fs/new" && mv "$A/two" "$S/two"
for blocks in 0 1 2 3 4 5 6; do
    rm -rf "$BASE/pushed"
    fill_up
    truncate -s $(($(stat -c %s "$full/fill") - blocks * 4096)) "$full/fill"
    status=0
    crowded push one "oci:$BASE/pushed:a" >"$OUT" 2>&1 || status=$?
    rm -f "$full/fill"
    # it may do with little: then all of it must be there
    if [ "$status" = 0 ]; then
        is "push with $blocks blocks of room: all layers" "$(skopeo inspect --raw "oci:$BASE/pushed:a" | jq '.layers | length')" 3
    else
        is "push with $blocks blocks of room: the exit code" "$status" 74 || diag "$(cat "$OUT")"
        nok "push with $blocks blocks of room: no image" skopeo inspect "oci:$BASE/pushed:a"
    fi
done
with_room 0 "diff without room" 74 diff one two
said "it says so" 'cannot compare|temporary'
with_room 1 "diff with little room" 74 diff one two
with_room 0 "pull without room" 74 pull "oci:$I:a"
with_room 2 "pull with little room" 74 pull "oci:$I:a"
umount "$full"

# A tool that fails in the midst must not make a shorter image: each CALLS_STRIDEth call, all of them in check-long.
mkdir -p "$BASE/bin"
for tool in jq cp mv; do
    real=$(command -v "$tool")
    calls=1
    while [ "$calls" -le 40 ]; do
        printf '#!/bin/sh\nn=$(($(cat "%s") + 1))\necho "$n" >"%s"\n[ "$n" != %s ] || { echo "no room" >&2; exit 1; }\nexec %s "$@"\n' \
            "$BASE/calls" "$BASE/calls" "$calls" "$real" >"$BASE/bin/$tool"
        chmod +x "$BASE/bin/$tool"
        echo 0 >"$BASE/calls"
        rm -rf "$BASE/pushed"
        status=0
        PATH=$BASE/bin:$PATH strata push one "oci:$BASE/pushed:a" >"$OUT" 2>&1 || status=$?
        [ "$(cat "$BASE/calls")" -ge "$calls" ] || break
        if [ "$status" = 0 ]; then
            layers=$(skopeo inspect --raw "oci:$BASE/pushed:a" | jq '.layers | length')
            kept=$(skopeo inspect --config "oci:$BASE/pushed:a" | jq -c '.rootfs.diff_ids | length')
            is "push with call $calls of $tool failing: whole" "$layers $kept" "3 3"
        else
            nok "push with call $calls of $tool failing: no image" skopeo inspect "oci:$BASE/pushed:a"
        fi
        calls=$((calls + ${CALLS_STRIDE:-3}))
    done
    rm -f "$BASE/bin/$tool"
    [ "$tool" = mv ] || isnt "calls of $tool were made" "$calls" 1
done
clean "nothing is left"

# ---- labels that make no sense
mkdir "$A/bad" && echo '{no json' >"$A/bad/labels/oci.config.abc.00" && mv "$A/bad" "$S/bad"
status_is "push of a snapshot whose configuration is damaged" 65 push bad "oci:$BASE/none:a"
said "it says which" 'oci.config.abc'
status_is "run of it" 65 run bad true
rmdir "$S/bad"
mkdir "$A/bad" && echo '{"digest":1}' >"$A/bad/labels/oci.layer" && mv "$A/bad" "$S/bad"
status_is "push of one whose layer is not described" 65 push bad "oci:$BASE/none:a"
said "it says which" 'bad/labels/oci.layer'
rmdir "$S/bad"
clean "nothing is left"

# ---- a side that can't be read
tar -C "$BASE/second" -cf "$BASE/layer.tar" .
t mkdir "$A/import"
mkfifo "$BASE/pipe"
cp "$BASE/pipe" "$A/import/layer.tar" &
importer=$!
exec 7>"$BASE/pipe"
head -c 600 "$BASE/layer.tar" >&7
logged_busy() { ! t ls "$A/import/fs" >/dev/null 2>&1; }
ok "the import is under way" wait_until 10 logged_busy
status_is "diff with what is being imported" 74 diff one import
unlike "no line of a difference" "$(cat "$OUT")" '^[AMD] '
exec 7>&-
wait "$importer"
t rmdir "$A/import"

# ---- names in diff
mkdir "$A/one" && echo x >"$A/one/fs/active-one"
is "diff of an active snapshot before one of that name" "$(strata diff one)" "A /active-one"
is "diff of snapshots/NAME" "$(strata diff snapshots/one)" "A /new"
is "diff of active/NAME" "$(strata diff active/one)" "A /active-one"
status_is "diff of views/NAME that is none" 66 diff views/one
t rmdir "$A/one"

# ---- keys
t mkdir "$V/looking@$top"
status_is "run --keep with a view's name" 73 run --keep looking "$top" true
t rmdir "$V/looking"
for name in '' .hidden a/b a@b $'a\tb' "$(printf 'n%.0s' {1..256})"; do
    status_is "run --keep '${name:0:10}'" 64 run --keep "$name" "$top" true
done
clean "nothing was begun"
strata run --keep late "$top" sh -c 'echo precious >/kept; echo ready; read -r go' <"$BASE/pipe" >"$BASE/ready" 2>"$BASE/err" &
runner=$!
exec 7>"$BASE/pipe"
is_ready() { grep -q ready "$BASE/ready"; }
ok "the command runs" wait_until 20 is_ready
t mkdir "$A/late"
echo go >&7
exec 7>&-
wait "$runner"
is "a key that is taken meanwhile: the exit code" "$?" 73
kept=$(t ls "$A" | grep '^kept-strata-')
like "it says what it is called now" "$(cat "$BASE/err")" "active/$kept"
strata gc -y >/dev/null
is "gc lets it be" "$(cat "$A/$kept/fs/kept")" precious
t rmdir "$A/$kept" "$A/late"

# ---- what a pull builds on stays while it runs
mkdir "$BASE/third" && echo third >"$BASE/third/third"
cp -a "$I" "$BASE/more"
add_layer "$BASE/more:a" "$BASE/third"
strata images -d "oci:$I:a" 2>/dev/null
t rmdir "$S/one" "$S/two"
real=$(command -v skopeo)
cat >"$BASE/bin/skopeo" <<END
#!/bin/sh
[ "\$1" != copy ] || { STRATA_MNT=$MNT $STRATA gc -y >"$BASE/gc" 2>&1; ls $V >"$BASE/views"; }
exec $real "\$@"
END
chmod +x "$BASE/bin/skopeo"
is "gc would remove what the pull builds on" "$(strata gc </dev/null 2>/dev/null | head -n 1)" "snapshots/$top"
status=0
PATH=$BASE/bin:$PATH strata pull "oci:$BASE/more:a" >"$OUT" 2>&1 || status=$?
is "a gc amid a pull" "$status" 0 || diag "$(cat "$OUT")"
like "a view held it" "$(cat "$BASE/views")" '^strata-[0-9]+-[0-9a-f]{8}-hold$'
is "and is gone" "$(t ls "$V")" ''
mkdir "$V/strata-999999999-c0ffee00-hold@$top"
like "one that a killed pull left" "$(strata gc -y)" 'views/strata-999999999-c0ffee00-hold'
is "is removed by gc" "$(t ls "$V")" ''

# ---- the host's servers of names
if [ -s /etc/resolv.conf ]; then
    is "run --net: they are there" "$(strata run --net "$top" cat /etc/resolv.conf)" "$(cat /etc/resolv.conf)"
    status_is "run without a network" 1 run "$top" cat /etc/resolv.conf
    strata run --net --keep net "$top" sh -c 'echo x >/x' 2>/dev/null
    is "and they are no change" "$(t cat "$A/net/changes")" "A /x"
    t rmdir "$A/net"
    strata run --net --keep net "$top" sh -c 'echo own >/etc/resolv.conf' 2>/dev/null
    is "what the command made of them is" "$(t cat "$A/net/changes" | grep resolv) $(cat "$A/net/fs/etc/resolv.conf")" "A /etc/resolv.conf own"
    t rmdir "$A/net"
    status_is "a pipe in their place" 0 run --net --keep net "$top" sh -c 'rm /etc/resolv.conf && mkfifo /etc/resolv.conf'
    is "is not read, and is a change" "$(t cat "$A/net/changes")" "A /etc/resolv.conf"
    t rmdir "$A/net"
    t mkdir "$A/linked@$top" && ln -s "$BASE/outside" "$A/linked/fs/etc/resolv.conf" && mv "$A/linked" "$S/linked"
    status_is "a symbolic link in their place" 1 run --net linked cat /etc/resolv.conf
    nok "is not followed" test -e "$BASE/outside"
else
    pass "no servers of names here # SKIP no /etc/resolv.conf"
fi

# ---- exit codes
status_is "an argument that is no UTF-8" 64 run "$top" cat $'\xff'
status_is "--tls-verify=maybe" 64 pull --tls-verify=maybe x
status_is "an image's name that can't be" 64 pull 'docker://UPPER/x'
status_is "an image with a tag and a digest" 64 pull "host.invalid/x:1@sha256:$(printf x | sha256sum | cut -c -64)"
status_is "a tag with a blank" 64 pull "oci:$BASE/image:my tag"
status_is "an archive without a path" 64 pull docker-archive:
for name in . .. active/. active/.. snapshots/..; do status_is "diff $name" 66 diff "$name"; done
status_is "run in ." 66 run . ls
status_is "a picture of no kind" 64 graph "$BASE/g.bogus"
status_is "push to a folder that is not there" 73 push "$top" "oci:$BASE/nonexistent/dir/x:t"
for command in images tree "diff $top"; do
    status=0
    # shellcheck disable=SC2086
    strata $command >/dev/full 2>"$OUT" || status=$?
    is "$command to a full disk" "$status" 74
done
clean "nothing is left at the end"
done_testing
