#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The shell front end beside others: several at once, of the same number, and a gc or a user amid what it does.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"
. "$(dirname "$0")/helpers/s_image.sh"
need skopeo umoci jq
new_mount
mkdir "$BASE/tmp" "$BASE/bin"
cd / || exit 1
S=$MNT/snapshots A=$MNT/active V=$MNT/views
export STRATA_RUNTIME=unshare

# said by the last command of status_is
said() { like "$1" "$(cat "$OUT")" "$2"; }
# A program in front of one in PATH, for with_bin; $REAL in it is the other one
wrap() { # NAME SCRIPT
    printf '#!/bin/bash\nREAL=%q\n%s\n' "$(command -v "$1")" "$2" >"$BASE/bin/$1"
    chmod +x "$BASE/bin/$1"
}
unwrap() { rm -f "$BASE/bin/$1"; }
with_bin() { PATH=$BASE/bin:$PATH "$@"; }

I=$BASE/image
new_image "$I:base"
programs "$BASE/root" dash ls cat sleep rm
add_layer "$I:base" "$BASE/root"
top=$(strata pull "oci:$I:base")
isnt "there is an image" "$top" ''

# ---- another strata of the same number, as process 1 of two containers
cp -a "$I" "$BASE/more"
mkdir "$BASE/second" && echo second >"$BASE/second/second"
add_layer "$BASE/more:base" "$BASE/second"
# status_is, after FOLDER/strata-PID and what else is made on the image for the process that will be strata
as_twin() { # DESC STATUS 'NAME…' ARG…
    local status=0
    # shellcheck disable=SC2016
    TMPDIR=$BASE/tmp STRATA_MNT=$MNT limit sh -c 'for name in $1; do mkdir "$2/${name%%/*}/strata-$$${name#*/}@$3" || exit 99; done
        strata=$4; shift 4; exec "$strata" "$@"' sh "$3" "$MNT" "$top" "$STRATA" "${@:4}" >"$OUT" 2>&1 </dev/null || status=$?
    is "$1" "$status" "$2" || diag "$(tail -n 5 "$OUT")"
}
theirs() { t ls "$A" "$V" | grep -c '^strata-'; }
as_twin "run beside one of the same number" 0 'active/' run "$top" ls
is "the other's snapshot stays" "$(theirs)" 1
t rmdir "$A"/strata-*
as_twin "pull beside one of the same number" 0 'active/ views/-hold' pull "oci:$BASE/more:base"
is "the other's snapshot and view stay" "$(theirs)" 2
t rmdir "$A"/strata-* "$V"/strata-*
# a name that is taken all the same
wrap od 'echo c0ffee00'
with_bin as_twin "run, with no name to be had" 71 'active/-c0ffee00' run "$top" ls
said "it says so" 'File exists'
is "who has it keeps it" "$(theirs)" 1
t rmdir "$A"/strata-*
# shellcheck disable=SC2016
wrap od 'mkdir "${0%/*}/twice" 2>/dev/null && echo c0ffee00 || exec "$REAL" "$@"'
with_bin as_twin "run, with another name at the second try" 0 'active/-c0ffee00' run "$top" ls
is "who has the first keeps it" "$(theirs)" 1
t rmdir "$A"/strata-*
unwrap od

# ---- what gc takes for its own
for name in strata-99999999 strata-99999999-c0ffee00 strata-1-hold; do
    status_is "run --keep $name" 64 run --keep "$name" "$top" ls
done
said "it says why" 'strata-1-hold.*gc'
clean "nothing was begun"
is "try: keep such a name" "$(printf 'keep strata-99999999\nkeep mine\n' | strata try "$top" -- ls 2>&1 | grep -o 'of strata itself')" 'of strata itself'
is "it asks again" "$(t ls "$A")" mine
t rmdir "$A/mine"
t mkdir "$A/strata-999999999" "$A/strata-999999999-c0ffee00" "$V/strata-999999999-hold@$top" "$A/strata-$$-c0ffee00" "$A/strata-999999999-web"
is "gc: what killed ones left, of all forms" "$(strata gc -y | sort | tr '\n' ' ')" \
    "active/strata-999999999 active/strata-999999999-c0ffee00 views/strata-999999999-hold "
is "gc: all else stays" "$(t ls "$A" | sort | tr '\n' ' ')" "$(printf '%s\n' strata-999999999-web "strata-$$-c0ffee00" | sort | tr '\n' ' ')"
t rmdir "$A"/strata-*

# ---- a gc between any two steps of a pull
cp -a "$BASE/more" "$BASE/tall"
mkdir "$BASE/third" && echo third >"$BASE/third/third"
add_layer "$BASE/tall:base" "$BASE/third"
strata images -d "oci:$BASE/more:base"
strata gc -y >/dev/null
is "one layer is there" "$(t ls "$S")" "$top"
# what moves, makes or removes something has a gc before and behind it
for tool in mv mkdir rmdir rm; do
    # shellcheck disable=SC2016
    wrap "$tool" "gc() { PATH=\${PATH#*:} STRATA_MNT='$MNT' TMPDIR='$BASE' '$STRATA' gc -y; } >>'$BASE/gc' 2>&1 </dev/null"'
        gc; "$REAL" "$@"; status=$?; gc; exit "$status"'
done
: >"$BASE/gc"
status=0
with_bin strata pull "oci:$BASE/tall:base" >"$OUT" 2>&1 || status=$?
is "a gc at each step of a pull" "$status" 0 || diag "$(cat "$OUT")"
is "it removed nothing" "$(cat "$BASE/gc")" ''
tall=$(strata images | awk -F '\t' '$1 ~ /tall/ { print $3 }')
is "the image is whole" "$(field depth "$S/$tall/info") $(cat "$S/$tall/fs/second" "$S/$tall/fs/third" | xargs)" "3 second third"
is "no view is left" "$(t ls "$V")" ''
is "no label of it is left" "$(find "$S"/*/labels -name 'oci.hold.*')" ''
for tool in mv mkdir rmdir rm; do unwrap "$tool"; done
strata images -d "oci:$BASE/tall:base"
strata gc -y >/dev/null
# killed where nothing but the label holds a layer
# shellcheck disable=SC2016
wrap mv '"$REAL" "$@"; case $* in */snapshots/*) kill -KILL "$PPID" ;; esac'
with_bin strata pull "oci:$BASE/tall:base" >"$OUT" 2>&1
unwrap mv
isnt "a pull that is killed behind a commit" "$(find "$S"/*/labels -name 'oci.hold.*')" ''
like "gc removes that" "$(strata gc -y)" '^views/strata-.*
snapshots/sha256:[0-9a-f]*$'
rm -rf "$BASE/tmp"/strata.*

# ---- an image that has a layer twice, of which the lower is there
tar -C "$BASE/third" -cf "$BASE/third.tar" .
new_image "$BASE/twice:base"
limit umoci raw add-layer --image "$BASE/twice:base" "$BASE/third.tar"
status_is "an image of one layer" 0 pull "oci:$BASE/twice:base"
add_layer "$BASE/twice:base" "$BASE/second"
limit umoci raw add-layer --image "$BASE/twice:base" "$BASE/third.tar"
status_is "an image whose first and last layer are the same" 0 pull "oci:$BASE/twice:base"
twice=$(tail -n 1 "$OUT")
is "all layers are there" "$(skopeo inspect "oci:$BASE/twice:base" | jq -c '[.Layers[0] == .Layers[2], (.Layers | length)]') $(field depth "$S/$twice/info")" "[true,3] 3"
add_layer "$BASE/twice:base" "$BASE/second"
status_is "one on top, with both there" 0 pull "oci:$BASE/twice:base"

# ---- what is needed only since gc has listed it
strata images | cut -f 1 | while read -r name; do strata images -d "$name"; done
strata gc -y >/dev/null
is "nothing is there" "$(t ls "$S")" ''
listed() { grep -q . "$BASE/listed"; }
# gc, with CMD… done while it asks; sets status
meanwhile() { # CMD…
    : >"$BASE/listed"
    mkfifo "$BASE/answer"
    TMPDIR=$BASE/tmp STRATA_MNT=$MNT limit "$STRATA" gc <"$BASE/answer" >"$BASE/listed" 2>/dev/null &
    local pid=$!
    exec 7>"$BASE/answer"
    wait_until 30 listed || diag "gc lists nothing"
    "$@" || diag "$* failed"
    echo y >&7
    exec 7>&-
    wait "$pid"
    status=$?
    rm -f "$BASE/answer"
}
again() { strata pull "oci:$BASE/tall:base" >/dev/null; }
again
strata images -d "oci:$BASE/tall:base"
meanwhile again
is "gc: an image pulled while it asks stays" "$status $(t ls "$S" | wc -l) $(strata images | wc -l)" "0 3 1"
strata images -d "oci:$BASE/tall:base"
meanwhile eval 'echo mine >"$S/$top/labels/mine"'
is "gc: one labelled meanwhile stays, and no more" "$status $(t ls "$S")" "0 $top"
rm -f "$S/$top/labels/mine"
again
strata images -d "oci:$BASE/tall:base"
meanwhile mv "$S/$tall" "$S/named"
is "gc: one named meanwhile stays" "$status $(t ls "$S" | wc -l) $(t ls "$S" | grep named)" "0 3 named"
mv "$S/named" "$S/$tall"
# a label just before the first is removed
# shellcheck disable=SC2016
wrap rmdir '[ -e "${0%/*}/once" ] || echo mine >"'"$S/$top"'/labels/mine"; : >"${0%/*}/once"; exec "$REAL" "$@"'
is "gc: one labelled while it removes stays" "$(with_bin strata gc -y >/dev/null; echo $?) $(t ls "$S")" "0 $top"
unwrap rmdir
rm -f "$S/$top/labels/mine"

# ---- diff of what was changed at the same time
t mkdir "$A/base"
seq 300 | while read -r n; do echo 000 >"$A/base/fs/f$n"; done
echo 000 >"$A/base/fs/"$'new\nline' && echo 000 >"$A/base/fs/un touched" && echo 000 >"$A/base/fs/"$'\ttab"' && mknod "$A/base/fs/device" c 1 3
mv "$A/base" "$S/base"
t mkdir "$A/x@base" "$A/y@base"
# both within a tick of the kernel's clock, mostly: no time in between
both() {
    local name
    for name in "$A"/x/fs/f* "$A/x/fs/"$'new\nline' "$A/x/fs/"$'\ttab"'; do
        exec 7<>"$name" 8<>"$A/y/fs/${name##*/}"
        printf 'one\n' >&7
        printf 'two\n' >&8
    done
    exec 7>&- 8>&-
}
both
alike() { find "$A/$1/fs" -name 'f*' -printf '%P %i %C@ %T@ %s\n' | sort; }
diag "$(comm -12 <(alike x) <(alike y) | wc -l) of 300 look like one file"
touch -d @1000 "$A/x/fs/f2" "$A/y/fs/f2"
strata diff x y >"$BASE/differs"
is "diff: all that differs" "$(grep -c '^M /f[0-9]*$' "$BASE/differs") $(grep -v 'M /f' "$BASE/differs" | xargs -d '\n')" '300 M "/\ttab\"" M "/new\nline"'
is "diff: of what was copied up and is equal, nothing" "$(cp "$A/x/fs/f1" "$A/y/fs/f1"; touch -r "$A/x/fs/f1" "$A/y/fs/f1"; strata diff x y | grep -c '/f1$')" 0
wrap cmp "echo \"\$*\" >>'$BASE/compared'; exec \"\$REAL\" \"\$@\""
with_bin strata diff x y >/dev/null
is "diff: what is in a layer of both is not read" "$(grep -c '/f2$' "$BASE/compared") $(grep -c touched "$BASE/compared")" '1 0'
unwrap cmp
mknod "$BASE/device" c 1 5
rm "$A/x/fs/device" "$A/y/fs/device" && cp -a "$S/base/fs/device" "$A/x/fs/" && cp -a "$BASE/device" "$A/y/fs/device" &&
    touch -d @1000 "$A/x/fs/device" "$A/y/fs/device"
is "diff: another device" "$(strata diff x y | grep device)" 'M /device'
rm "$A/y/fs/device" && cp -a "$A/x/fs/device" "$A/y/fs/device"
is "diff: the same device" "$(strata diff x y | grep device)" ''
t rmdir "$A/x" "$A/y" "$S/base"

# ---- an output that nobody reads, a full one, one that is closed; an input that is closed
# prints the status of CMD…, whose output is a pipe without a reader
unread() { # ARG…
    (sleep 0.5; TMPDIR=$BASE/tmp STRATA_MNT=$MNT limit env --default-signal "$STRATA" "$@" 2>/dev/null; echo $? >"$BASE/status") | :
    cat "$BASE/status"
}
is "pull for nobody who reads" "$(unread pull "oci:$BASE/tall:base")" 141
clean "pull for nobody who reads: nothing is left"
is "pull for nobody who reads: no view is" "$(t ls "$V")" ''
rm -rf "$BASE/tmp"/strata.*
strata pull "oci:$BASE/tall:base" >/dev/full 2>"$OUT"
is "pull to a full disk" $? 74
said "it says so" 'name could not be written: sha256:'
strata pull "oci:$BASE/tall:base" >&- 2>"$OUT"
is "pull with no output" $? 74
is "run with no input" "$(strata run "$tall" cat <&- 2>&1; echo $?)" 0
clean "they leave nothing"

# ---- SIGQUIT, as of Ctrl-\ on a terminal
long=$((100000 + $$))
running() { pgrep -fx "sleep $long" >/dev/null; }
TMPDIR=$BASE/tmp STRATA_MNT=$MNT env --default-signal "$STRATA" run "$tall" sleep "$long" >"$OUT" 2>&1 &
pid=$!
SPAWNS+=("$pid")
ok "a command runs" wait_until 30 running
kill -QUIT "$pid"
wait "$pid" 2>/dev/null
is "SIGQUIT ends it" $? 131
nok "and what ran in it" running
clean "and nothing is left"

clean "nothing is left at the end"
done_testing
