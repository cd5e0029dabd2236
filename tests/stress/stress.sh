#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Random operations with a model beside them: see stress.h. Environment, all with defaults:
#   STRESS_SECONDS   how long (20)
#   STRESS_SEED      a number; printed, and what a run is replayed with
#   STRESS_KILLS     none, worker (of a keeper, which nobody must notice), all (the whole program), or both
#
# All that it says on the way, and what every thread was at when nothing went on any more, stays in the build folder when
# it fails, however it ends: tests/stress/SEED.diag.
. "$(dirname "$0")/../integration/lib.sh"

: "${STRESS_SECONDS:=20}" "${STRESS_KILLS:=both}" "${STRESS_SEED:=$(date +%s)}"
export STRESS_SEED

# shellcheck disable=SC2154
STRESS_HANG_SCRIPT=$(realpath "$top_srcdir/tests/stress/hang.sh") # the program of the test goes elsewhere
export STRESS_HANG_SCRIPT
# shellcheck disable=SC2154
diag=$top_builddir/tests/stress/$STRESS_SEED.diag

new_base
# shellcheck disable=SC2086
${STRESS_WRAPPER:-} "$top_builddir/tests/stress/stress" "$STRATAFS" "$STORE" "$MNT" "$BASE" \
    "expire=1${STRATAFS_TEST_OPTIONS:+,$STRATAFS_TEST_OPTIONS}" "$STRESS_SECONDS" "$STRESS_KILLS" \
    >"$BASE/points" 2>"$diag" </dev/null
status=$?
cat "$diag"
while read -r _ result desc; do
    case $result in
    ok) pass "$desc" ;;
    *) fail "$desc" ;;
    esac
done <"$BASE/points"
is "the run comes to its end" "$status" 0
[ "$status" != 0 ] || rm -f "$diag"
done_testing
