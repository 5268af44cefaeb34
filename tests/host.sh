#!/bin/sh
# Whether this machine lets us make namespaces and cgroups, before anything is built for it; tests/src/host.rs judges the same
# before anything is started, in the same words.
set -eu

missing() {
    echo "$1" >&2
    exit 1
}

# The bounding set: sudo gives no more than that.
capabilities=$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status)
for needed in 5:CAP_KILL 12:CAP_NET_ADMIN 19:CAP_SYS_PTRACE 21:CAP_SYS_ADMIN; do
    [ $(((0x$capabilities >> ${needed%:*}) & 1)) = 1 ] ||
        missing "${needed#*:} is missing: this is an unprivileged container; use a virtual machine or \`docker run --privileged\`"
done

for controller in memory cpu pids; do
    grep -qsw "$controller" /sys/fs/cgroup/cgroup.controllers || [ -e "/sys/fs/cgroup/$controller/cgroup.procs" ] ||
        missing "no cgroup controllers (memory, cpu, pids) under /sys/fs/cgroup: mount them, or start the container with \`--cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup:rw\`"
done
