#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# stratafs --upgrade: a running mount goes on under the program that is now installed, and is left alone by one that can't go on.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/helpers/b_common.sh"

program=$STRATAFS
new_base
mkdir "$BASE/bin"
STRATAFS=$BASE/bin/stratafs
cp "$program" "$STRATAFS"
start_program
if [ "$(worker)" = "$PID" ]; then
    echo "1..0 # SKIP no keeper here (an option, or Linux before 6.9)"
    stop_program
    exit 0
fi

# install FILE: puts it in the place of the program, as a package manager does
install_program() {
    cp "$1" "$STRATAFS.new"
    chmod 0755 "$STRATAFS.new"
    mv "$STRATAFS.new" "$STRATAFS"
}

program_of() { stat -L -c %i "/proc/$1/exe"; }

snapshot base
prepare work base
fill "$MNT/active/work/fs"
before=$(state)
exec {file}>>"$MNT/active/work/fs/open"
exec {label}>"$MNT/active/work/labels/l"
echo one >&"$file"
echo one >&"$label"
mounts=$(overlays) old=$(worker) inode=$(program_of "$PID")
install_program "$program"
ok "the upgrade" "$program" --upgrade "$MNT"
like "says who serves now" "$(cat "$OUT")" "served by $STRATAFS now"
ok "the keeper has the same process number" kill -0 "$PID"
isnt "but runs the new program" "$(program_of "$PID")" "$inode"
is "which is the installed one" "$(program_of "$PID")" "$(stat -c %i "$STRATAFS")"
isnt "another worker serves" "$(worker)" "$old"
is "by the new program too" "$(program_of "$(worker)")" "$(stat -c %i "$STRATAFS")"
is "no mount was touched" "$(overlays)" "$mounts"
echo two >&"$file"
echo two >&"$label"
exec {file}>&- {label}>&-
is "a file open below fs/ goes on" "$(t cat "$MNT/active/work/fs/open")" $'one\ntwo'
is "so does an open label" "$(t cat "$MNT/active/work/labels/l")" $'one\ntwo'
rm "$MNT/active/work/fs/open" "$MNT/active/work/labels/l"
is "entries are the same" "$(state | grep -v '^updated:')" "$(grep -v '^updated:' <<<"$before")"
ok "a worker that is killed now is replaced" kill_worker
works "and the mount goes on" rename "$MNT/active/work" "$MNT/snapshots/work"
ok "a second upgrade" "$program" --upgrade "$MNT"

# ---- refused --------------------------------------------------------------

# refused DESC: says so, and nothing was stopped
refused() {
    local serving keeper
    serving=$(worker) keeper=$(program_of "$PID")
    nok "$1: refused" "$program" --upgrade "$MNT"
    like "$1: with the reason" "$(cat "$OUT")" "$2"
    is "$1: the worker is the same" "$(worker)" "$serving"
    kill -USR2 "$PID" # the keeper asks for itself
    sleep 0.5
    is "$1: even if the keeper is told to" "$(worker)" "$serving"
    is "$1: the keeper is the same" "$(program_of "$PID")" "$keeper"
    is "$1: the mount answers" "$(t cat "$MNT/snapshots/base/fs/f")" base
}

printf '#!/bin/sh\nexit 1\n' >"$BASE/other"
install_program "$BASE/other"
refused "a program that does not know how" "nothing was stopped"
rm "$STRATAFS"
refused "no program at all" "nothing was stopped"
install_program "$program"
cp "$STORE/format" "$BASE/format"
echo "stratafs store 0" >"$STORE/format"
refused "a store of another format" "format"
cp "$BASE/format" "$STORE/format"
ok "after that it works" "$program" --upgrade "$MNT"
sed -i 's/^keeper .*/keeper 0.1/' "$STORE/lock" # as a keeper with another memory has it there
refused_here() {
    local serving
    serving=$(worker)
    nok "$1" "$program" --upgrade "$MNT"
    like "$1: with the reason" "$(cat "$OUT")" "nothing was stopped"
    is "$1: the worker is the same" "$(worker)" "$serving"
}
refused_here "a keeper whose memory the installed program does not know"
restart
nok "an incompatible memory" "$program" --probe 0.1 "$STORE"
nok "what is no stratafs" "$program" --upgrade /proc
nok "what is not there" "$program" --upgrade "$BASE/nothing"
ok "the end is in order" stop_program
is "with no word but on the format" "$(grep -v 'does not know the format' "$ERRORS")" ""

# ---- odd paths: what the kernel escapes in its tables, and more

new_base
MNT=$BASE/$(printf 'm #1\n\134043') STORE=$BASE/a#b\'c
mkdir "$MNT"
start_program
old=$(worker)
ok "odd paths: the upgrade" "$program" --upgrade "$MNT"
isnt "odd paths: another worker serves" "$(worker)" "$old"
ln -s "$MNT" "$BASE/link"
ok "odd paths: one of a link" "$program" --upgrade "$BASE/link/."
ok "odd paths: the end is in order" stop_program

# ---- the arguments --------------------------------------------------------

# A store that looks like an option, and relative paths
new_base
printf '#!/bin/bash\ncd "%s" && exec "%s" "${@:3}" -- -f mnt\n' "$BASE" "$STRATAFS" >"$BASE/start"
chmod 0755 "$BASE/start"
installed=$STRATAFS
STRATAFS=$BASE/start STORE=$BASE/-f
start_program allow_other
STRATAFS=$installed
prepare work
for what in first second; do
    old=$(worker)
    ok "after --: the $what upgrade" "$program" --upgrade "$MNT"
    isnt "after --: another worker serves, $what" "$(worker)" "$old"
    ok "after --: $what: one that is killed is replaced" kill_worker
    works "after --: $what: the mount goes on" rewrite "$MNT/active/work/fs/file" text
done
like "after --: the store stays where it was" "$(tr '\0' ' ' <"/proc/$PID/cmdline")" " -- $BASE/-f $BASE/mnt \$"
ok "after --: the end is in order" stop_program
is "after --: with no word" "$(cat "$ERRORS")" ""

new_base
start_program expire=77
snapshot base
printf '#!/bin/bash\ncase $* in *expire=77*) exit 2 ;; esac\nexec "%s" "$@"\n' "$program" >"$BASE/other"
install_program "$BASE/other"
refused "a program that does not take an argument" "nothing was stopped"
install_program "$program"
layout=$(sed -n 's/^keeper //p' "$STORE/lock")
ok "the program takes its own" "$program" --probe "$layout" "$STORE" "$STORE" "$MNT" -f -o expire=77
nok "but not all" "$program" --probe "$layout" "$STORE" "$STORE" "$MNT" -f -o nosuchoption
like "which it names" "$(cat "$OUT")" nosuchoption
nok "nor one place" "$program" --probe "$layout" "$STORE" "$STORE"
nok "nor what is no start" "$program" --probe "$layout" "$STORE" -V
stop_program

new_base
start_program keeper=off
snapshot base
nok "without a keeper" "$program" --upgrade "$MNT"
like "it says so" "$(cat "$OUT")" "no keeper"
is "and goes on" "$(t cat "$MNT/snapshots/base/fs/f")" base
done_testing
