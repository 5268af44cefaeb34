#!/bin/sh
# A systemd of its own, as process 1 of namespaces of its own, that has only the units in a given directory. As root:
#   tests/machine/systemd.sh SCOPE UNITS SAMARA DIR...
# SCOPE: its cgroup, which becomes its root. UNITS: a directory of units, of which samara.target is started.
# SAMARA: the program at /usr/local/bin/samara. DIR...: what of the host it sees and may write, each at its own path.
# Else it has the host's /usr, read-only, and empty file systems in memory: nothing that it does or removes is the host's.
set -eu
if [ "$1" != inside ]; then
    scope=$1
    shift
    awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/mounts | while read -r at; do
        mkdir -p "$at/$scope"
        # A new group of cpuset has no cpus and takes nobody; systemd does not use it.
        echo $$ 2>/dev/null >"$at/$scope/cgroup.procs" || [ -e "$at/$scope/cpuset.cpus" ]
    done
    exec unshare --mount --pid --cgroup --ipc --uts --fork --kill-child "$0" inside "$@"
fi
units=$2 samara=$3
shift 3
mount --make-rprivate /
root=$(mktemp -d "${1%/}/systemd.XXXXXX")
mount -t tmpfs -o mode=755 root "$root"
cd "$root"
mkdir -p usr etc/systemd/system proc sys dev run tmp var old
ln -s usr/bin usr/sbin usr/lib usr/lib64 .
[ ! -d /usr/lib32 ] || ln -s usr/lib32 .
mount --rbind /usr usr
mount -o remount,bind,ro usr
mount -t tmpfs local usr/local
mkdir -p usr/local/bin
: >usr/local/bin/samara
mount --bind "$samara" usr/local/bin/samara
cp -a "$units"/. etc/systemd/system/
printf 'root:x:0:0:root:/root:/bin/sh\n' >etc/passwd
printf 'root:x:0:\n' >etc/group
: >etc/machine-id
for file in ld.so.cache ld.so.conf resolv.conf hosts; do [ ! -e "/etc/$file" ] || cp -L "/etc/$file" etc/; done

mount -t proc proc proc
mount -t sysfs sysfs sys
# Each hierarchy as the host has it, from this namespace's own root down.
mount -t tmpfs cgroups sys/fs/cgroup
awk '$3 ~ /^cgroup2?$/ { print $2, $3, $4 }' /proc/mounts | while read -r at kind options; do
    [ "$at" != /sys/fs/cgroup ] || umount sys/fs/cgroup
    mkdir -p ".$at"
    mount -t "$kind" -o "$(echo "$options" | sed -E 's/(^|,)(relatime|seclabel|nsdelegate|memory_recursiveprot)//g; s/^,//')" cgroup ".$at"
done
mount -t tmpfs -o mode=755 dev dev
for device in null zero full random urandom tty; do
    : >"dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd

# In memory, but for what is to be seen of the host.
for directory in run tmp var; do mount -t tmpfs "$directory" "$directory"; done
for directory in "$@"; do
    mkdir -p ".$directory"
    mount --bind "$directory" ".$directory"
done
mount --make-rprivate .
pivot_root . old
cd /
umount -l /old
export container=samara SYSTEMD_UNIT_PATH=/etc/systemd/system PATH=/usr/local/bin:/usr/bin:/usr/sbin
exec /usr/lib/systemd/systemd --system --unit=samara.target --log-target=console --show-status=false
