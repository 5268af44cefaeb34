#!/bin/sh
# How fast guest code is: the same Rust program natively and by `samara run`, in turns. What the guest's clock says of each
# kind of work, so neither start nor compilation is in it. Medians, and their ratio.
# Usage: tests/speed.sh [runs]       as root, after `make guests` and `cargo build --release -p samara`.
# SAMARA_BIN says what is measured (default: target/release/samara).
set -eu
runs=${1:-9}
root=$(cd "$(dirname "$0")/.." && pwd)
samara=${SAMARA_BIN:-$root/target/release/samara}
built=$root/target/guests
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT

guest() { "$samara" run --root-dir "$home/root" --run-dir "$home/run" --cpus 1 "$built/wasm32-wasip1/release/speed.wasm"; }
# Once unmeasured: the first compiles.
guest >/dev/null
number=0
while [ "$number" -lt "$runs" ]; do
    "$built/release/speed" | sed 's/^/native /' >>"$home/times"
    guest | sed 's/^/guest /' >>"$home/times"
    number=$((number + 1))
done
# The same work has the same result on both.
[ "$(cut -d' ' -f2,4 "$home/times" | sort -u | wc -l)" = "$(cut -d' ' -f2 "$home/times" | sort -u | wc -l)" ] || {
    echo "native and guest have not computed the same" >&2
    exit 1
}
sort -k2,2 -k1,1 -k3,3n "$home/times" | awk '
    { key = $2 SUBSEP $1; times[key, ++count[key]] = $3; names[$2] = 1 }
    function median(key) { return times[key, int((count[key] + 1) / 2)] }
    END {
        printf "%-8s %10s %10s %6s\n", "work", "native us", "guest us", "ratio"
        for (name in names) {
            native = median(name SUBSEP "native"); guest = median(name SUBSEP "guest")
            printf "%-8s %10d %10d %6.2f\n", name, native, guest, guest / native
            sum += log(guest / native); works++
        }
        printf "%-8s %28.2f\n", "all (geometric mean)", exp(sum / works)
    }'
