#!/bin/bash
# Runs with the host's network, before run.sh: a build root, a Debian source package with all that it needs to be built, and
# 1,000 packages for a repository. Into $WORK/root.tar and $WORK/in.
set -euo pipefail
cd "$WORK"
source=$(cat "$SCENARIO/source")
. /etc/os-release

# apt's own sources of this machine for this release, with the source packages.
files=$(grep -lsw -- "$VERSION_CODENAME" /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources || true)
mkdir -p apt/sources apt/lists/partial apt/cache/archives/partial in/debs in/source in/rpms
for file in $files; do
    sed -E 's/^Types: deb$/Types: deb deb-src/; s/^deb (.*)/&\ndeb-src \1/' "$file" >"apt/sources/$(basename "$file")"
done

mmdebstrap --quiet --mode=root --variant=minbase --include=build-essential,file,rpm,createrepo-c \
    "$VERSION_CODENAME" root.tar $files
mkdir root
tar -C root --exclude=./dev/* -xf root.tar

# What the source package needs over the build root: apt is shown the root's packages in place of the host's.
apt=(apt-get --quiet=2 -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$WORK/apt/sources"
    -o Dir::State::lists="$WORK/apt/lists" -o Dir::State::status="$WORK/root/var/lib/dpkg/status"
    -o Dir::Cache="$WORK/apt/cache" -o APT::Sandbox::User=root -o APT::Install-Recommends=false)
"${apt[@]}" update
(cd in/source && "${apt[@]}" source --download-only "$source")
"${apt[@]}" build-dep --yes --download-only "$source"
mv apt/cache/archives/*.deb in/debs/
(cd in/debs && apt-ftparchive packages . >Packages)
[ "$(grep -c '^Package:' in/debs/Packages)" -ge 50 ] || { echo "$source needs fewer than 50 packages" >&2; exit 1; }

# One build of 1,000 packages, each with three files.
cp "$SCENARIO/many.spec" "$SCENARIO"/words.* "$SCENARIO/build.sh" in/
{
    cat "$SCENARIO/many.spec"
    for number in $(seq 1000); do
        printf '\n%%package p%s\nSummary: Package %s\nProvides: capability(%s)\n%%description p%s\nOne of many.\n%%files p%s\n/usr/share/many/%s\n' \
            "$number" "$number" "$number" "$number" "$number" "$number"
    done
} >in/many.spec
bash "$SCENARIO/chroot.sh" "$WORK/root" rpmbuild -bb --quiet --define '_topdir /tmp/many' /in/many.spec
mv root/tmp/many/RPMS/*/*.rpm in/rpms/
rm -rf root/tmp/many apt
