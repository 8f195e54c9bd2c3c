# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The script by which a pod of the cluster pulls a version straight from its source into the store. Pure.

It needs a POSIX shell, rclone, and of busybox or GNU: awk, cmp, cut, df, du, find, grep, mktemp, sed, sort, sync, tar,
tr, unzip, xargs and sha256sum. What it finds it leaves in ``$REPORT``: a digest and bytes as JSON, or why it gave up.
Its exit code is :data:`FINAL` where another try would end the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ServingError
from ansible_collections.modelfleet.serving.plugins.module_utils._store.artefact import DIGEST
from ansible_collections.modelfleet.serving.plugins.module_utils._store.scripts import TIDY
from ansible_collections.modelfleet.serving.plugins.module_utils._store.source import Source

FINAL = 65

# Reads lines of bytes and path, and is content with the files of a whole SavedModel; see artefact.py. It prints their
# bytes, whether there is an index of variables, the graph, and the one folder that an archive has them all in.
_CHECK = r"""
{
    path = substr($0, length($1) + 2)
    if ($0 !~ /^-?[0-9]+ ./ || ("/" path "/") ~ /\/\.?\.?\// || path ~ /[\\[:cntrl:]]/ || path in seen || NR > 100000) {
        print "the file name " path " cannot be used, or stands there twice. Rename it."
        failed = 1
        exit
    }
    seen[path]
    if ($1 > 0) total += $1
    top = substr(path, 1, index(path, "/"))
    if (NR == 1) only = top
    else if (top != only) mixed = 1
}
END {
    if (failed) exit 1
    prefix = (packed && !mixed && only != "variables/") ? only : ""
    for (path in seen) {
        name = substr(path, length(prefix) + 1)
        names[name]
        if (name ~ /^variables\/variables\.data-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]$/) {
            shard[substr(name, 26, 5) + 0]
            if (substr(name, 35, 5) + 0 > shards) shards = substr(name, 35, 5) + 0
        }
    }
    graph = ("saved_model.pb" in names) ? "saved_model.pb" : "saved_model.pbtxt"
    if (!(graph in names)) {
        print "it is no SavedModel: saved_model.pb is missing. Export it with tf.saved_model.save or model.export."
        exit 1
    }
    index_there = ("variables/variables.index" in names) ? 1 : 0
    missing = (shards > 0) != index_there
    for (number = 0; number < shards; number++) if (!(number in shard)) missing = 1
    if (missing) {
        print incomplete
        exit 1
    }
    printf "%.0f %d %s %s\n", total, index_there, graph, prefix
}
"""

SCRIPT = (
    r"""
set -eu
export LC_ALL=C TAR_OPTIONS=--quoting-style=literal
root=$1 model=$2 version=$3 source=$4 shown=$5 archive=$6 key=$7 wanted=$8
target=$root/$model/$version
staging=$root/.incoming/$model-$version-$key
packed=$staging.packed
work=$(mktemp -d)
incomplete="it is an incomplete SavedModel: its variables are missing or incomplete. \
Copy or export it again; a server would answer every request with an error."

fail() {
    echo "$model version $version: $1" >&2
    printf '%s' "$model version $version: $1" >"$REPORT"
    exit @FINAL@
}
fail_clean() {
    rm -rf "$staging" "$packed"
    fail "$1"
}
list() { rclone lsf --recursive --files-only --format sp --separator ' ' "$1"; }
report() {
    list "$target" >"$work/published"
    size=$(awk '{ total += $1 } END { printf "%.0f", total }' "$work/published")
    printf '{"digest": "%s", "bytes": %s}' "$1" "$size" >"$REPORT"
    exit 0
}
digest() {
    cd "$1" && find . -type f -print0 >"$work/files" &&
        xargs -0 -r -n 1 -P "$(nproc 2>/dev/null || echo 2)" sha256sum <"$work/files" >"$work/sums" &&
        sort -k 2 "$work/sums" >"$work/sorted" &&
        sha256sum <"$work/sorted" | cut -d ' ' -f 1
}
room() {
    there=0
    if [ -e "$2" ]; then there=$(du -sk "$2" | cut -f 1); fi
    free=$(df -Pk "$root" | { read -r _; read -r _ _ _ free _; echo "$free"; })
    needed=$((($1 + 1023) / 1024 - there))
    [ "$needed" -le "$free" ] || fail "it needs $((needed * 1024 / 1000000)) MB more, \
and the store has only $((free * 1024 / 1000000)) MB left. \
Raise size where the storage class allows it, or let old versions go with keep."
}
copy() {
    code=0
    rclone "$1" --retries 1 --stats 5s --stats-one-line --stats-log-level NOTICE --log-format "" \
        "$source" "$2" || code=$?
    [ "$code" = 0 ] && return
    room "$total" "$2"
    exit "$code"
}
check() {
    facts=$(awk -v "packed=$archive" -v "incomplete=$incomplete" '@CHECK@' "$work/list") || fail_clean "$facts"
    read -r total index graph prefix <<END
$facts
END
    room "$total" "$staging"
}
restores() { tr '\000' '\n' | grep -q RestoreV2; }

have=
if [ -d "$target" ] && [ -n "$(find "$target" -type f | head -n 1)" ]; then
    have=sha256:$(digest "$target")
    [ "$have" != "$wanted" ] || report "$have"
    [ -z "$wanted" ] || fail "it is in the store already with other files: $have, not $wanted. \
A published version never changes: give the new files a new version number."
fi

mkdir -p "$root/.incoming"
code=0
list "$source" >"$work/list" || code=$?
case $code in
    0) [ -s "$work/list" ] || fail "there is nothing at $shown." ;;
    3 | 4) fail "there is nothing at $shown." ;;
    *) exit "$code" ;;
esac

if [ -n "$archive" ]; then
    total=$(awk '{ total += $1 } END { printf "%.0f", total }' "$work/list")
    rm -rf "$staging" "$staging.only"
    room "$total" "$packed"
    copy copyto "$packed"
    broken="the archive $shown is broken, or no $archive."
    case $archive in
        zip)
            unzip -l "$packed" >"$work/members" 2>"$work/words" || fail_clean "$broken"
            sed -n 's|^ *\([0-9][0-9]*\)  *[-/0-9]\{8,10\}  *[:0-9]\{5,8\}  *\(\./\)\{0,1\}\(.*[^/]\)$|\1 \3|p' \
                "$work/members" >"$work/list"
            ;;
        *)
            if [ "$archive" = tgz ]; then gzip=z; else gzip=; fi
            tar "-tv${gzip}f" "$packed" >"$work/members" 2>"$work/words" || fail_clean "$broken"
            odd=$(grep -v '^[-d]' "$work/members" | head -n 1)
            [ -z "$odd" ] || fail_clean "$odd is neither a file nor a folder. Links and devices are not copied."
            grep '^-' "$work/members" |
                sed 's|^-[^ ]*  *[^ ]*  *\([0-9][0-9]*\)  *[^ ]*  *[^ ]* \(\./\)\{0,1\}|\1 |' >"$work/list"
            ;;
    esac
    # busybox lists a name without what leads out of the folder, and says so.
    if grep -qi 'removing leading' "$work/words"; then
        fail_clean "the archive $shown holds a file name that is not below its root and cannot be used."
    fi
    check
    mkdir -p "$staging"
    case $archive in
        zip) unzip -q -o "$packed" -d "$staging" || code=$? ;;
        *) tar "-x${gzip}f" "$packed" -C "$staging" || code=$? ;;
    esac
    if [ "$code" != 0 ]; then
        room "$total" "$staging"
        fail_clean "$broken"
    fi
    chmod -R u+rwX,go+rX "$staging"
else
    check
    if [ "$index" = 0 ]; then
        case $source in
            *:) where=$source$graph ;;
            *) where=$source/$graph ;;
        esac
        if rclone cat "$where" | restores; then fail "$incomplete"; fi
    fi
    mkdir -p "$staging"
    copy sync "$staging"
    list "$staging" | cut -d ' ' -f 2- | sort >"$work/arrived"
    cut -d ' ' -f 2- "$work/list" | sort >"$work/expected"
    cmp -s "$work/arrived" "$work/expected" || fail "the files at $shown changed while they were copied. Run again."
fi

odd=$(find "$staging" ! -type d ! -type f -o -type f -links +1 -o -name '*[[:cntrl:]\\]*' | head -n 1)
[ -z "$odd" ] || fail_clean "$odd is neither a file nor a folder, or has a name that cannot be used."
if [ -n "$archive" ] && [ -n "$prefix" ]; then
    mv -T "$staging/${prefix%/}" "$staging.only"
    rm -rf "$staging"
    mv -T "$staging.only" "$staging"
fi
if [ "$index" = 0 ] && restores <"$staging/$graph"; then fail_clean "$incomplete"; fi
found=sha256:$(digest "$staging")
[ -z "$wanted" ] || [ "$found" = "$wanted" ] || fail_clean "the files at $shown have the digest $found, not $wanted. \
Nothing was published. Find out which is right: the source or the declared digest."
if [ -n "$have" ]; then
    [ "$found" = "$have" ] || fail_clean "it is in the store already with other files: $have, not $found. \
A published version never changes: give the new files a new version number."
else
    mkdir -p "$root/$model"
    sync
    mv -T "$staging" "$target"
    sync
fi
rm -rf "$packed"
set -- "$root" "$model" "$version"
@TIDY@
report "$found"
""".replace("@CHECK@", _CHECK)
    .replace("@TIDY@", TIDY)
    .replace("@FINAL@", str(FINAL))
)


@dataclass(frozen=True)
class Fetched:
    """What the script says of a version that it has published.

    :param size: bytes of all files.
    """

    digest: str
    size: int


def arguments(model: str, version: int, source: Source, digest: str | None, root: str) -> list[str]:
    """Give the script's arguments.

    :param digest: what the files must have; None takes what is there.
    :param root: the store.
    """
    # By the source and not by the digest, which may not be known: a copy that was cut off is continued by this name.
    key = hashlib.sha256(f"{source}".encode()).hexdigest()[:12]
    return [root, model, str(version), source.path, str(source), source.archive, key, digest or ""]


def read_report(what: object, words: str) -> Fetched:
    """Read what the script has left.

    :raises ServingError: when it is no report.
    """
    try:
        report = json.loads(words)
        digest, size = report["digest"], report["bytes"]
    except (ValueError, TypeError, KeyError):
        digest, size = "", 0
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest) or not isinstance(size, int):
        raise ServingError(f"{what}: the job that fetched it left no report but {words!r}.", hint="Run again.")
    return Fetched(digest, size)
