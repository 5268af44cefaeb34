#!/bin/sh
# Builds upstream's programs from their Go modules, and says how far it is.
# Usage: tests/tools/build.sh kubernetes|registry|oci|containerd|kwok <directory for the programs>
set -eu
name=$1 out=$2 tags=
cd "$(dirname "$0")/$name"
mkdir -p "$out"

case $name in
kubernetes)
    version=v1.36.3
    # kubectl refuses servers without a version, and the version is not in the module.
    stamp="-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36 -X k8s.io/client-go/pkg/version.gitVersion=$version"
    programs="k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-controller-manager k8s.io/kubernetes/cmd/kube-scheduler k8s.io/kubernetes/cmd/kubectl"
    ;;
registry) stamp= programs=github.com/distribution/distribution/v3/cmd/registry ;;
# What others make artifacts with, a second registry (`crane registry serve`), and for ECR the kubelet's plugin and docker's helper.
oci)
    stamp=
    programs="github.com/google/go-containerregistry/cmd/crane oras.land/oras/cmd/oras k8s.io/cloud-provider-aws/cmd/ecr-credential-provider github.com/awslabs/amazon-ecr-credential-helper/ecr-login/cli/docker-credential-ecr-login"
    ;;
# Without what `ctr run` does not need: Kubernetes' interface, and snapshotters that need a C library or another disk.
containerd)
    stamp=
    tags=no_btrfs,no_cri,no_devmapper,no_zfs,no_aufs
    programs="github.com/containerd/containerd/v2/cmd/containerd github.com/containerd/containerd/v2/cmd/ctr"
    ;;
kwok) stamp= programs=sigs.k8s.io/kwok/cmd/kwok ;;
*)
    echo "no such tool: $name" >&2
    exit 1
    ;;
esac

# A bar on a terminal, a line for each tenth elsewhere.
bar=
[ ! -t 1 ] || bar=1
total=$(go list -deps -tags "$tags" $programs | wc -l)
# `-v` names each package as it is compiled; only those that are not in Go's cache are.
{ go build -v -tags "$tags" -ldflags "-s -w $stamp" -o "$out/" $programs 2>&1 && echo "BUILT"; } | awk -v name="$name" -v total="$total" -v bar="$bar" '
    function draw(width) {
        width = int(30 * done / total)
        printf "\r%s [%-30s] %d of %d packages\033[K", name, substr("==============================", 1, width), done, total
        fflush()
    }
    /^BUILT$/ { built = 1; next }
    /^go: downloading/ { next }
    /^[a-z0-9.]+[a-z0-9.\/_~-]*$/i && !/ / { done++; if (bar) draw(); else if (done * 10 >= total * (tenth + 1)) { tenth = int(done * 10 / total); printf "%s: %d of %d packages\n", name, done, total; fflush() } next }
    { print > "/dev/stderr" }
    END { if (bar && done) printf "\r\033[K"; if (bar && built) print name ": built"; exit !built }'
# Go leaves an unchanged program alone; make compares times.
for program in $programs; do
    touch "$out/${program##*/}"
done
if [ "$name" = kubernetes ]; then
    # Go would call it by its directory: server.
    go build -ldflags "-s -w" -o "$out/etcd" go.etcd.io/etcd/server/v3
    touch "$out/etcd"
fi
if [ "$name" = oci ]; then
    # Docker's helper that keeps credentials with pass; its directory is called cmd.
    go build -ldflags "-s -w" -o "$out/docker-credential-pass" github.com/docker/docker-credential-helpers/pass/cmd
    touch "$out/docker-credential-pass"
fi
if [ "$name" = kwok ]; then
    # What its nodes and pods do is data, which its release has beside the program.
    stages=$(go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
    for stage in "$stages"/node/fast/node-*.yaml "$stages"/node/heartbeat-with-lease/node-*.yaml "$stages"/pod/fast/pod-*.yaml; do
        echo ---
        cat "$stage"
    done >"$out/kwok-stages.yaml"
fi
