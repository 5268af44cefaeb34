#!/bin/sh
# An image as a user of buildah makes it, copied to wherever is named. Its second layer replaces a file and a directory of the
# first, and removes a file and a directory.
# Usage: image.sh <empty directory to work in> <wasm file, which becomes /app> oci|docker <destination>...
set -eu
work=$1 wasm=$2 format=$3
shift 3

# Whatever buildah remembers for next time goes with this namespace.
if [ -z "${IN_NAMESPACE-}" ]; then
    IN_NAMESPACE=1 exec unshare --mount "$0" "$work" "$wasm" "$format" "$@"
fi
mount -t tmpfs tmpfs /var/lib

b() {
    buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" "$@" >>"$work/log" 2>&1 || {
        cat "$work/log" >&2
        exit 1
    }
}

mkdir -p "$work/site/dir" "$work/site/shape" "$work/new"
echo kept >"$work/site/kept"
echo old >"$work/site/replaced"
echo gone >"$work/site/removed"
echo gone >"$work/site/dir/file"
echo gone >"$work/site/shape/file"
echo newer >"$work/new/replaced"
echo shape >"$work/new/shape"

b from --isolation chroot --name one scratch
b copy one "$work/site" /site
b copy --chmod 0755 one "$wasm" /app
b commit --format "$format" one localhost/base:v1

b from --isolation chroot --pull-never --name two localhost/base:v1
root=$(buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" mount two)
rm -r "$root/site/removed" "$root/site/dir" "$root/site/shape"
b copy two "$work/new" /site
b config --os wasip1 --arch wasm --entrypoint '["/app"]' --cmd "ls /site" --env A=b --workingdir /site two
b commit --format "$format" two localhost/image:v1

for destination in "$@"; do
    b push --tls-verify=false localhost/image:v1 "$destination"
done
