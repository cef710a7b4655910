#!/bin/bash
# Runs with the host's network, before run.sh: the benchmark of two versions, from a repository with a commit of each, and the
# root file system of its image.
set -euo pipefail
trap 'kill $(cat /proc/$$/task/$$/children) 2>/dev/null || true' EXIT

cp -r "$SCENARIO/bench" "$WORK/source"
cd "$WORK/source"
git() { command git -c user.name=bench -c user.email=bench@localhost -c init.defaultBranch=main -c advice.detachedHead=false "$@"; }
git init --quiet
build() { # NAME MESSAGE: a commit, tagged NAME, and its programs
    git add .
    git commit --quiet --message "$2"
    git tag "$1"
    mkdir -p "$WORK/image/$1"
    cp "$SCENARIO/bench.sh" "$SCENARIO/Dockerfile" "$WORK/image/$1"
    cargo build --quiet --release --locked --bins --benches --message-format json |
        jq -r 'select(.executable) | .target.name + " " + .executable' |
        while read -r name program; do cp "$program" "$WORK/image/$1/$name"; done
}
export CARGO_TARGET_DIR="$WORK/target"
build text "Numbers by way of a text"
sed -i 's/^default = .*/default = ["direct"]/' Cargo.toml
build direct "Numbers straight from their digits"
git revert --no-edit HEAD >/dev/null
git tag back
rustc --version >"$WORK/toolchain"
rm -r "$WORK/target"

. /etc/os-release
mmdebstrap --quiet --variant=essential "$VERSION_CODENAME" "$WORK/root.tar"
