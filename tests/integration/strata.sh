#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The shell front end, without a registry: commands, exit codes, signals, what is left and what is said.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"
. "$(dirname "$0")/helpers/s_image.sh"
need skopeo umoci jq dot script runc
new_mount
mkdir "$BASE/tmp"
cd / || exit 1
S=$MNT/snapshots A=$MNT/active

names() { t ls "$1" | tr '\n' ' '; }

# ---- an image with a configuration
I=$BASE/image
new_image "$I:a"
programs "$BASE/root" dash cat ls id sleep rm mkdir ln mknod touch chmod env
echo "worker:x:1234:4321:::/bin/sh" >"$BASE/root/etc/passwd"
echo "crew:x:77:" >"$BASE/root/etc/group"
mkdir -m 1777 "$BASE/root/work"
add_layer "$I:a" "$BASE/root"
mkdir -p "$BASE/second/etc" && echo second >"$BASE/second/etc/second"
add_layer "$I:a" "$BASE/second"
umoci config --image "$I:a" --config.env 'COLOR=a "b" $c' --config.workingdir /work --config.user worker:crew \
    --config.entrypoint /bin/sh --config.cmd=-c --config.cmd 'id -u; id -g; echo $COLOR; pwd' >/dev/null

# ---- the command line
status_is "no command" 64
status_is "an unknown command" 64 fetch x
status_is "an unknown option" 64 run --what x
status_is "too few arguments" 64 push x
status_is "too many arguments" 64 tree x
status_is "try without --" 64 try x true
status_is "--store without a mount" 64 --store
status_is "--help" 0 --help
like "is the list of commands" "$(cat "$OUT")" '^usage: .*pull.*push.*run.*try.*diff.*tree.*graph.*images.*gc'
status_is "a folder that is no mount" 69 --store "$BASE" tree
status_is "--store=MNT" 0 --store="$MNT" tree
is "--store wins over STRATA_MNT" "$(STRATA_MNT=/nowhere "$STRATA" --store "$MNT" tree; echo $?)" 0
is "STRATA_MNT that is nowhere" "$(STRATA_MNT=/nowhere "$STRATA" tree 2>/dev/null; echo $?)" 69

# the first mount of mountinfo: in a mount namespace with just one, whose path has a blank
mkdir "$BASE/a blank" "$A/seen"
# shellcheck disable=SC2094
in_namespace() {
    unshare -m --propagation slave bash -c '
        mount --bind "$1" "$2" || exit 1
        awk "/ - fuse\.stratafs / { print \$5 }" /proc/self/mountinfo | while read -r path; do
            path=$(printf %b "$path")
            [ "$path" = "$2" ] || umount -l "$path"
        done
        env -u STRATA_MNT "$3" tree' bash "$MNT" "$BASE/a blank" "$STRATA"
}
is "the first mount of mountinfo" "$(in_namespace)" "active/seen"
no_mount() {
    unshare -m --propagation slave bash -c '
        awk "/ - fuse\.stratafs / { print \$5 }" /proc/self/mountinfo | while read -r path; do umount -l "$(printf %b "$path")"; done
        env -u STRATA_MNT "$1" tree' bash "$STRATA"
}
is "no mount at all" "$(no_mount 2>/dev/null; echo $?)" 69
rmdir "$A/seen"

# ---- pull
status_is "no such image" 66 pull "oci:$I:nosuch"
status_is "no such folder" 66 pull "oci:$BASE/nowhere:a"
clean "they leave nothing"
top=$(strata pull "oci:$I:a" 2>"$BASE/err")
like "pull prints the top's name" "$top" '^sha256:[0-9a-f]{64}$'
is "and says nothing else in a pipe" "$(cat "$BASE/err")" ''
digest=$(jq -r '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == "a").digest' "$I/index.json")
config=$(jq -r .config.digest "$I/blobs/sha256/${digest#*:}")
first=$(jq -r '.rootfs.diff_ids[0]' "$I/blobs/sha256/${config#*:}")
second=$(jq -r '.rootfs.diff_ids[1]' "$I/blobs/sha256/${config#*:}")
is "the first layer is named by its DiffID" "$(field parent "$S/$top/info")" "$first"
is "the second by the sum over both" "$top" "sha256:$(printf '%s %s' "$first" "$second" | sha256sum | cut -c -64)"
unpack "$I:a" "$BASE/unpacked"
same_tree "the files are those of the image" "$S/$top/fs" "$BASE/unpacked/rootfs"
clean "nothing is left over"
is "images" "$(strata images)" "oci:$I:a	$config	$top"
is "its configuration is kept" "$(jq -S . "$S/$top/labels/oci.config.${config#*:}.00")" "$(jq -S . "$I/blobs/sha256/${config#*:}")"
before=$(state)
is "pulled again: the same name" "$(strata pull "oci:$I:a")" "$top"
is "and no more snapshots" "$(names "$S")" "$(printf '%s\n' "$first" "$top" | sort | tr '\n' ' ')"

# ---- broken images
broken() { # DESC STATUS: $I:bad, changed by the caller
    before=$(names "$S")
    status_is "$1" "$2" pull "oci:$BASE/bad:a"
    is "$1: no snapshot of it" "$(names "$S")" "$before"
    clean "$1: nothing is left"
}
# The image whose second layer is FILE, and whose configuration says DIFFID about it
forge() { # FILE DIFFID
    local layer conf man
    rm -rf "$BASE/bad" && cp -a "$I" "$BASE/bad"
    layer=$(sha256sum <"$1" | cut -c -64)
    cp "$1" "$BASE/bad/blobs/sha256/$layer"
    jq --arg d "$2" '.rootfs.diff_ids[1] = $d' "$I/blobs/sha256/${config#*:}" >"$BASE/conf"
    conf=$(sha256sum <"$BASE/conf" | cut -c -64)
    cp "$BASE/conf" "$BASE/bad/blobs/sha256/$conf"
    jq --arg l "sha256:$layer" --arg c "sha256:$conf" --argjson ls "$(stat -c %s "$1")" --argjson cs "$(stat -c %s "$BASE/conf")" '
        .layers[1] |= (.digest = $l | .size = $ls | .mediaType = "application/vnd.oci.image.layer.v1.tar") |
        .config |= (.digest = $c | .size = $cs)' "$I/blobs/sha256/${digest#*:}" >"$BASE/man"
    man=$(sha256sum <"$BASE/man" | cut -c -64)
    cp "$BASE/man" "$BASE/bad/blobs/sha256/$man"
    jq --arg m "sha256:$man" --argjson s "$(stat -c %s "$BASE/man")" '.manifests |= map(
        select(.annotations["org.opencontainers.image.ref.name"] == "a") | .digest = $m | .size = $s)' "$I/index.json" >"$BASE/bad/index.json"
}
tar -C "$BASE/second" -cf "$BASE/good.tar" .
forge "$BASE/good.tar" "sha256:$(sha256sum <"$BASE/good.tar" | cut -c -64)"
status_is "a forged image that is right" 0 pull "oci:$BASE/bad:a"
forge "$BASE/good.tar" "sha256:$(printf wrong | sha256sum | cut -c -64)"
broken "a DiffID that is wrong" 65
forge "$BASE/good.tar" "../../escape"
broken "a DiffID that is none" 65
mkdir -p "$BASE/evil" && echo evil >"$BASE/evil/x"
tar -C "$BASE/evil" -P --transform 's,^\./x,../../../x,' -cf "$BASE/evil.tar" ./x
forge "$BASE/evil.tar" "sha256:$(sha256sum <"$BASE/evil.tar" | cut -c -64)"
broken "a layer that climbs out" 65
head -c 700 "$BASE/good.tar" >"$BASE/short.tar"
forge "$BASE/short.tar" "sha256:$(sha256sum <"$BASE/short.tar" | cut -c -64)"
broken "a layer that is cut off" 65
forge "$BASE/good.tar" "sha256:$(printf other | sha256sum | cut -c -64)"
damaged=$BASE/bad/blobs/sha256/$(sha256sum <"$BASE/good.tar" | cut -c -64)
printf X | dd of="$damaged" bs=1 seek=600 conv=notrunc status=none
broken "a blob that is not its digest" 65

# ---- run, with each runtime
long=$((100000 + $$))
running() { pgrep -fx "sleep $long" >/dev/null; }
for r in $RUNTIMES; do
    is "$r: user, environment, folder and command of the image" "$(with_runtime "$r" run "oci:$I:a" | tr '\n' ' ')" '1234 77 a "b" $c /work '
    is "$r: a command instead, with its arguments" "$(with_runtime "$r" run "$top" /bin/sh -c 'printf "<%s>" "$@"' x 'a b' '' '$c' -- '*')" '<a b><><$c><--><*>'
    is "$r: its exit code" "$(with_runtime "$r" run "$top" sh -c 'exit 7'; echo $?)" 7
    is "$r: its standard input" "$(echo hello | with_runtime "$r" run "$top" cat)" hello
    is "$r: it is process 1" "$(with_runtime "$r" run "$top" sh -c 'echo $$')" 1
    is "$r: /dev/null works" "$(with_runtime "$r" run "$top" sh -c 'echo x >/dev/null; cat /dev/null; echo ok')" ok
    is "$r: nothing of the host" "$(with_runtime "$r" run "$top" sh -c "[ ! -e $BASE ]; echo \$?")" 0
    clean "$r: nothing is left"
    with_runtime "$r" run --keep "kept-$r" "$top" sh -c 'echo new >new'
    is "$r: --keep" "$(names "$A")$(cat "$A/kept-$r/fs/work/new")" "kept-$r new"
    status_is "$r: a key that is taken" 73 run --keep "kept-$r" "$top" true
    is "$r: what it changed" "$(strata diff "kept-$r")" "A /work/new"
    rmdir "$A/kept-$r"
    become "$r" run "$top" sleep "$long" &
    pid=$!
    SPAWNS+=("$pid")
    ok "$r: it runs" wait_until 30 running
    kill -TERM "$pid" # timeout(1), which hands it on
    wait "$pid"
    is "$r: SIGTERM ends it" "$?" 143
    nok "$r: and what ran in it" running
    clean "$r: and nothing is left"
done
# Ctrl-C on a terminal; the rest of the line is what a shell there sees of it
is "Ctrl-C ends a run" "$({ wait_until 30 running; printf '\003'; } | STRATA_RUNTIME=unshare STRATA_MNT=$MNT TMPDIR=$BASE/tmp \
    limit script -qec "'$STRATA' run --keep cut $top sh -c 'echo x >cut; exec sleep $long'; echo status \$?" /dev/null |
    tr -d '\r' | grep -o 'status.*')" "status 130"
is "and what is to be kept is kept" "$(cat "$A/cut/fs/work/cut")" x
rmdir "$A/cut"
clean "and nothing else"
status_is "run of nothing" 66 run nosuch true
is "a runtime that is not there" "$(STRATA_RUNTIME=norun strata run "$top" true 2>/dev/null; echo $?)" 69

# ---- try
answer() { # ANSWERS ARG…: prints what it shows and asks
    printf '%b' "$1" | strata "${@:2}" 2>&1
}
touching='echo x >/tmp/tried; exit 5'
is "try: discard" "$(answer 'discard\n' try "$top" -- sh -c "$touching"; echo $?)" $'A /tmp/tried\ncommit NAME, keep KEY, or discard? 5'
is "try: the end of the input discards" "$(answer '' try "$top" -- sh -c "$touching" >/dev/null; echo $?)" 5
clean "try: nothing is left"
is "try: asks until it understands" "$(answer 'what\nkeep\nkeep a/b\ncommit '"$top"'\nkeep tried\n' try "$top" -- sh -c "$touching" | grep -o 'discard?' | wc -l)" 5
is "try: keep" "$(names "$A")" "tried "
rmdir "$A/tried"
answer 'commit tried\n' try "$top" -- sh -c "$touching" >/dev/null
is "try: commit" "$(field parent "$S/tried/info") $(cat "$S/tried/fs/tmp/tried")" "$top x"
like "try: the command is kept for the history" "$(cat "$S/tried/labels/oci.created_by")" "^'sh' '-c' 'echo x"
clean "try: nothing else is left"

# ---- diff
mkdir "$A/left@$top" "$A/right@$top"
L=$A/left/fs R=$A/right/fs
echo one >"$L/same" && cp -p "$L/same" "$R/same"
echo one >"$L/differs" && echo two >"$R/differs" && touch -d @1000 "$L/differs" "$R/differs"
echo one >"$L/only left" && echo two >"$R/only"$'\t'right
printf 'a' >"$L/q\"uote"
mkdir "$L/kind" && echo >"$R/kind"
chmod 700 "$R/etc"
rm "$R/etc/second"
ln -s a "$L/soft" && ln -s b "$R/soft"
echo >"$R/"$'red\e[31m' && echo >"$R/"$'c1\x9b31m' && echo >"$R/"$'two\nlines\n' && echo >"$R/é ü" && echo >"$R/"$'\xc2\x9b'
is "diff A: against the parent" "$(strata diff left)" "$(cat "$A/left/changes")"
is "diff A B" "$(strata diff left right)" 'A "/c1\23331m"
M /differs
M /etc
D /etc/second
M /kind
A "/only\tright"
D /only left
D "/q\"uote"
A "/red\033[31m"
M /soft
A "/two\nlines\n"
A "/\302\233"
A /é ü'
is "diff A B: names are as changes has them" "$(strata diff right | sed -n '/lines\|red\|ü\|233/p' | sort)" \
    "$(strata diff left right | sed -n '/lines\|red\|ü\|233/p' | sort)"
mkdir "$A/none" "$A/one"
echo >"$A/one/fs/x"
is "diff of nothing with something" "$(strata diff none one)" "A /x"
is "diff of something with nothing" "$(strata diff one none)" "D /x"
rmdir "$A/none" "$A/one"
mv "$A/left" "$S/left" && mkdir "$A/copy@left"
is "diff of equal ones: nothing" "$(strata diff left copy)" ''
echo three >"$A/copy/fs/same"
is "diff after a change" "$(strata diff left copy)" "M /same"
status_is "diff of nothing" 66 diff nosuch
status_is "diff with nothing" 66 diff left nosuch
rmdir "$A/copy" "$A/right"

# ---- tree, graph
is "tree: the mount's own, in a pipe" "$(strata tree)" "$(cat "$MNT/tree")"
on_terminal() { # INPUT ARG…
    printf '%b' "$1" | TERM=dumb TMPDIR=$BASE/tmp STRATA_MNT=$MNT limit script -qec "$(printf '%q ' "$STRATA" "${@:2}")" /dev/null
}
like "tree: in colour on a terminal" "$(on_terminal '' tree)" $'\e\\[1;34mleft\e\\[m'
like "diff: in colour on a terminal" "$(on_terminal '' diff tried)" $'\e\\[32mA /tmp/tried\e\\[m'
ok "graph" strata graph "$BASE/out.svg"
like "graph: a picture" "$(cat "$BASE/out.svg")" '<svg.*left.*</svg>'
ok "graph: of another kind" strata graph "$BASE/out.png"
like "graph: by its ending" "$(head -c 4 "$BASE/out.png" | tr -d '\211')" 'PNG'
status_is "graph: of no kind" 64 graph "$BASE/out.nosuch"
status_is "graph: nowhere" 73 graph "$BASE/nowhere/out.svg"

# ---- what labels say, and push
printf 'COLOR=red\nSIZE=x=y\n' >"$S/tried/labels/oci.env"
printf '/usr/bin/env\n' >"$S/tried/labels/oci.entrypoint"
printf 'team=blue\n' >"$S/tried/labels/oci.labels"
echo /tmp >"$S/tried/labels/oci.workdir"
echo 77:88 >"$S/tried/labels/oci.user"
echo "tried it" >"$S/tried/labels/oci.comment"
like "run: labels count" "$(STRATA_RUNTIME=runc strata run tried | sort | tr '\n' ' ')" '^COLOR=red .* SIZE=x=y '
is "run: labels tell the user and folder" "$(STRATA_RUNTIME=runc strata run tried sh -c 'id -u; id -g; echo $PWD' | tr '\n' ' ')" '77 88 /tmp '
status_is "push of nothing" 66 push nosuch "oci:$BASE/out:a"
status_is "push to where nobody answers" 69 push tried docker://127.0.0.1:1/x
is "push says nothing in a pipe" "$(strata push tried "oci:$BASE/out:a" 2>&1; echo $?)" 0
clean "push: nothing is left"
out() { jq -c "$1" "$BASE/out/blobs/sha256/$(out_config)"; }
out_config() { jq -r '.config.digest[7:]' "$BASE/out/blobs/sha256/$(jq -r '.manifests[0].digest[7:]' "$BASE/out/index.json")"; }
is "push: environment" "$(out '.config.Env | map(select(startswith("PATH") | not))')" '["COLOR=red","SIZE=x=y"]'
is "push: entrypoint, no command of before" "$(out '[.config.Entrypoint, .config.Cmd]')" '[["/usr/bin/env"],null]'
is "push: user, folder, labels" "$(out '[.config.User, .config.WorkingDir, .config.Labels]')" '["77:88","/tmp",{"team":"blue"}]'
is "push: history" "$(out '[.history | length, .[-1].comment]')" '[4,"tried it"]'
is "push: as many DiffIDs" "$(out '.rootfs.diff_ids | length')" 3
unpack "$BASE/out:a" "$BASE/unpacked2"
same_tree "push: the files" "$S/tried/fs" "$BASE/unpacked2/rootfs"
mkdir "$A/scratch" && echo x >"$A/scratch/fs/x" && mv "$A/scratch" "$S/scratch"
status_is "push of what was no image" 0 push scratch "oci:$BASE/scratch:a"
like "its configuration" "$(skopeo inspect --config "oci:$BASE/scratch:a" | jq -c '[.os, (.rootfs.diff_ids | length), .history[0].created_by]')" '\["linux",1,"strata"\]'

# ---- a configuration that is too large for one label
umoci config --image "$I:a" --tag big --config.label "text=$(head -c 100000 /dev/zero | tr '\0' x)" >/dev/null
status_is "an image with a large configuration" 0 pull "oci:$I:big"
is "the same layers, so the same snapshots" "$(strata images | grep -c "	$top$")" 2
is "in two labels" "$(t ls "$S/$top/labels" | grep -c '^oci\.config\..*\.0[01]$')" 3
ok "pushed again" strata push "oci:$I:big" "oci:$BASE/big:a"
is "whole" "$(skopeo inspect --config "oci:$BASE/big:a" | jq '.config.Labels.text | length')" 100000

# ---- names and gc
mkdir "$A/strata-web" # no process' number: a user's own
is "gc: nothing while names need it all" "$(strata gc -y </dev/null)" ''
strata images | cut -f 1 >"$BASE/named"
status_is "images -d of none" 66 images -d nosuch
while read -r name; do ok "images -d $name" strata images -d "$name"; done <"$BASE/named"
is "no names are left" "$(strata images)" ''
like "gc: an image that lost its name" "$(strata gc -y)" '^snapshots/sha256:[0-9a-f]{64}$'
rmdir "$S/left" "$S/tried"
before=$(names "$S")
like "gc: shows, and asks" "$(answer 'n\n' gc; echo $?)" "snapshots/$top.*remove these\? \[y/N\] 1\$"
is "gc: no means no" "$(names "$S")" "$before"
mkdir "$MNT/views/look@$top"
is "gc: a view needs it" "$(strata gc -y)" ''
rmdir "$MNT/views/look"
echo mine >"$S/$top/labels/mine"
is "gc: a label needs it" "$(strata gc -y)" ''
rm "$S/$top/labels/mine"
answer 'y\n' gc >"$BASE/gone"
is "gc: all others go" "$(grep -v '^remove' "$BASE/gone" | sort)" "$(printf '%s' "$before" | tr ' ' '\n' | sed -n 's,^sha256,snapshots/&,p' | sort)"
is "gc: topmost first" "$(grep -v '^remove' "$BASE/gone" | tail -n 1)" "snapshots/$first"
is "gc: what has a name of its own stays" "$(names "$S")" "scratch "
is "gc: nothing more" "$(strata gc -y; echo $?)" 0
ok "gc: what only looks like strata's own stays" rmdir "$A/strata-web"

# ---- signals amid a pull: a layer of many files takes a while
new_image "$I:many"
mkdir "$BASE/many"
(cd "$BASE/many" && seq -f 'file-with-a-name-%06g' 20000 | xargs touch)
add_layer "$I:many" "$BASE/many"
importing() { t ls "$A" | grep -q strata-; }
interrupted() { # SIGNAL AMID-WHAT ARG…
    # a shell's background starts deaf to SIGINT
    env --default-signal TMPDIR="$BASE/tmp" STRATA_MNT="$MNT" "$STRATA" "${@:3}" >"$OUT" 2>&1 &
    local pid=$!
    SPAWNS+=("$pid")
    wait_until 60 "$2" || diag "it does not come to $2"
    kill "-$1" "$pid"
    wait "$pid"
}
for signal in INT:130 TERM:143 HUP:129; do
    interrupted "${signal%:*}" importing pull "oci:$I:many"
    is "pull, SIG${signal%:*}: the exit code" "$?" "${signal#*:}"
    is "pull, SIG${signal%:*}: no half layer" "$(names "$S")" "scratch "
    clean "pull, SIG${signal%:*}: nothing is left"
done
interrupted KILL importing pull "oci:$I:many"
isnt "pull, SIGKILL: leaves what it was at" "$(names "$A")" ''
wait_until 60 eval '! pgrep -f "$A/strata-.*layer.tar" >/dev/null'
like "gc: removes that" "$(strata gc -y)" '^active/strata-[0-9]+-[0-9a-f]{8}$'
rm -rf "$BASE/tmp"/strata.*
clean "gc: nothing is left"
# a cp of layers that takes over a second, so that there is something to show
mkdir "$BASE/slow"
# shellcheck disable=SC2016
printf '#!/bin/bash\ncase $* in *layer.tar*) ;; *) exec /bin/cp "$@" ;; esac\nfrom=${*: -2:1}\nexec cat < <({ head -c 100000; sleep 1.5; cat; } <"$from") >"${*: -1}"\n' >"$BASE/slow/cp"
chmod +x "$BASE/slow/cp"
rate=', [0-9.]+[KM]/s'
PATH=$BASE/slow:$PATH on_terminal '' pull "oci:$I:many" >"$BASE/shown"
like "pull: speaks on a terminal" "$(cat "$BASE/shown")" 'Writing manifest'
like "pull: shows which layer, bytes of how many, and rate" "$(cat "$BASE/shown")" "layer 1 of 1: [0-9.]+K of [0-9.]+[KM]$rate"
is "pull: after all that" "$(strata images | wc -l)" 1
many=$(strata images | cut -f 3)
is "with all files" "$(t ls "$S/$many/fs" | wc -l)" 20000

# ---- a push on a terminal, and signals amid one: what the target lacks is exported
PATH=$BASE/slow:$PATH on_terminal '' push "oci:$I:many" "oci:$BASE/sent:a" >"$BASE/shown"
like "push: speaks on a terminal" "$(cat "$BASE/shown")" 'Writing manifest'
like "push: shows which layer, bytes and rate" "$(cat "$BASE/shown")" "layer 1 of 1: [0-9.]+K$rate"
before=$(state)
exporting() { [ -n "$(find "$BASE/tmp" -name 'layer.tar*' -size +0)" ]; }
for signal in INT:130 TERM:143 HUP:129; do
    interrupted "${signal%:*}" exporting push "oci:$I:many" "oci:$BASE/cut:a"
    is "push, SIG${signal%:*}: the exit code" "$?" "${signal#*:}"
    clean "push, SIG${signal%:*}: nothing is left"
    nok "push, SIG${signal%:*}: no image comes of it" skopeo inspect "oci:$BASE/cut:a"
done
is "and the snapshots are as they were" "$(state)" "$before"

# ---- completion
complete_words() { # WORD…: completes the last
    bash -c '. "$1" && complete -p strata >/dev/null || exit 1
        shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE=$*; COMP_POINT=${#COMP_LINE}
        _strata && printf "%s " "${COMPREPLY[@]}"' bash "${top_srcdir:-.}/tools/strata.bash-completion" "$@" 2>&1
}
is "completion: commands" "$(complete_words strata pu)" "pull push "
is "completion: options" "$(complete_words strata run --)" "--keep --net "
is "completion: names" "$(complete_words strata --store "$MNT" run scr)" "scratch "
t mkdir "$A/a blank" "$A/a\$(id)"
is "completion: names are quoted" "$(complete_words strata --store "$MNT" diff 'a')" 'a\ blank a\$\(id\) '
is "completion: what is quoted already" "$(complete_words strata --store "$MNT" diff 'a\ b')" 'a\ blank '
is "completion: within single quotes" "$(complete_words strata --store "$MNT" diff "'a")" 'a blank a$(id) '
is "completion: within double quotes" "$(complete_words strata --store "$MNT" diff '"a')" 'a blank '
t rmdir "$A"/a*
done_testing
