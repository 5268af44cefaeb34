#!/bin/sh
# Says what is missing, installs what may be installed, and says what the first build will cost.
# Usage: tests/setup.sh <cargo's target directory> <tools' directory> [demo: what only the tests need is left out]
set -eu
target=$1 tools=$2 needs=${3:-test}

missing() {
    echo "$1" >&2
    exit 1
}

case "$(uname -sm)" in
"Linux x86_64") ;;
*) missing "this is $(uname -sm), not Linux x86_64: use a Linux virtual machine" ;;
esac
"$(dirname "$0")/host.sh"
command -v cargo >/dev/null || missing "cargo is missing: install Rust from https://rustup.rs"
command -v rustup >/dev/null || missing "rustup is missing: install Rust from https://rustup.rs (the Wasm targets come by it)"
command -v cc >/dev/null || missing "a C compiler is missing: install the distribution's gcc"
command -v go >/dev/null || missing "go is missing: install Go 1.26 or newer from https://go.dev/dl"
version=$(go env GOVERSION | sed 's/^go//')
newest=$(printf '1.26\n%s\n' "$version" | sort -V | tail -n 1)
[ "$newest" = "$version" ] || missing "go is $version: install Go 1.26 or newer from https://go.dev/dl"
root=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || missing "neither root nor sudo: run it as root"
    root=sudo
fi

installed=$(rustup target list --installed)
for wasm in wasm32-wasip1 wasm32-wasip2; do
    case "$installed" in
    *$wasm*) ;;
    *) rustup target add "$wasm" ;;
    esac
done

# What may be installed: the program that is looked for, and its package. moto, which stands for AWS in the tests, is Python; buildah
# makes images for them, registries are asked through tinyproxy and limited by haproxy, and pass keeps passwords. The live suite
# restarts the agent as a unit of a systemd of its own, which nothing but the test starts.
PATH=$PATH:/usr/sbin:/sbin
packages=
command -v ip >/dev/null || packages="$packages iproute2"
if [ "$needs" != demo ]; then
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages="$packages python3-venv"
    [ -x /usr/lib/systemd/systemd ] || packages="$packages systemd"
    command -v tinyproxy >/dev/null || packages="$packages tinyproxy-bin"
    command -v haproxy >/dev/null || packages="$packages haproxy"
    command -v pass >/dev/null || packages="$packages pass gnupg"
    command -v buildah >/dev/null || packages="$packages buildah"
fi
if [ -n "$packages" ]; then
    command -v apt-get >/dev/null || missing "these are missing; Debian calls them$packages (Fedora: iproute, tinyproxy, gnupg2, and venv comes with python3)"
    echo "installing$packages"
    $root apt-get -qq update
    $root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $packages >/dev/null
fi

first=
[ -x "$tools/kube-apiserver" ] || first="$first
  control plane and registry (Go)   about 8 minutes, 3 GB in Go's cache, 0.5 GB here"
[ -x "$target/debug/samara" ] || first="$first
  Samara and its tests (Rust)       about 8 minutes, 4 GB here"
[ -z "$first" ] || echo "First build, on 2 cores, both side by side; the next one takes seconds:$first"
