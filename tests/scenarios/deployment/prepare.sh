#!/bin/bash
# Runs with the host's network, before run.sh: root file systems of the two services, from where the host's apt has its own.
set -euo pipefail
sources() {
    # shellcheck disable=SC2016
    apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' | sort -u
}
[ -n "$(sources)" ] || apt-get --quiet update
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")

root() { # NAME PACKAGE HOOK: what nobody reads in a container is left out
    sources | mmdebstrap --quiet --variant=minbase --include="$2" --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --customize-hook="$3" "$suite" "$WORK/$1.tar" -
}
# shellcheck disable=SC2016
root db postgresql 'rm -rf "$1"/var/lib/postgresql/*; install -d -o "$(stat -c %u "$1/var/lib/postgresql")" "$1/var/lib/postgresql/data" "$1/made"
    ln -s "$(cd "$1" && echo usr/lib/postgresql/*/bin)" "$1/postgresql"'
# shellcheck disable=SC2016
root web lighttpd 'mkdir -p "$1/srv/www"; echo ok >"$1/srv/www/health"'
