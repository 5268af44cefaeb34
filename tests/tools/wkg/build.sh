#!/bin/sh
# Builds wkg, bytecodealliance's tool for Wasm packages, as it is published; quick to build before quick to run.
# Usage: tests/tools/wkg/build.sh <directory for the programs>
set -eu
out=$1/wkg
echo "wkg: about 2 minutes on 2 cores"
CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_INCREMENTAL=0 \
    cargo install --quiet --debug --locked --force --root "$out" wkg@0.16.1
# cargo keeps the time of what it built; make compares times.
touch "$out/bin/wkg"
