#!/bin/sh
# fuzz/run.sh SECONDS DIRECTORY BINARY...: runs each target for so long, one after the other, from the seeds in git and from what
# earlier runs found (DIRECTORY/corpus). Ends at the first finding, whose input is left in DIRECTORY/findings.
set -eu
seconds=$1 directory=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
# Begins where earlier runs ended, also those of others.
if [ ! -d "$directory/corpus" ] && [ -e "$here/corpus.tar.xz" ]; then
    mkdir -p "$directory"
    tar -C "$directory" -xJf "$here/corpus.tar.xz"
fi
for binary in "$@"; do
    name=${binary##*/fuzz-}
    corpus=$directory/corpus/$name findings=$directory/findings/
    mkdir -p "$corpus" "$findings"
    dictionary=$here/seeds/$name.dict
    echo "fuzz: $name for $seconds s"
    # What a target takes is short: longer inputs are slow and find nothing new.
    TMPDIR=${TMPDIR:-/dev/shm} "$binary" -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=1024 \
        -print_final_stats=1 -verbosity=0 -artifact_prefix="$findings$name-" \
        $([ -e "$dictionary" ] && echo "-dict=$dictionary") "$corpus" "$here/seeds/$name"
done
