# shellcheck shell=sh disable=SC2034,SC2154
# SPDX-License-Identifier: Apache-2.0
#
# strata run and try: part of strata, which see.

# ---- run ----

# runtime-spec configuration: the runtime's own default, with what the image says, the capabilities that containers usually
# have, and a terminal if there is one. crun refuses machines with the hybrid form of cgroups.
runtime_config='
        .root = {path: $fs} | .hostname = "strata" | .process = (.process | .terminal = $tty | .args = $args | .env = $env | .cwd = $cwd |
                .user = {uid: $uid, gid: $gid} | .noNewPrivileges = false |
                .capabilities = (["AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
                        "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"] | map("CAP_" + .) |
                        {bounding: ., effective: ., permitted: .})) |
        del(.linux.resources, (.mounts[] | select(.destination == "/sys/fs/cgroup"))) |
        if $net then del(.linux.namespaces[] | select(.type == "network")) else . end |
        if $userns then (.mounts[] | select(.type == "devpts").options) |= map(select(startswith("gid=") | not)) |
                (.mounts[] | select(.type == "sysfs" and $net)) |= (.type = "none" | .source = "/sys" | .options += ["rbind"]) else . end'

# A user namespace that has not all ids, as that of unshare -Urm, may lack the group of terminals; and no sysfs can be mounted
# in one for a network that is not its own.
in_user_namespace() { ! grep -qE '^ +0 +0 +4294967295$' /proc/self/gid_map; }

# What runs without a runtime, on the outer side of chroot: LAST-STEP STARTED FS UID:GID DIRECTORY COUNT VARIABLE... CMD... A
# session of its own, as its process group is not to be seen inside.
# shellcheck disable=SC2016
bare_runtime='
        last=$1 fs=$3
        shift
        for dir in proc dev; do
                [ ! -L "$fs/$dir" ] && mkdir -p "$fs/$dir" || exit 126
        done
        mount -t proc proc "$fs/proc" && mount -t tmpfs -o mode=755 dev "$fs/dev" || exit 126
        for dev in null zero full random urandom tty; do
                : >"$fs/dev/$dev" && mount --bind "/dev/$dev" "$fs/dev/$dev" || exit 126
        done
        groups=--clear-groups
        ! grep -q deny /proc/self/setgroups || groups=--keep-groups
        exec setsid setpriv "$groups" perl -e "$last" "$@"'

# The last step, from there to the inner side. The image's variables are arguments up to here: programs of the host, and
# their loader, would obey some of them, and the image need not have an env(1). STARTED is filled if exec works.
# shellcheck disable=SC2016
bare_command='
        use POSIX ();
        my ($started, $fs, $user, $cwd, $count) = splice @ARGV, 0, 5;
        my %variables = map { split /=/, $_, 2 } splice @ARGV, 0, $count;
        my ($uid, $gid) = split /:/, $user;
        open my $mark, ">", $started or die "strata: cannot write $started: $!\n";
        chroot $fs and chdir "/" and chdir $cwd or die "strata: cannot enter $cwd: $!\n";
        POSIX::setgid($gid) and POSIX::setuid($uid) or die "strata: cannot become $user: $!\n";
        syswrite $mark, "$$\n" or die "strata: cannot write $started: $!\n";
        %ENV = %variables;
        exec { $ARGV[0] } @ARGV;
        warn "strata: cannot run $ARGV[0]: $!\n";
        truncate $mark, 0;
        exit 127;'

find_runtime() {
        runtime=${STRATA_RUNTIME:-}
        for tool in crun runc; do
                [ -z "$runtime" ] && command -v $tool >/dev/null || continue
                [ $tool = crun ] && [ -d /sys/fs/cgroup/unified ] || runtime=$tool
        done
        [ -n "$runtime" ] || runtime=unshare
        need "$runtime" jq
        [ "$runtime" != unshare ] || need perl
}

# Prints UID:GID of a USER[:GROUP] in names or numbers, by the snapshot's own files.
ids() { # FS USER
        user=${2%%:*} group=''
        case $2 in *:*) group=${2#*:} ;; esac
        # a plain file of a plain size: an image may have anything there
        lookup() { [ -L "$1/etc" ] || [ -L "$1/etc/$2" ] || [ ! -f "$1/etc/$2" ] || head -c 1000000 "$1/etc/$2" |
                awk -F: -v key="$3" -v field="$4" '$1 == key || $3 == key { print $field; exit }'; }
        uid=$(lookup "$1" passwd "${user:-0}" 3)
        [ -n "$group" ] || group=$(lookup "$1" passwd "${user:-0}" 4)
        gid=$(lookup "$1" group "${group:-0}" 3)
        echo "${uid:-${user:-0}}:${gid:-${group:-0}}"
}

# The kernel would take 2^32 for 0; runtimes take numbers below 2^31.
check_ids() { # UID:GID
        case $1 in *[!0-9:]* | *:*:*) die "$EX_DATAERR" "the image's user is unknown in it: $1" ;; esac
        [ "${1%:*}" -le 2147483647 ] 2>/dev/null && [ "${1#*:}" -le 2147483647 ] 2>/dev/null ||
                die "$EX_DATAERR" "the image's user is no number below 2147483648: $1"
}

# The host's servers of names, where the network is the host's and FS names none. take_resolver() takes them away again, as
# they are no change of the command's.
lend_resolver() { # FS
        [ -n "$net" ] && [ -s /etc/resolv.conf ] && [ -d "$1/etc" ] && [ ! -L "$1/etc" ] || return 0
        [ ! -L "$1/etc/resolv.conf" ] && [ ! -e "$1/etc/resolv.conf" ] || return 0
        cat /etc/resolv.conf >"$1/etc/resolv.conf" && lent=yes
}

take_resolver() { # FS
        [ -n "$lent" ] && [ ! -L "$1/etc" ] && [ ! -L "$1/etc/resolv.conf" ] || return 0
        lent=''
        # the command may have put there what a reader would wait for
        [ ! -f "$1/etc/resolv.conf" ] || ! cmp -s /etc/resolv.conf "$1/etc/resolv.conf" || rm -f "$1/etc/resolv.conf"
}

# CMD in the active snapshot key, from the configuration in $tmp/config.
run_in() { # [CMD...]
        fs=$mnt/active/$key/fs
        [ -d "$fs/." ] || die "$EX_OSERR" "cannot enter $fs"
        user=$(ids "$fs" "$(jq -r '.config.User // ""' "$tmp/config")")
        check_ids "$user"
        tty=false
        [ ! -t 0 ] || [ ! -t 1 ] || tty=true
        jq --argjson tty "$tty" --arg fs "$fs" --arg user "$user" --arg term "${TERM:-dumb}" '.config as $c | {
                fs: $fs, tty: $tty, cwd: (($c.WorkingDir // "") | if startswith("/") then . else "/" + . end),
                uid: ($user | split(":")[0] | tonumber), gid: ($user | split(":")[1] | tonumber),
                args: (if $ARGS.positional != [] then $ARGS.positional
                        else (($c.Entrypoint // []) + ($c.Cmd // []) | if . == [] then ["/bin/sh"] else . end) end),
                env: ([{PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME: (if $user[:2] == "0:" then "/root" else "/" end)},
                        (if $tty then {TERM: $term} else {} end),
                        ($c.Env // [] | map(split("=") | {(.[0]): (.[1:] | join("="))})[])] | add | to_entries | map("\(.key)=\(.value)"))
                }' "$tmp/config" --args -- "$@" >"$tmp/process" || die "$EX_DATAERR" "the image's configuration makes no sense"
        jq -r '.args | map(@sh) | join(" ")' "$tmp/process" >"$mnt/active/$key/labels/oci.created_by"
        lend_resolver "$fs"
        if [ "$runtime" != unshare ]; then
                rm -f "$tmp/config.json"
                "$runtime" spec -b "$tmp" && jq --slurpfile p "$tmp/process" --argjson net "$([ -z "$net" ] && echo false || echo true)" \
                        --argjson userns "$(in_user_namespace && echo true || echo false)" \
                        '$p[0] as {$fs, $tty, $cwd, $uid, $gid, $args, $env} | '"$runtime_config" "$tmp/config.json" >"$tmp/runtime" &&
                        mv "$tmp/runtime" "$tmp/config.json" || die "$EX_OSERR" "no configuration for $runtime"
                container=$key
                job "$runtime" run -b "$tmp" --pid-file "$tmp/started" "$container"
        else
                eval "set -- $(jq -r '[.cwd, (.env | length | tostring)] + .env + .args | map(@sh) | join(" ")' "$tmp/process")"
                isolated=--net
                [ -z "$net" ] || isolated=--fork
                job env -i "PATH=$PATH" "$(command -v unshare)" --mount --uts --ipc --pid --fork --kill-child "$isolated" \
                        /bin/sh -c "$bare_runtime" strata "$bare_command" "$tmp/started" "$fs" "$user" "$@"
        fi
}

# Ends the snapshot that a command ran in, and that with what the command said.
run() { # NAME [CMD...]
        prepare_run "$@"
        exit "$status"
}

prepare_run() { # NAME [CMD...]
        find_runtime
        resolve "$1"
        shift
        for kind in active views; do
                [ -z "$keep" ] || [ ! -d "$mnt/$kind/$keep" ] || die "$EX_CANTCREAT" "$kind/$keep is taken"
        done
        ! printf '%s\n' "$@" | LC_ALL=C.UTF-8 grep -qavx '.*' || die "$EX_USAGE" "an argument is no UTF-8, as which it is passed on"
        temporary
        image_config "$snapshot" "$id" "$tmp/config"
        prepare "$snapshot" || die "$EX_OSERR" "cannot prepare a snapshot on $snapshot"
        run_in "$@"
        status=$? container=''
        take_resolver "$mnt/active/$key/fs"
        # what is there then are the folders that the runtime mounts on
        [ -s "$tmp/started" ] || { keep='' && die "$EX_OSERR" "$runtime did not start the command"; }
}

# What is not typed is for the question alone, not for the command.
try() { # NAME CMD...
        if [ -t 0 ]; then prepare_run "$@"; else prepare_run "$@" </dev/null; fi
        show_changes <"$mnt/active/$key/changes" || say "cannot show what changed"
        while :; do
                printf 'commit NAME, keep KEY, or discard? ' >&2
                # the end of the input is no answer: what nobody asked for is not kept
                read -r answer name || answer=discard
                case $answer in
                c | commit) try_move snapshots "$name" && break ;;
                k | keep) try_move active "$name" && break ;;
                d | discard) break ;;
                esac
        done
        exit "$status"
}

try_move() { # FOLDER NAME
        case $1,$2 in
        *, | *,.* | */* | *@*) say "it needs a name" && return 1 ;;
        active,strata-[0-9]*) say "names like that are those of strata itself" && return 1 ;;
        esac
        mv -T "$mnt/active/$key" "$mnt/$1/$2" && key=
}
