# shellcheck shell=sh disable=SC2154
# SPDX-License-Identifier: Apache-2.0
#
# strata diff: part of strata, which see.

# A line each of "A PATH", "M PATH", "D PATH"; coloured on a terminal.
show_changes() {
        if [ -t 1 ]; then
                esc=$(printf '\033')
                sed "s/^A.*/${esc}[32m&${esc}[m/; s/^M.*/${esc}[33m&${esc}[m/; s/^D.*/${esc}[31m&${esc}[m/"
        else
                cat
        fi
}

# Sets entry to what NAME means, here of any kind; "active/NAME" and the like leave no choice.
find_entry() { # NAME
        case $1 in
        active/* | views/* | snapshots/*)
                entry=$mnt/$1
                case ${1#*/} in '' | .* | */* | *@*) ;; *) [ ! -d "$entry" ] || return 0 ;; esac
                ;;
        esac
        for entry in "$mnt/active/$1" "$mnt/views/$1"; do
                case $1 in '' | .* | */* | *@*) ;; *) [ ! -d "$entry" ] || return 0 ;; esac
        done
        resolve "$1"
        entry=$mnt/snapshots/$snapshot
}

# A file a line: its name, inode and time of change, without which two are not one (the layers of a store are on one file system),
# and what tells two apart; "//:" is between them and "//n" stands for a newline, as no name has two slashes. find knows no device
# numbers.
list_files() { # FS OUT
        (cd "$1" && exec find . -mindepth 1 \( -type d -printf '%P//:-//:%y %m %U:%G\0' -o \
                \( -type b -o -type c \) -fprintf /dev/fd/4 '%P\0' -o \
                -printf '%P//:%i %C@//:%y %m %U:%G %s %T@ %l\0' \)) >"$2.found" 4>"$2.devices" &&
                (cd "$1" && exec xargs -0 -r stat --printf '%n//:-//:%F %a %u:%g %t:%T %.9Y\0' --) <"$2.devices" >>"$2.found" &&
                sed -z 's,\n,//n,g' "$2.found" >"$2.lines" && tr '\0' '\n' <"$2.lines" >"$2"
}

# Lines of "A /NAME" as `changes` has them: in quotes where a terminal or a reader could
# take a name for something else; what is no UTF-8 is quoted as well.
quote_names='
        BEGIN { for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i }
        # the bytes of the character at AT, or 0 for a control character and for what is no UTF-8
        function width(s, at,   c, d, n, i) {
                c = code[substr(s, at, 1)]
                d = code[substr(s, at + 1, 1)]
                if (c < 128) return c >= 32 && c != 127
                n = c < 194 ? 0 : c < 224 ? 2 : c < 240 ? 3 : c < 245 ? 4 : 0
                for (i = 1; i < n; i++) if (int(code[substr(s, at + i, 1)] / 64) != 2) return 0
                return (c == 194 && d < 160) || (c == 224 && d < 160) || (c == 237 && d > 159) || (c == 240 && d < 144) ||
                        (c == 244 && d > 143) ? 0 : n
        }
        /^[ !#-\[\]-~]*$/ && !/\/\/n/ { print; next }
        {
                name = substr($0, 3)
                gsub("//n", "\n", name)
                out = ""
                quote = 0
                for (at = 1; at <= length(name); at += n) {
                        c = substr(name, at, 1)
                        n = width(name, at)
                        if (n && c !~ /["\\]/) { out = out substr(name, at, n); continue }
                        n = quote = 1
                        out = out (c == "\n" ? "\\n" : c == "\t" ? "\\t" : c ~ /["\\]/ ? "\\" c : sprintf("\\%03o", code[c]))
                }
                print substr($0, 1, 2) (quote ? "\"" out "\"" : out)
        }'

# Lines of what differs between the files in $tmp/a and $tmp/b; "?" before what only its contents can tell, "=" where that may be
# one file. It need not be: a copy in a layer has the inode number of what it was copied from, and two made at once the same time.
compare_lists() {
        awk '
                { end = index($0, "//:"); name = substr($0, 1, end - 1); rest = substr($0, end + 3) }
                { end = index(rest, "//:"); one = substr(rest, 1, end - 1); this = substr(rest, end + 3) }
                FILENAME == ARGV[1] { what[name] = this; which[name] = one; next }
                !(name in what) { print "A /" name; next }
                { seen[name] = 1 }
                what[name] != this { print "M /" name; next }
                this ~ /^f/ { print (which[name] != one ? "? /" : "= /") name }
                END { for (name in what) if (!(name in seen)) print "D /" name }' "$tmp/a" "$tmp/b"
}

# An entry and all that it stands on, a path each.
below() { # ENTRY
        at=$1
        while echo "$at" && [ -L "$at/parent" ]; do
                at=$mnt/snapshots/$(parent "$at")
        done
}

# What the layers hold that are not those of both, as `changes` tells it.
own_changes() { # ENTRY ENTRY
        below "$1" >"$tmp/below" && below "$2" >>"$tmp/below" && sort "$tmp/below" | uniq -u >"$tmp/own" &&
                while IFS= read -r at; do
                        cat "$at/changes" || return
                done <"$tmp/own"
}

# Where a layer of one side's own has the name too, "=" in $tmp/differ becomes "?", and else it goes: it is one file.
# Where `changes` can't be read, as by another user, all of them are compared.
ask_contents() { # ENTRY ENTRY
        all=0
        own_changes "$1" "$2" >"$tmp/own.changes" 2>/dev/null || all=1
        awk "$quote_names" "$tmp/differ" >"$tmp/quoted" && paste -d '\n' "$tmp/quoted" "$tmp/differ" >"$tmp/both" &&
                awk -v all="$all" '
                        FILENAME == ARGV[1] { own[substr($0, 3)] = 1; next }
                        FNR % 2 { name = substr($0, 3); next }
                        !/^=/ { print; next }
                        all || name in own { print "?" substr($0, 2) }' "$tmp/own.changes" "$tmp/both" >"$tmp/asked"
}

# Answers the question marks in $tmp/asked.
compare_contents() { # FS FS
        while IFS= read -r line; do
                case $line in
                '? '*)
                        path=${line#? /}
                        case $path in *//n*) path=$(printf '%s/' "$path" | sed 's,//n,\n,g') && path=${path%/} ;; esac
                        cmp -s "$1/$path" "$2/$path"
                        case $? in
                        0) continue ;;
                        1) line=M${line#?} ;;
                        *) return 1 ;;
                        esac
                        ;;
                esac
                printf '%s\n' "$line" || return 1
        done <"$tmp/asked"
}

# Every step into a file, so that none fails unseen.
diff_entries() { # ENTRY ENTRY
        list_files "$1/fs" "$tmp/a" && list_files "$2/fs" "$tmp/b" && compare_lists >"$tmp/differ" &&
                ask_contents "$1" "$2" && compare_contents "$1/fs" "$2/fs" >"$tmp/differing" && sort -k 2 "$tmp/differing" >"$tmp/sorted" &&
                awk "$quote_names" "$tmp/sorted" >"$tmp/diff" || die "$EX_IOERR" "cannot compare $1 with $2"
}

diff_command() { # A [B]
        find_entry "$1"
        temporary
        if [ $# = 1 ]; then
                cat "$entry/changes" >"$tmp/diff" || die "$EX_IOERR" "cannot read $entry/changes"
        else
                first=$entry
                find_entry "$2"
                diff_entries "$first" "$entry"
        fi
        show_changes <"$tmp/diff" || die "$EX_IOERR" "cannot write what differs"
}
