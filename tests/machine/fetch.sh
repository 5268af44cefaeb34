#!/bin/sh
# Brings what the machine with pure cgroup v2 needs: qemu; Debian's cloud kernel and the compiler of AppArmor's profiles,
# unpacked and not installed.
# Usage: tests/machine/fetch.sh <directory>
set -eu
dir=$1
[ ! -e "$dir/vmlinuz" ] || [ ! -e "$dir/apparmor_parser" ] || exit 0
if ! command -v apt-get >/dev/null; then
    echo "no apt-get: put a kernel at $dir/vmlinuz and its modules (overlay.ko, veth.ko) beneath $dir/modules, apparmor_parser into $dir, and install qemu-system-x86_64" >&2
    exit 1
fi
root=
[ "$(id -u)" = 0 ] || root=sudo
if ! command -v qemu-system-x86_64 >/dev/null; then
    echo "installing qemu-system-x86"
    $root apt-get -qq update
    $root apt-get -qq install -y --no-install-recommends qemu-system-x86 >/dev/null
fi
mkdir -p "$dir"
cd "$dir"
download() { apt-get -qq download "$1" 2>/dev/null || { $root apt-get -qq update && apt-get -qq download "$1"; }; }
download apparmor
dpkg-deb -x apparmor_*.deb unpacked
kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: *//p' | head -n 1)
download "$kernel"
dpkg-deb -x "$kernel"_*.deb unpacked
rm -rf modules
mv unpacked/lib/modules modules
mv unpacked/boot/vmlinuz-* vmlinuz
cp unpacked/sbin/apparmor_parser . 2>/dev/null || cp unpacked/usr/sbin/apparmor_parser .
rm -rf unpacked "$kernel"_*.deb apparmor_*.deb
