#!/bin/busybox sh
# First process of a test machine: reaches the disks and hands over to guest.sh on the exchange disk.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev

fail() {
    echo "init: $*"
    poweroff -f
}

for module in /lib/*.ko; do
    [ -e "$module" ] || continue
    insmod "$module" || fail "can't load $module"
done
tries=0
until [ -b /dev/vdc ]; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || fail "the disks don't appear"
    sleep 0.1
done
mount -t ext4 /dev/vda /new || fail "can't mount the root disk"
mount -t ext4 -o ro /dev/vdb /new/lib/modules || fail "can't mount the modules"
mount -t ext4 /dev/vdc /new/exchange || fail "can't mount the exchange disk"
umount /proc /sys
mount --move /dev /new/dev
exec switch_root /new /bin/sh /exchange/in/guest.sh
