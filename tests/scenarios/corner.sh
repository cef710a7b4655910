# Sourced by a scenario's run.sh, in a mount and network namespace of its own: podman with all of its own in $WORK.
# Nothing of the host's engines, images, networks or cgroup mounts is used or changed.
set -euo pipefail
# Else the script would go on after a program that was interrupted with it and ended in order.
trap 'exit 130' INT TERM HUP

mount --make-rprivate /
ip link set lo up
# A hybrid host's cgroup tree is replaced by cgroup2 alone, in this namespace only.
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /run

# podman_settings RUNTIME: no systemd, no more than this process may give away, no state outside of $WORK.
podman_settings() {
    cat >"$WORK/containers.conf" <<CONF
[containers]
pids_limit = 0
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "$1"
tmp_dir = "$WORK/libpod"
lock_type = "file"
CONF
    cat >"$WORK/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$WORK/graph"
runroot = "$WORK/podman-run"
CONF
    echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$WORK/policy.json"
    export CONTAINERS_CONF="$WORK/containers.conf" CONTAINERS_STORAGE_CONF="$WORK/storage.conf"
}

# busybox_root FOLDER: the smallest root file system that runs scripts.
busybox_root() {
    mkdir -p "$1/bin" "$1/etc"
    cp "$(command -v busybox)" "$1/bin/busybox"
    local applet
    for applet in sh cat cp echo sed awk sort sleep true grep cut tr wc md5sum date; do
        ln -sf busybox "$1/bin/$applet"
    done
    echo 'root:x:0:0::/:/bin/sh' >"$1/etc/passwd"
    echo 'root:x:0:' >"$1/etc/group"
}
