#!/bin/sh
# How long `ctr run --rm` of one hello takes, medians: the shim beside runc's own, on one containerd that this script starts.
# Usage: tests/ctr-run.sh [runs]        as root, after `make tools-test samples` and `cargo build --release -p samara`.
# SAMARA_BIN says what is measured (default: target/release/samara). runc is the distribution's, or fetched from it.
set -eu
runs=${1:-11}
root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/target/tools
samara=${SAMARA_BIN:-$root/target/release/samara}
home=$(mktemp -d)
# The binary is a shim by this name.
shim=$home/containerd-shim-samara-v1
ln -s "$samara" "$shim"
trap 'kill "$daemon" 2>/dev/null; wait "$daemon" 2>/dev/null; rm -rf "$home"' EXIT
daemon=

runc_shim=$tools/containerd-shim-runc-v2
if [ ! -x "$runc_shim" ]; then
    (cd "$root/tests/tools/containerd" && go build -ldflags "-s -w" -o "$tools/" github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2)
fi
if ! command -v runc >/dev/null; then
    (cd "$home" && apt-get -qq download runc && dpkg -x runc_*.deb runc)
    PATH=$home/runc/usr/sbin:$home/runc/usr/bin:$PATH
fi

# Two images of one file each: the sample, and a static program that does the same.
mkdir -p "$home/wasm" "$home/native"
cp "$root/samples/target/wasm32-wasip1/release/hello.wasm" "$home/wasm/hello"
printf '#include <stdio.h>\nint main(void) { return puts("hello") < 0; }\n' >"$home/hello.c"
cc -O2 -static -o "$home/native/hello" "$home/hello.c"
for image in wasm native; do
    "$samara" build --root-dir "$home/store" --tag "test.local/$image:v1" --entrypoint /hello "$home/$image" >/dev/null
    "$samara" save --root-dir "$home/store" --output "$home/$image.tar" "test.local/$image:v1"
done

cat >"$home/config.toml" <<END
version = 3
root = '$home/root'
state = '$home/state'
[grpc]
  address = '$home/containerd.sock'
END
SAMARA_RUN_DIR=$home/run SAMARA_CODE_DIR=$home/code "$tools/containerd" --config "$home/config.toml" >"$home/log" 2>&1 &
daemon=$!
ctr() { "$tools/ctr" --address "$home/containerd.sock" --namespace "ctr-run-$$" "$@" 2>"$home/said"; }
until ctr version >/dev/null; do sleep 0.1; done
for image in wasm native; do ctr image import --all-platforms "$home/$image.tar" >/dev/null; done

now() { date +%s%N; }
hello() { ctr run --rm --fifo-dir "$home/fifos" --runtime "$2" "test.local/$1:v1" c >/dev/null || { cat "$home/said" >&2; exit 1; }; }
# Once unmeasured: the first compiles, and everything is read from disk.
hello wasm "$shim"
hello native "$runc_shim"
number=0
while [ "$number" -lt "$runs" ]; do
    # In turn, so that a busy moment of the machine meets all alike.
    for what in version wasm native; do
        began=$(now)
        case $what in
        version) ctr version >/dev/null ;;
        wasm) hello wasm "$shim" ;;
        native) hello native "$runc_shim" ;;
        esac
        echo $((($(now) - began) / 10000)) >>"$home/$what.times"
    done
    number=$((number + 1))
done
for what in version wasm native; do
    sort -n "$home/$what.times" | awk -v what="$what" '
        { times[NR] = $1 } END { printf "%-8s median %6.2f ms  least %6.2f  most %6.2f\n", what, times[int((NR + 1) / 2)] / 100, times[1] / 100, times[NR] / 100 }'
done
rmdir /sys/fs/cgroup/*/"ctr-run-$$" "/sys/fs/cgroup/ctr-run-$$" 2>/dev/null || true
