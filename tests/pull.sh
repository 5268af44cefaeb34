#!/bin/sh
# How long a pull of a Wasm artifact of 1, 10 and 100 MB takes, and the most memory it has: `samara pull` beside
# containerd's `ctr content fetch`, in turns, from one registry (distribution) on this machine. Medians.
# Usage: tests/pull.sh [runs]        as root, after `make tools-test samples` and `cargo build --release -p samara`.
# SAMARA_BIN says what is measured (default: target/release/samara).
set -eu
runs=${1:-9}
root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/target/tools
samara=${SAMARA_BIN:-$root/target/release/samara}
home=$(mktemp -d)
daemon= registry=
trap 'kill $daemon $registry 2>/dev/null; wait $daemon $registry 2>/dev/null; rm -rf "$home"' EXIT

# Port 0 is not told by the registry: one that is free now.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$home/registry.yaml" <<END
version: 0.1
log: { level: error }
storage: { filesystem: { rootdirectory: $home/registry } }
http: { addr: 127.0.0.1:$port, secret: pull }
END
"$tools/registry" serve "$home/registry.yaml" >"$home/registry.log" 2>&1 &
registry=$!
cat >"$home/config.toml" <<END
version = 3
root = '$home/root'
state = '$home/state'
[grpc]
  address = '$home/containerd.sock'
END
"$tools/containerd" --config "$home/config.toml" >"$home/containerd.log" 2>&1 &
daemon=$!
ctr() { "$tools/ctr" --address "$home/containerd.sock" --namespace pull "$@" 2>"$home/said"; }
until ctr version >/dev/null; do sleep 0.1; done

# hello with so many bytes in a custom section that nothing can make smaller.
grown() {
    python3 - "$root/samples/target/wasm32-wasip1/release/hello.wasm" "$1" <<'END'
import os, sys
def leb(n):
    out = b""
    while n > 127: out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])
body = b"\x07ballast" + os.urandom(int(sys.argv[2]) * 1000 * 1000)
sys.stdout.buffer.write(open(sys.argv[1], "rb").read() + b"\0" + leb(len(body)) + body)
END
}
for size in 1 10 100; do
    grown $size >"$home/$size.wasm"
    "$samara" push --root-dir "$home/push" "$home/$size.wasm" "127.0.0.1:$port/pull:${size}mb" >/dev/null
done
rm -rf "$home/push"

# Hundredths of a millisecond, and KiB of the largest resident set, of one command.
measured() {
    python3 -c '
import resource, subprocess, sys, time
began = time.monotonic()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
took = time.monotonic() - began
if done.returncode: sys.exit(done.stderr.decode())
print(int(took * 100000), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)' "$@"
}
number=0
while [ "$number" -lt "$runs" ]; do
    for size in 1 10 100; do
        image=127.0.0.1:$port/pull:${size}mb
        # Both keep what they pull on the same disk, and both from nothing.
        measured "$samara" pull --root-dir "$home/store" "$image" >>"$home/samara.$size"
        rm -rf "$home/store"
        measured "$tools/ctr" --address "$home/containerd.sock" --namespace pull content fetch --plain-http "$image" >>"$home/ctr.$size"
        ctr images rm --sync "$image" >/dev/null
        [ -z "$(ctr content ls --quiet)" ] || { echo "containerd kept what it had pulled" >&2; exit 1; }
    done
    number=$((number + 1))
done
for size in 1 10 100; do
    for who in samara ctr; do
        sort -n "$home/$who.$size" | awk -v what="$who ${size} MB" '
            { times[NR] = $1; if ($2 > most) most = $2 }
            END { printf "%-14s median %7.1f ms  least %7.1f  most %7.1f  memory %5.1f MiB\n", what, times[int((NR + 1) / 2)] / 100, times[1] / 100, times[NR] / 100, most / 1024 }'
    done
done
