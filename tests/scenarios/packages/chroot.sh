#!/bin/bash
# A command in a plain directory, as mock does it: devices, proc and what is built from in a mount namespace of its own, which
# ends with it. Usage: chroot.sh ROOT COMMAND...
set -euo pipefail
exec unshare --mount --propagation private bash -euc '
    root=$1
    shift
    mkdir -p "$root/in"
    mount --rbind /dev "$root/dev"
    mount -t proc proc "$root/proc"
    mount --bind "$WORK/in" "$root/in"
    exec chroot "$root" "$@"
' chroot.sh "$@"
