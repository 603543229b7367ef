#!/usr/bin/env bash
# Refuses, in one sentence and with exit code 1, where a disk has too little room: docker/space.sh WHAT PLACE MB [PLACE MB]…
# WHAT begins the sentence. What is needed at places on the same disk is added up; a place need not exist yet.
set -euo pipefail
what=$1
shift

# Needed, in MB; the place; free, in blocks of 1024 bytes; and the disk, separated by tabs.
while [[ $# -gt 0 ]]; do
    place=$1
    until [[ -d $place ]]; do place=$(dirname "$place"); done
    # POSIX's format. A device's name may hold blanks, as that of a mount point.
    disk=$(df -Pk "$place" | sed -nE '2s/^.* [0-9]+ +[0-9]+ +(-?[0-9]+) +[-0-9]+% +(.*)$/\1\t\2/p')
    printf '%s\t%s\t%s\n' "$2" "$1" "$disk"
    shift 2
done | WHAT=$what LC_ALL=C awk -F '\t' '
    { needed[$4] += $1 / 1e3; free[$4] = $3 * 1024 / 1e9; if (!($4 in place)) place[$4] = $2 }
    END {
        for (disk in needed) {
            if (free[disk] < needed[disk]) {
                printf "%s takes %.1f GB on the disk of %s, and %.1f GB are free there: make room, or take another disk\n",
                    ENVIRON["WHAT"], needed[disk], place[disk], free[disk]
                exit 1
            }
        }
    }' >&2
