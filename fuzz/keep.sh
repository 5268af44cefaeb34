#!/bin/sh
# fuzz/keep.sh DIRECTORY BINARY...: puts into git what runs have found (DIRECTORY/corpus), without what reaches nothing new: corpus.tar.xz.
set -eu
directory=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
kept=$(mktemp -d)
trap 'rm -rf "$kept"' EXIT
for binary in "$@"; do
    name=${binary##*/fuzz-}
    mkdir -p "$kept/corpus/$name" "$directory/corpus/$name"
    TMPDIR=${TMPDIR:-/dev/shm} "$binary" -merge=1 -max_len=16384 -rss_limit_mb=1024 -verbosity=0 \
        "$kept/corpus/$name" "$directory/corpus/$name" "$here/seeds/$name" 2>/dev/null
    echo "fuzz: $name: $(ls "$kept/corpus/$name" | wc -l) of $(ls "$directory/corpus/$name" | wc -l) inputs kept"
done
# The same inputs make the same file.
tar -C "$kept" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cJf "$here/corpus.tar.xz" corpus
