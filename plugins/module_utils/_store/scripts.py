# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell scripts that run on a store's file system; busybox and GNU tools both understand them. Pure."""

# One sha256sum a file, as many at a time as there are processors. The order of the lines does not matter.
SUMS = 'xargs -0 -r -n 1 -P "$(nproc 2>/dev/null || echo 2)" sha256sum'
LIST = f'test -d "$1" || exit 0; cd "$1" && find . -type f -print0 | {SUMS}'
# The folders come as lines, since a command's arguments are part of a URL; an empty line ends them, since the end of
# standard input does not reach every server.
LIST_ALL = f"""cd "$1" && while read -r folder && [ -n "$folder" ]; do
    if [ -d "$folder" ]; then find "./$folder" -type f -print0; fi
done | {SUMS}"""
UNPACK = 'mkdir -p "$1" && tar -x -f - -C "$1"'
# Kibibytes; the second line is that of the file system.
FREE = 'df -Pk "$1" | { read -r _; read -r _ _ _ free _; echo "$free"; }'
# sync without arguments, since busybox knows no other; it flushes the store among the rest.
PUBLISH = 'mkdir -p "$2" && sync && mv -T "$1" "$2/$3" && sync'
REMOVE = 'cd "$1" && shift && rm -f -- "$@"'
# What copies that nobody has continued for a day have left, and those of other files for this version: the name of a
# staging folder ends in twelve signs.
TIDY = """rm -rf "$1/.incoming/$2-$3-"????????????
find "$1/.incoming" -mindepth 1 -maxdepth 1 -mtime +1 -exec rm -rf {} +"""
# By one rename, a version is out of the servers' sight as a whole, and not file by file.
HIDE = """test -d "$1/$2/$3" || exit 0
mkdir -p "$1/.trash" && rm -rf "$1/.trash/$2-$3" && mv -T "$1/$2/$3" "$1/.trash/$2-$3" && sync"""
EMPTY = 'rm -rf "$1/.trash"'
