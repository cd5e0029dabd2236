#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Every system call of every operation fails, with EIO, ENOSPC, ENOMEM and EINTR: see tests/failpoints/failpoints.h. Environment:
#   FAILPOINTS_STRIDE   each how manieth point is tried (a sample; 1 are all)
#   FAILPOINTS_OFFSET   from which on; default 0
#   FAILPOINTS_ONLY     one operation alone
#   FAILPOINTS_TELL     if set, a line for each point
. "$(dirname "$0")/lib.sh"

: "${FAILPOINTS_STRIDE:=16}" "${FAILPOINTS_OFFSET:=0}" "${FAILPOINTS_ONLY:=}"

new_base
mkdir -p "$BASE/layer/dir/deep"
echo text >"$BASE/layer/file"
head -c 200000 /dev/zero | tr '\0' x >"$BASE/layer/dir/big"
echo deep >"$BASE/layer/dir/deep/file"
ln -s file "$BASE/layer/soft"
ln "$BASE/layer/file" "$BASE/layer/hard"
mkfifo "$BASE/layer/fifo"
touch "$BASE/layer/.wh.gone"
mkdir "$BASE/layer/d"
touch "$BASE/layer/d/.wh..wh..opq"
setfattr -n user.note -v x "$BASE/layer/file"
tar -C "$BASE/layer" --xattrs --sort=name -czf "$BASE/layer.tar.gz" .

# shellcheck disable=SC2154
"$top_builddir/tests/failpoints/failpoints" "$STRATAFS" "$STORE" "$MNT" "$BASE" "$ERRORS" "$BASE/layer.tar.gz" \
    "expire=0${STRATAFS_TEST_OPTIONS:+,$STRATAFS_TEST_OPTIONS}" "$FAILPOINTS_STRIDE" "$FAILPOINTS_OFFSET" "$FAILPOINTS_ONLY" \
    >"$BASE/points" </dev/null
status=$?
diag "each point of $FAILPOINTS_STRIDE, from $FAILPOINTS_OFFSET on"
while read -r result rest; do
    case $result in
    ok) pass "$rest" ;;
    not) fail "${rest#ok }" ;;
    *) diag "${rest}" ;;
    esac
done <"$BASE/points"
is "the run comes to its end" "$status" 0
done_testing
