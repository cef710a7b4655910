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
    mkdir -p "$WORK/tmp"
    cat >"$WORK/containers.conf" <<CONF
[containers]
pids_limit = 0
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "$1"
tmp_dir = "$WORK/libpod"
image_copy_tmp_dir = "$WORK/tmp"
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

# show WORDS: phasegraph, whose exit status is a verdict here. verdict: from a verdict on, of what is read.
show() { "$PHASEGRAPH" "$@" || true; }
verdict() { sed -n '/^verdict/,$p'; }

# Whatever ends this script, what it started ends with it: a bench ends its command; a container goes on without its client.
ending() {
    trap '' INT TERM HUP
    local pid _
    for _ in $(seq 300); do
        # This shell's own children; the one that lists them is gone by then.
        for pid in $(cat /proc/$$/task/$$/children); do kill "$pid" 2>/dev/null || true; done
        sleep 0.1
        # The one that counts is a child as well.
        [ "$(wc -w </proc/$$/task/$$/children)" -gt 1 ] || break
    done
    [ -z "${CONTAINERS_CONF:-}" ] || podman rm --all --force --time 0 >/dev/null 2>&1 || true
    # The cgroups are the host's, also below this mount.
    rmdir /sys/fs/cgroup/libpod_parent/conmon /sys/fs/cgroup/libpod_parent 2>/dev/null || true
}
trap ending EXIT

# local_registry: docker-registry on 127.0.0.1:5000 with its data in $WORK/registry, until this script ends; its process is
# $registry.
local_registry() {
    cat >"$WORK/registry.yml" <<YML
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: $WORK/registry}, delete: {enabled: true}}
http: {addr: 127.0.0.1:5000}
YML
    docker-registry serve "$WORK/registry.yml" >/dev/null 2>&1 &
    registry=$!
    local listens=':1388 00000000:0000 0A' _
    for _ in $(seq 600); do
        if grep -q "$listens" /proc/net/tcp /proc/net/tcp6; then return; fi
        kill -0 "$registry" || { echo "docker-registry has ended" >&2; exit 1; }
        sleep 0.05
    done
    echo "docker-registry does not listen after 30 s" >&2
    exit 1
}
