# The test machine's system: mounts as the set-up asks, the work one after the other, its results on the exchange disk.
# Runs as process 1 on the root disk.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LC_ALL=C.UTF-8 TERM="${TERM:-linux}" XDG_RUNTIME_DIR=/run/user/0
IN=/exchange/in
OUT=/exchange/out
cgroup=v2
interactive=
# shellcheck disable=SC1091
. $IN/setup

# systemd does so, and rootless podman warns where it is not.
mount --make-rshared /
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/lock /run/user/0
ln -sfn /proc/self/fd /dev/fd
ln -sfn /proc/self/fd/0 /dev/stdin
ln -sfn /proc/self/fd/1 /dev/stdout
ln -sfn /proc/self/fd/2 /dev/stderr
mount -t securityfs securityfs /sys/kernel/security 2>/dev/null
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null

# What systemd would do; v1 and hybrid as it did before cgroup2 became the default.
v1() {
    mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
    tail -n +2 /proc/cgroups | while read -r controller _ _ enabled; do
        [ "$enabled" = 1 ] || continue
        mkdir -p "/sys/fs/cgroup/$controller"
        mount -t cgroup -o "$controller" "$controller" "/sys/fs/cgroup/$controller" 2>/dev/null ||
            rmdir "/sys/fs/cgroup/$controller"
    done
    mkdir -p /sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd systemd /sys/fs/cgroup/systemd
}
case $cgroup in
v1) v1 ;;
hybrid)
    v1
    mkdir -p /sys/fs/cgroup/unified
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
    ;;
*)
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
    done
    ;;
esac

# What a host loads when it boots: rootless networks and file systems open these devices.
for module in overlay fuse tun; do
    modprobe "$module" 2>/dev/null
done
chmod 666 /dev/fuse /dev/net/tun
chmod 1777 /tmp /var/tmp

# Tests that change the whole host, taking a CPU away for example, ask for this.
export PHASEGRAPH_OWN_MACHINE=1
# A share of emulated time is no share: the cap is for the native tests, here everything is to be recorded.
export PHASEGRAPH_MAX_OVERHEAD=off
hostname machine
ip link set lo up
# Files of the build, at the paths that they have on the host: test programs have them compiled in.
while read -r folder; do
    mkdir -p "$folder"
    mount --bind "$IN/host$folder" "$folder"
done <$IN/folders
PATH=$IN/bin:$PATH

mkdir -p $OUT
uname -r >$OUT/release
for item in "$IN"/work/*; do
    name=${item##*/}
    printf '\n== %s\n' "$name"
    if [ "$interactive" ]; then
        setsid --ctty --wait sh "$item"
        continue
    fi
    : >"$OUT/$name.log"
    # The log goes to the console by a reader of its own: a daemon that outlives the item holds no pipe that is waited for.
    tail -n +1 -f "$OUT/$name.log" &
    reader=$!
    mkdir "$OUT/$name.files"
    (
        cd /root || exit
        OUT=$OUT/$name.files exec sh "$item"
    ) </dev/null >>"$OUT/$name.log" 2>&1
    echo $? >"$OUT/$name.status"
    sleep 0.2
    kill $reader
    wait $reader 2>/dev/null
    printf '== %s: exit status %s\n' "$name" "$(cat "$OUT/$name.status")"
    sync -f $OUT
done
dmesg >$OUT/dmesg
: >$OUT/done
sync
mount -o remount,ro /exchange 2>/dev/null
echo o >/proc/sysrq-trigger
sleep 60
