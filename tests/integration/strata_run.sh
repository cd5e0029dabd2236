#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# strata run and try with images that mean no good: what they say goes to the command alone, whatever runs it.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"
. "$(dirname "$0")/helpers/s_image.sh"
need skopeo umoci jq runc perl
new_mount
mkdir "$BASE/tmp"
cd "$BASE/tmp" || exit 1
A=$MNT/active S=$MNT/snapshots
export STRATA_RUNTIME=unshare

I=$BASE/image
new_image "$I:a"
programs "$BASE/root" dash cat id env mkfifo rm
add_layer "$I:a" "$BASE/root"
top=$(strata pull "oci:$I:a")
isnt "there is an image" "$top" ''

# A snapshot NAME of that image, with the configuration that jq's FILTER makes
configure() { # NAME FILTER
    t mkdir "$A/$1@$top"
    jq -nc "{config: {}} | $2" >"$A/$1/labels/oci.config.$(printf %s "$1" | sha256sum | cut -c -64).00"
    t mv "$A/$1" "$S/$1"
}

# ---- variables
configure root '.config.Env = ["fs=/"]'
configure shell '.config.Env = ["fs=/", "user=app", "cwd=/nowhere", "env=/nowhere", "dir=x", "dev=x", "isolated=x", "net=x",
    "IFS=0", "PS4=$(touch /x)", "ENV=/x", "BASH_ENV=/x", "PPID=x", "PERL5OPT=-Mnosuch", "PERL5LIB=/x"]'
configure options '.config.Env = ["OPTIND=x"]'
configure loader ".config.Env = [\"LD_PRELOAD=$BASE/none.so\", \"LD_LIBRARY_PATH=$BASE\", \"LD_DEBUG=help\", \"GCONV_PATH=$BASE\"]"
configure path '.config.Env = ["PATH=/app"]'
configure odd '.config.Env = ["TWO=a\nb\n\nc'"'"'\"$(x)`\\\n", "dotted.name-x=1", "EMPTY=", "MANY=a=b=", "BYTES=é\u0001"]'
owned=/tmp/${BASE##*/}.owned
# what the image's own loader says of a variable for it is no matter here
printed() { with_runtime "$1" run "$2" "${@:3}" 2>/dev/null; }
for r in $RUNTIMES; do
    with_runtime "$r" run --keep inside root /bin/sh -c "echo owned >$owned" >"$OUT" 2>&1
    is "$r: a variable of the runtime's own: the exit code" "$?" 0 || diag "$(cat "$OUT")"
    is "$r: the command was in the snapshot" "$(t cat "$A/inside/changes")$(cat "$A/inside/fs/$owned")" "A ${owned}owned"
    nok "$r: and not on the host" test -e "$owned"
    rm -f "$owned"
    t rmdir "$A/inside"
    like "$r: it has such variables" "$(printed "$r" shell /bin/env | sort | tr '\n' ' ')" \
        '^BASH_ENV=/x ENV=/x .*IFS=0 PATH=[^ ]* PERL5LIB=/x PERL5OPT=-Mnosuch PPID=x PS4=.* cwd=/nowhere dev=x .* fs=/ .* user=app '
    is "$r: one that no shell takes" "$(printed "$r" options /bin/env | grep OPTIND)" OPTIND=x
    is "$r: variables for the loader: programs of the host don't see them" \
        "$(with_runtime "$r" run loader /bin/nosuch 2>&1 | grep -v '/bin/nosuch\|did not start')" ''
    is "$r: a PATH of the image's" "$(printed "$r" path /bin/sh -c 'echo $PATH')" /app
    is "$r: is that by which the command is looked for" "$(printed "$r" path env; echo $?)" 71
    is "$r: values of several lines and of all bytes, and odd names" "$(printed "$r" odd /bin/env | grep -v '^PATH=\|^HOME=' | sort | sha256sum)" \
        "$(printf '%s\n' $'TWO=a\nb\n\nc\'"$(x)`\\\n' dotted.name-x=1 EMPTY= MANY=a=b= $'BYTES=é\001' | sort | sha256sum)"
done
is "without an env(1) and a shell in it" "$(t mkdir "$A/bare@$top" && rm "$A/bare/fs/bin/env" "$A/bare/fs/bin/sh" && t mv "$A/bare" "$S/bare" &&
    printf 'A=b\n' >"$S/bare/labels/oci.env" && printed unshare bare cat /proc/self/environ | tr '\0' '\n' | grep A=)" A=b

# ---- folders
for dir in . ..; do
    configure "in-$dir" ".config.WorkingDir = \"$dir\""
done
for r in $RUNTIMES; do
    for dir in . ..; do
        status=0
        with_runtime "$r" run --keep inside "in-$dir" sh -c 'pwd; echo x >written' >"$OUT" 2>&1 || status=$?
        is "$r: a working folder $dir is below the root" "$status $(cat "$OUT" "$A/inside/fs/written")" $'0 /\nx'
        t rmdir "$A/inside"
    done
    is "$r: nothing is written where strata was called" "$(find "$BASE" -maxdepth 2 -name written)" ''
done
t mkdir "$A/x@$top" && mkdir "$A/x/fs/x" && mv "$A/x" "$S/x" && echo x >"$S/x/labels/oci.workdir"
for r in $RUNTIMES; do
    is "$r: one without a / in front" "$(with_runtime "$r" run x sh -c pwd 2>&1)" /x
done

# ---- users
n=0
for user in 4294967296 0:4294967296 2147483648 99999999999999999999:0 1:2:3 nobody -1 vast; do
    n=$((n + 1))
    t mkdir "$A/user$n@$top" && echo vast:x:4294967296:0::/: >"$A/user$n/fs/etc/passwd" && mv "$A/user$n" "$S/user$n"
    echo "$user" >"$S/user$n/labels/oci.user"
    status_is "the user $user is none" 65 run "user$n" id -u
    like "and that is said" "$(cat "$OUT")" "^strata: the image's user is (unknown in it|no number below 2147483648): "
done
echo 2147483647:2147483647 >"$S/user1/labels/oci.user"
for r in $RUNTIMES; do
    is "$r: the last user there is" "$(with_runtime "$r" run user1 sh -c 'id -u; id -g' 2>&1 | xargs)" '2147483647 2147483647'
done

clean "nothing is left"
done_testing
