# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# A script prints TAP: one line an assertion, the plan at its end (done_testing).
# A script that ends before done_testing has no plan, which counts as a failure.
# Assertions count in the main shell only, never call them in a subshell or pipe.
#
# Assertions; the description always comes first
#   ok DESC CMD…            CMD ends with status 0 (its output, left in $OUT, becomes diagnostics when not)
#   nok DESC CMD…           CMD ends with another status, 124 and 137 (timed out) aside
#   is DESC GOT WANT        the strings are equal
#   isnt DESC GOT OTHER     the strings differ
#   like DESC GOT ERE       GOT, as one string, matches the extended regular expression
#   unlike DESC GOT ERE
#   works DESC OP ARG…      the system call OP (see helpers/syscall.c) succeeds
#   fails DESC ERRNO OP ARG…  … fails with just that errno, e.g. fails "no parent" ENOENT mkdir PATH
#   logged DESC OPS PATH ERRNO [REASON]
#                           the last line of $MNT/log is about it: an RFC 3339 time, an operation (ERE), PATH
#                           relative to MNT as it stands in the log (fixed string), the errno's name, and
#                           more words, which match REASON (ERE, any case)
#   pass DESC, fail DESC    for what fits none of these
#   diag TEXT…              lines for the reader, with "# " in front
#   done_testing            stops the programs, prints the plan
#   bail REASON             "Bail out!": the environment does not allow the test

DESCRIBED=
TESTS_RUN=0
TESTS_FAILED=0

diag() {
    local line
    while IFS= read -r line || [ -n "$line" ]; do
        LC_ALL=C printf '# %s\n' "${line//[^[:print:][:blank:]]/?}"
    done <<<"$*"
}

bail() {
    printf 'Bail out! %s\n' "$*"
    exit 1
}

# Sets DESCRIBED to TEXT as it may stand in a line of TAP: '#' would start a directive, so that a name with one could turn into a skip
describe() {
    local text=${1//#/No.}
    local LC_ALL=C
    DESCRIBED=${text//[^[:print:]]/?}
}

pass() {
    TESTS_RUN=$((TESTS_RUN + 1))
    describe "$1"
    printf 'ok %d - %s\n' "$TESTS_RUN" "$DESCRIBED"
}

fail() {
    TESTS_RUN=$((TESTS_RUN + 1))
    TESTS_FAILED=$((TESTS_FAILED + 1))
    describe "$1"
    printf 'not ok %d - %s\n' "$TESTS_RUN" "$DESCRIBED"
    local frame=0
    while [ "${BASH_SOURCE[frame + 1]:-}" = "${BASH_SOURCE[0]}" ]; do frame=$((frame + 1)); done
    diag "at ${BASH_SOURCE[frame + 1]:-?} line ${BASH_LINENO[frame]}"
    return 1
}

t() {
    case $1 in
    test | [ | kill | eval | true | false) "$@" ;; # of the shell's own
    *) if declare -F -- "$1" >/dev/null; then "$@"; else timeout -k 5 60 "$@"; fi ;;
    esac
}

ok() {
    local desc=$1 status=0
    shift
    t "$@" >"$OUT" 2>&1 </dev/null || status=$?
    if [ "$status" = 0 ]; then
        pass "$desc"
    else
        fail "$desc"
        diag "status $status from: $*"
        diag "$(cat "$OUT")"
        return 1
    fi
}

nok() {
    local desc=$1 status=0
    shift
    t "$@" >"$OUT" 2>&1 </dev/null || status=$?
    case $status in
    0 | 124 | 126 | 127 | 137)
        fail "$desc"
        diag "status $status from: $*"
        diag "$(cat "$OUT")"
        return 1
        ;;
    *) pass "$desc" ;;
    esac
}

is() {
    if [ "$2" = "$3" ]; then
        pass "$1"
    else
        fail "$1"
        diag " got: $2"
        diag "want: $3"
        return 1
    fi
}

isnt() {
    if [ "$2" != "$3" ]; then
        pass "$1"
    else
        fail "$1"
        diag "both: $2"
        return 1
    fi
}

like() {
    if [[ $2 =~ $3 ]]; then
        pass "$1"
    else
        fail "$1"
        diag " got: $2"
        diag "want: $3"
        return 1
    fi
}

unlike() {
    if ! [[ $2 =~ $3 ]]; then
        pass "$1"
    else
        fail "$1"
        diag " got: $2"
        diag "none: $3"
        return 1
    fi
}

errno() {
    local status=0
    "$HELPERS/syscall" "$@" || status=$?
    case $status in
    0 | 1) ;;
    *) echo "status $status" ;;
    esac
}

works() {
    local desc=$1
    shift
    is "$desc" "$(errno "$@")" ok
}

fails() {
    local desc=$1 want=$2
    shift 2
    is "$desc" "$(errno "$@")" "$want"
}

logged() {
    local desc=$1 ops=$2 path=$3 name=$4 reason=${5:-.} line rest begin end
    begin='^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})'
    begin="${begin}[[:blank:]]+($ops)[[:blank:]:]"
    end="[[:blank:]]${name}[[:blank:]:]+([^[:blank:]].*)"
    line=$(t tail -n 1 "$MNT/log")
    shopt -s nocasematch
    rest=${line#*"$path"}
    if [[ $line =~ $begin && $rest != "$line" && $rest =~ $end && ${BASH_REMATCH[1]} =~ $reason ]]; then
        shopt -u nocasematch
        pass "$desc"
    else
        shopt -u nocasematch
        fail "$desc"
        diag "last line of log: $line"
        diag "want: TIME $ops … $path … $name, a reason with: $reason"
        return 1
    fi
}
