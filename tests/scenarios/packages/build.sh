#!/bin/sh
# What is built, the same in a container and in a chroot. Usage: build.sh simple|complex|repository|dependencies
set -eu
out=$(mktemp -d)
# apt knows the packages in /in/debs alone.
echo 'deb [trusted=yes] file:/in/debs ./' >"$out/list"
apt() { DEBIAN_FRONTEND=noninteractive apt-get --quiet=2 -o Dir::Etc::sourcelist="$out/list" -o Dir::Etc::sourceparts=/dev/null "$@"; }
dependencies() {
    apt update
    apt ${OPTIONS:-} build-dep --yes /in/source/*.dsc
}
case $1 in
    simple) rpmbuild -bb --quiet --define "_topdir $out" --define '_sourcedir /in' /in/words.spec ;;
    complex)
        dependencies
        dpkg-source --no-check --extract /in/source/*.dsc "$out/tree"
        cd "$out/tree"
        DEB_BUILD_OPTIONS="nocheck parallel=$(nproc)" dpkg-buildpackage --build=binary --no-sign
        ;;
    repository)
        createrepo_c --quiet --outputdir "$out" /in/rpms
        [ "$(zcat "$out"/repodata/*primary.xml.gz | grep -c '^<package ')" = 1000 ]
        ;;
    dependencies) dependencies ;;
esac
cd /
rm -rf "$out"
