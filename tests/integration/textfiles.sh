#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The text files of the control tree: what stands in them, and the sizes that stat shows.
. "$(dirname "$0")/lib.sh"
new_mount
cd / || exit 1
A=$MNT/active V=$MNT/views S=$MNT/snapshots
STAMP='[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z'

mkdir "$A/one"
fill "$A/one/fs"
mv "$A/one" "$S/one"
mkdir "$A/two@one"
head -c 50000 /dev/urandom >"$A/two/fs/random"
rm "$A/two/fs/hard"
mv "$A/two" "$S/two"
mkdir "$A/three@two" "$A/alone" "$V/look@two" "$V/void"
echo three >"$A/three/fs/three"
echo v >"$A/three/labels/k"

# ---- info
keys() { sed 's/:.*//' "$1" | tr '\n' ' '; }
is "info of an active snapshot has its keys in order" "$(keys "$A/three/info")" "kind name parent id depth created updated "
is "info of an active base has the same" "$(keys "$A/alone/info")" "kind name parent id depth created updated "
is "info of a view has the same" "$(keys "$V/look/info")" "kind name parent id depth created updated "
is "info of a snapshot has more" "$(keys "$S/two/info")" \
    "kind name parent id depth created updated committed size inodes "
is "every line is key: value" "$(cat "$A"/*/info "$V"/*/info "$S"/*/info | grep -cvE '^[a-z]+:( .*)?$')" 0
is "kinds" "$(field kind "$A/three/info") $(field kind "$V/look/info") $(field kind "$S/two/info")" "active view committed"
is "name" "$(field name "$A/three/info")" three
is "parent" "$(field parent "$A/three/info")" two
is "parent is empty for a base" "$(field parent "$A/alone/info")$(field parent "$V/void/info")$(field parent "$S/one/info")" ""
is "depth" "$(for e in "$S/one" "$S/two" "$A/three" "$V/look" "$A/alone"; do field depth "$e/info"; done | tr '\n' ' ')" "1 2 3 3 1 "
is "no two entries share an id" "$(for e in "$A"/* "$V"/* "$S"/*; do field id "$e/info"; done | sort -n | uniq -c | awk '$1 == 1 && $2 ~ /^[0-9]+$/' | wc -l)" 6
for key in created updated committed; do
    like "$key is RFC 3339 in UTC with nanoseconds" "$(field $key "$S/two/info")" "^$STAMP$"
done
NOW=$(date -u +%s)
ok "created is now" test $((NOW - $(date -d "$(field created "$S/two/info")" +%s))) -lt 600 -a $((NOW - $(date -d "$(field created "$S/two/info")" +%s))) -ge 0
ok "created is not after committed" sh -c "! [ '$(field created "$S/two/info")' '>' '$(field committed "$S/two/info")' ]"
like "size is a number" "$(field size "$S/two/info")" '^[0-9]+$'
like "inodes is a number" "$(field inodes "$S/two/info")" '^[0-9]+$'

# ---- parent, children
is "parent of a child" "$(readlink "$A/three/parent")" "../../snapshots/two"
is "parent of a view" "$(readlink "$V/look/parent")" "../../snapshots/two"
fails "a base has no parent" ENOENT lstat "$S/one/parent"
is "children are paths relative to the mount" "$(sort "$S/two/children")" "active/three"$'\n'"views/look"
is "a committed child" "$(cat "$S/one/children")" "snapshots/two"
ok "each child's path leads to it" sh -c "cd '$MNT' && xargs -d '\n' stat <'$S/two/children'"
fails "an active snapshot has no children file" ENOENT stat "$A/three/children"
fails "a view has no children file" ENOENT stat "$V/look/children"
rmdir "$V/look"
is "a view that is released is no child" "$(cat "$S/two/children")" "active/three"
mkdir "$V/look@two"

# ---- mount, mount.json
mkdir "$BASE/target"
is "mount of an active snapshot" "$(cat "$A/three/mount")" "-o rbind,rw $A/three/fs"
is "mount of a snapshot" "$(cat "$S/two/mount")" "-o rbind,ro $S/two/fs"
is "mount of a view" "$(cat "$V/look/mount")" "-o rbind,ro $V/look/fs"
is "mount is one line" "$(wc -l <"$A/three/mount")" 1
# shellcheck disable=SC2046 # the words of the line are the arguments
ok "mount \$(cat mount) works" mount $(cat "$A/three/mount") "$BASE/target"
is "it shows the files" "$(cat "$BASE/target/three")" three
ok "it can be written" sh -c "echo more >'$BASE/target/more'"
is "which fs/ shows" "$(cat "$A/three/fs/more")" more
umount "$BASE/target"
# shellcheck disable=SC2046
ok "mount \$(cat mount) of a snapshot works" mount $(cat "$S/one/mount") "$BASE/target"
is "it shows the files" "$(digest "$BASE/target")" "$(digest "$S/one/fs")"
fails "it is read-only" EROFS create "$BASE/target/x"
umount "$BASE/target"
for e in "$A/three rw" "$A/alone rw" "$S/one ro" "$S/two ro" "$V/look ro" "$V/void ro"; do
    ok "mount.json of ${e#"$MNT"/}" jq -e --arg source "${e% *}/fs" --arg mode "${e##* }" \
        '. == [{"type": "bind", "source": $source, "options": ["rbind", $mode]}]' "${e% *}/mount.json"
done

# ---- overlay
layer() { printf '%s/layers/%s/fs' "$STORE" "$(field id "$1/info")"; }
option() { tr ',' '\n' <"$2" | sed -n "s/^$1=//p"; }
is "overlay is one line" "$(wc -l <"$A/three/overlay")" 1
is "lowerdir of an active snapshot, topmost first" "$(option lowerdir "$A/three/overlay")" "$(layer "$S/two"):$(layer "$S/one")"
is "upperdir" "$(option upperdir "$A/three/overlay")" "$(layer "$A/three")"
is "workdir" "$(option workdir "$A/three/overlay")" "$STORE/layers/$(field id "$A/three/info")/work"
is "lowerdir of an active base is the empty directory" "$(option lowerdir "$A/alone/overlay")" "$STORE/empty"
is "lowerdir of a snapshot" "$(option lowerdir "$S/two/overlay")" "$(layer "$S/two"):$(layer "$S/one")"
is "lowerdir of a base snapshot" "$(option lowerdir "$S/one/overlay")" "$(layer "$S/one"):$STORE/empty"
is "lowerdir of a view" "$(option lowerdir "$V/look/overlay")" "$(layer "$S/two"):$(layer "$S/one")"
is "only active snapshots have an upperdir" "$(cat "$S"/*/overlay "$V"/*/overlay | grep -cE 'upperdir|workdir')" 0
OVERLAYS=() DIGESTS=()
for e in "$A/three" "$A/alone" "$S/one" "$S/two" "$V/look" "$V/void"; do
    OVERLAYS+=("$(cat "$e/overlay")")
    DIGESTS+=("$(digest "$e/fs")")
done
stop_program
for i in "${!OVERLAYS[@]}"; do
    ok "with the program stopped, mount -t overlay works" mount -t overlay -o "${OVERLAYS[i]}" by-hand "$BASE/target" ||
        continue
    is "and shows the same files" "$(digest "$BASE/target")" "${DIGESTS[i]}"
    umount "$BASE/target"
done
start_program
is "the program goes on afterwards" "$(cat "$A/three/fs/more")" more

# ---- usage
disk() { printf '%s %s' "$(du -s -B1 "$(layer "$1")" | cut -f1)" "$(du -s --inodes "$(layer "$1")" | cut -f1)"; }
for e in "$S/one" "$S/two" "$A/three" "$A/alone"; do
    is "usage of ${e#"$MNT"/} is what du says of its layer" "$(cat "$e/usage")" "$(disk "$e")"
done
head -c 300000 /dev/urandom >"$A/three/fs/big"
sync "$A/three/fs/big"
is "usage of an active snapshot is as of now" "$(cat "$A/three/usage")" "$(disk "$A/three")"
is "a view of its own holds nothing" "$(cut -d' ' -f1 "$V/look/usage")" 0
is "inodes of info are those of usage" "$(field inodes "$S/two/info")" "$(cut -d' ' -f2 "$S/two/usage")"

# ---- tree, graph.dot
indent() { grep -E "(^|[^a-z])$1([^a-z]|\$)" "$MNT/tree" | head -n 1 | sed 's/[a-z].*//' | wc -m; }
for name in one two three alone look void; do
    is "tree has one line for $name" "$(grep -cE "(^|[^a-z])$name([^a-z]|\$)" "$MNT/tree")" 1
    like "graph.dot has $name" "$(cat "$MNT/graph.dot")" "\"[^\"]*${name}[^\"]*\""
done
ok "tree indents a child" test "$(indent two)" -gt "$(indent one)"
ok "and a grandchild more" test "$(indent three)" -gt "$(indent two)"
is "siblings alike" "$(indent look)" "$(indent three)"
is "bases alike" "$(indent alone)" "$(indent one)"
is "a parent stands before its child" "$(grep -oE '\<(one|two|three)\>' "$MNT/tree" | head -n 2 | tr '\n' ' ')" "one two "
like "graph.dot starts as a digraph" "$(head -n 1 "$MNT/graph.dot")" '^digraph .*\{'
is "and ends it" "$(tail -n 1 "$MNT/graph.dot")" "}"
is "an edge for each child" "$(grep -c -- '->' "$MNT/graph.dot")" 3

# ---- log
errno mkdir "$A/x@first" >"$OUT"
errno mkdir "$A/y@second" >"$OUT"
like "log has the newest last" "$(tail -n 2 "$MNT/log" | tr '\n' ' ')" 'first.*second'
ok "a reader that stays sees what it opened" sh -c "exec 3<'$MNT/log'; cat <&3 | grep -q second"

# ---- metrics
cat "$MNT/metrics" >"$BASE/metrics"
is "metrics end in # EOF" "$(tail -n 1 "$BASE/metrics")" "# EOF"
is "once" "$(grep -c '^# EOF$' "$BASE/metrics")" 1
is "every line has a form of OpenMetrics" "$(grep -cvE \
    '^# EOF$|^# (TYPE [a-z_:]+ (gauge|counter|histogram|info)|HELP [a-z_:]+ .+|UNIT [a-z_:]+ [a-z]+)$|^[a-z_:]+(\{([a-z_]+="([^"\\]|\\.)*",?)*\})? -?[0-9.e+-]+(Inf)?$' "$BASE/metrics")" 0
# Samples belong to a family that was declared, and stand together; a counter's end in _total
is "every sample stands in its family" "$(awk '
    /^# TYPE/ { if (seen[$3]++) print "twice", $3; family = $3; type = $4; next }
    /^#/ { if ($2 != "EOF" && $3 != family && seen[$3]) print "apart", $3; next }
    { name = $1; sub(/\{.*/, "", name)
      end = name == family ? "" : substr(name, length(family) + 1)
      if (type == "counter") ok = end ~ /^_(total|created)$/
      else if (type == "histogram") ok = end ~ /^_(bucket|sum|count|created)$/
      else if (type == "info") ok = end == "_info"
      else ok = end == ""
      if (index(name, family) != 1) ok = 0
      if (!ok) print "stray", $0 }' "$BASE/metrics")" ""
is "snapshots by kind: active" "$(grep -E 'kind="active"' "$BASE/metrics" | awk '{ print $NF; exit }')" 2
is "snapshots by kind: views" "$(grep -E 'kind="view"' "$BASE/metrics" | awk '{ print $NF; exit }')" 2
is "snapshots by kind: committed" "$(grep -E 'kind="committed"' "$BASE/metrics" | awk '{ print $NF; exit }')" 2
HISTOGRAM=$(awk '/^# TYPE .* histogram$/ { print $3; exit }' "$BASE/metrics")
like "there is a histogram of operations" "$HISTOGRAM" .
is "failures are counted by errno" "$(grep -E "^${HISTOGRAM}_count\{.*ENOENT" "$BASE/metrics" | awk '{ n += $NF } END { print n + 0 }')" 2
is "the last bucket of each histogram is its count" "$(awk -v h="$HISTOGRAM" '
    index($0, h "_bucket") == 1 && /le="\+Inf"/ { key = $1; sub(/_bucket/, "", key); sub(/,?le="\+Inf",?/, "", key); sub(/\{\}/, "", key); inf[key] = $NF }
    index($0, h "_count") == 1 { key = $1; sub(/_count/, "", key); count[key] = $NF }
    END { for (k in count) { n++; if (inf[k] != count[k]) print k } if (!n) print "none" }' "$BASE/metrics")" ""
is "buckets grow" "$(awk -v h="$HISTOGRAM" '
    index($0, h "_bucket") == 1 { key = $1; sub(/,?le="[^"]*",?/, "", key); if (key == last && $NF + 0 < before) print; last = key; before = $NF + 0 }' "$BASE/metrics")" ""
for what in mount import export removal; do
    like "there is a metric on ${what}s" "$(grep -E '^# TYPE' "$BASE/metrics")" "$what"
done

# ---- version
VERSION=$("$STRATAFS" -V 2>&1 | grep -oE '[0-9]+\.[0-9]+[^ ]*' | head -n 1)
like "-V tells a version" "$VERSION" '^[0-9]'
like "version tells the same" "$(cat "$MNT/version")" "$VERSION"
like "version tells the store's format" "$(cat "$MNT/version")" 'format'
ok "version tells more, the kernel's features" test "$(wc -l <"$MNT/version")" -ge 3
unlike "version does not speak of durability=none" "$(cat "$MNT/version")" 'durability[=: ]*none'

# ---- sizes
for e in "$A/three" "$V/look" "$S/two"; do
    for f in info mount mount.json overlay; do
        is "stat tells the size of ${e#"$MNT"/}/$f" "$(stat -c %s "$e/$f")" "$(wc -c <"$e/$f")"
    done
done
is "stat tells the size of version" "$(stat -c %s "$MNT/version")" "$(cat "$MNT/version" | wc -c)"
is "stat tells the size of a label" "$(stat -c %s "$A/three/labels/k")" 2
is "stat tells the size of a snapshot's usage" "$(stat -c %s "$S/two/usage")" "$(cat "$S/two/usage" | wc -c)"
for f in tree graph.dot log metrics active/three/usage; do
    is "stat shows 0 for $f" "$(stat -c %s "$MNT/$f")" 0
    ok "which holds something" test "$(cat "$MNT/$f" | wc -c)" -gt 0
    ok "cp copies $f whole" cp "$MNT/$f" "$BASE/copy"
    ok "to its end" test -s "$BASE/copy"
done
is "control files are plain files, read-only" "$(stat -c '%F %A' "$A/three/info" "$A/three/mount" | sort -u | grep -c w)" 0
is "wc works" "$(wc -l <"$A/three/info")" 7
is "a read in small pieces gives the same" "$(dd if="$S/two/info" bs=3 status=none)" "$(cat "$S/two/info")"
is "a read from the middle gives the rest" "$(tail -c +11 "$S/two/info")" "$(cat "$S/two/info" | tail -c +11)"

# ---- times
is "mtime of an active snapshot is its time of preparation" \
    "$(date -u -d "@$(stat -c %Y "$A/alone")" +%FT%T)" "$(field created "$A/alone/info" | cut -c1-19)"
is "mtime of a snapshot is its time of commit" \
    "$(date -u -d "@$(stat -c %Y "$S/two")" +%FT%T)" "$(field committed "$S/two/info" | cut -c1-19)"
mkdir "$A/three.old"
stat "$A/three.old" >/dev/null
sleep 0.02
mv "$A/three.old" "$S/three.old"
is "… also where its time was asked for before" "$(date -u -d "@$(stat -c %.9Y "$S/three.old")" +%FT%T.%NZ)" "$(field committed "$S/three.old/info")"
rmdir "$S/three.old"
is "ls -t lists by age" "$(ls -t "$S" | tr '\n' ' ')" "two one "
MTIME=$(stat -c %.9Y "$S/one")
mv "$S/one" "$S/eins"
is "a rename leaves the mtime" "$(stat -c %.9Y "$S/eins")" "$MTIME"
echo v >"$S/eins/labels/k"
is "a label makes it the newest" "$(ls -t "$S" | tr '\n' ' ')" "eins two "

# ---- options that version tells of
restart durability=none
like "version speaks of durability=none" "$(cat "$MNT/version")" 'durability[=: ]*none'
done_testing
