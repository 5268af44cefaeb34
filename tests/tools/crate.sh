#!/bin/sh
# Builds a program as its authors published it as a crate; quick to build before quick to run.
# Usage: tests/tools/crate.sh <crate> <version> <directory for the programs>
set -eu
crate=$1 version=$2 out=$3/$1
# Beside cargo's own work, not in its way.
unset CARGO_TARGET_DIR
echo "$crate: about 2 minutes on 2 cores"
CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_INCREMENTAL=0 \
    cargo install --quiet --debug --locked --force --root "$out" "$crate@$version"
# cargo keeps the time of what it built; make compares times.
touch "$out/bin/$crate"
