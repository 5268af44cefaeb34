#!/bin/sh
# A RUSTC_WRAPPER: counts coverage in our own crates as cargo-fuzz would have it, and leaves all others as they are, so that
# the artifacts of the main workspace's dependencies serve here too. Works with a stable compiler.
set -eu
case " $* " in
*" --crate-name build_script_"*) exec "$@" ;;
esac
case "${CARGO_PKG_NAME:-}" in
samara-unify) exec "$@" ;;
samara-*) ;;
*) exec "$@" ;;
esac
# cargo asks about the compiler before it names a package; only what is compiled is instrumented.
exec "$@" --cfg fuzzing \
    -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
