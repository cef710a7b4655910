#!/bin/bash
# Package builds in podman on a build worker, and the same builds in a plain chroot: a small rpm, a Debian package with all that it
# needs installed first, a repository of 1,000 packages, five builds at once, the image pulled and at hand.
# Started by `cargo xtask scenario packages` in a mount and network namespace of its own; leaves $WORK/page.
. "$(dirname "$SCENARIO")/corner.sh"

runs=6 few=2
[ "$FULL" = no ] || runs=20 few=10
page=$WORK/page
cd "$WORK"

podman_settings runc
export WORK IMAGE=127.0.0.1:5000/buildroot:1
cat >registries.conf <<CONF
[[registry]]
location = "127.0.0.1:5000"
insecure = true
CONF
export CONTAINERS_REGISTRIES_CONF=$WORK/registries.conf
local_registry

# The build worker's image, as built by somebody else.
push() { # FOLDER-OR-TAR IMAGE
    podman import --quiet "$1" "$2" >/dev/null 2>&1
    podman push --quiet "$2"
    podman rmi --force "$2" >/dev/null
}
push root.tar "$IMAGE"

# Commands without this checkout's and this run's folders, which would stand on the page.
cp "$SCENARIO/chroot.sh" "$SCENARIO/session.sh" .
container() { echo podman run --rm --network=none --volume ./in:/in:ro "$IMAGE" sh /in/build.sh "$1"; }
plain() { echo bash chroot.sh "$1" sh /in/build.sh "$2"; }
bench() { # NAME RUNS OPTIONS... -- COMMAND
    local name=$1 count=$2
    shift 2
    "$PHASEGRAPH" bench --quiet --name "$name" --runs "$count" --config "$SCENARIO/phasegraph.toml" --timeout 10m -o "$name" "$@"
}

session() { echo bash session.sh "$@"; }

# One build by hand, which pulls the image.
$(container simple)

bench pull "$few" --series cold --cold "podman rmi --force $IMAGE" -- $(container simple)
bench simple "$runs" -- $(container simple)
bench simple-chroot "$runs" -- $(plain root simple)
bench five "$few" --concurrency 5 -- $(container simple)
bench session "$few" -- $(session simple)
bench repository "$few" -- $(container repository)
bench repository-chroot "$few" -- $(plain root repository)
# A chroot in which packages were installed is no clean one any more: each run has a copy, by hard links, since dpkg puts new files
# in the place of old ones. What making it leaves to write is written before the run.
bench complex-chroot "$few" --series cold --cold "sh -c 'rm -rf used && cp -al root used && sync -f used'" -- \
    $(plain used complex)
bench complex "$few" --warmup 0 -- $(session complex)
# Acted on: the dependencies are in the image.
PREBUILT=127.0.0.1:5000/buildroot-$(cat "$SCENARIO/source"):1
podman run --name seed --network=none --volume ./in:/in:ro "$IMAGE" sh /in/build.sh dependencies >/dev/null 2>&1
podman commit --quiet seed "$PREBUILT" >/dev/null
podman rm seed >/dev/null
bench prebuilt "$few" --warmup 0 -- env IMAGE="$PREBUILT" $(session complex)

check() { # BUDGET RESULTS BASELINE
    show check --budget "$SCENARIO/budgets/$1.toml" ${3:+--baseline "$3"} "$2" --width 110
}
check pull pull '' >"$page/check-pull"
check simple simple simple-chroot >"$page/check-simple"
check complex complex complex-chroot >"$page/check-complex"
check complex prebuilt complex-chroot >"$page/check-prebuilt"
check regression prebuilt complex >"$page/check-regression"

# A figure of summary.tsv: FOLDER KEY MEASURE COLUMN, for people; KEY is a regular expression, the first that fits counts.
figure() {
    awk -F'\t' -v key="$2" -v measure="$3" -v column="$4" '
        FNR > 1 && $2 ~ key && $3 == measure {
            if (measure == "memory") printf "%.0f MB", $column / 1e6
            else if ($column < 1e9) printf "%.0f ms", $column / 1e6
            else printf "%.2f s", $column / 1e9
            found = 1
            exit
        }
        END { if (!found) printf "–" }' "$1/summary.tsv"
}
# What check says of a budget: NAME FILE
said() { sed -nE "s/^$1 +(within|OVER|alert|can't tell) .*/\1/p" "$page/check-$2" | head -1; }
besides() { # FOLDER: what the command takes beside the container's run, the difference of medians
    awk -F'\t' '$3 == "wall" && $2 == "total" { all = $5 } $3 == "wall" && $2 == "podman run > run" && !run { run = $5 }
        END { printf "%.0f ms", (all - run) / 1e6 }' "$1/summary.tsv"
}
line() { # NAME FOLDER KEY DOCUMENT TARGET VERDICT
    echo "| $1 | $4 | $5 | $(figure "$2" "$3" wall 5) | $(figure "$2" "$3" wall 10) | $6 |"
}
{
    echo '| | estimated | target | median | P95 | `check` |'
    echo '|---|---:|---:|---:|---:|---|'
    line 'pull, not there yet' pull '> pull [^>]*$' '10–30 s' '< 30 s' "$(said pull pull)"
    line 'create, image just pulled' pull '^podman [a-z]+ > create$' '1–2 s' '< 5 s' "$(said create pull)"
    line 'start, image just pulled' pull '^podman [a-z]+ > start$' '< 1 s' '< 5 s' "$(said start pull)"
    line create simple '^podman [a-z]+ > create$' '1–2 s' '< 1 s' "$(said create simple)"
    line start simple '^podman [a-z]+ > start$' '< 1 s' '< 1 s' "$(said start simple)"
    line exec session '^podman [a-z]+ > run > exec$' minimal – –
    echo "| all but run | 2–4 s | – | $(besides simple) | – | – |"
    line 'cleanup of `podman run --rm`' simple '^podman [a-z]+ > cleanup$' '< 1 s' '< 2 s' "$(said cleanup simple)"
    line 'cleanup of a complex build' complex '^podman [a-z]+ > cleanup$' '< 1 s' '< 2 s' "$(said cleanup complex)"
} >"$page/lifecycle"
# Runs with and without a pull.
hits() {
    awk -F'\t' 'FNR > 1 { run[$2] = 1 } $5 ~ /> pull / { pulled[$2] = 1 }
        END { for (r in run) { all++; n += !(r in pulled) } printf "%d of %d", n, all }' "$1/runs.tsv"
}
echo "$(hits pull) after the image had been removed, $(hits simple) with the image at hand" >"$page/hits"
overhead() { # FOLDER BASELINE
    awk -F'\t' '$2 == "total" && $3 == "wall" { median[FILENAME] = $5 }
        END { a = median[ARGV[1]]; b = median[ARGV[2]]; printf "%+.0f ms, %+.1f %%", (a - b) / 1e6, 100 * (a - b) / b }' \
        "$1/summary.tsv" "$2/summary.tsv"
}
build() { # NAME FOLDER BASELINE TARGET VERDICT
    echo "| $1 | $(figure "$2" '^total$' wall 5) | $(figure "$3" '^total$' wall 5) | $(overhead "$2" "$3") | $4 | $5 |"
}
{
    echo '| Build | container | chroot | overhead | target | `check` |'
    echo '|---|---:|---:|---:|---:|---|'
    build 'simple, `podman run --rm`' simple simple-chroot '< 20 %' "$(said overhead simple)"
    build 'simple, create to rm' session simple-chroot – –
    build 'complex, create to rm' complex complex-chroot '< 30 %' "$(said overhead complex)"
    build 'complex, dependencies in the image' prebuilt complex-chroot '< 30 %' "$(said overhead prebuilt)"
    build 'repository, `podman run --rm`' repository repository-chroot – –
} >"$page/builds"
# From which length of a build on the overhead is below a fifth.
awk -F'\t' '$2 == "total" && $3 == "wall" { median[FILENAME] = $5 }
    END { more = 5 * (median[ARGV[1]] - median[ARGV[2]]) / 1e9; if (more > 0) printf "%.1f s", more; else print "any time" }' simple/summary.tsv simple-chroot/summary.tsv >"$page/long-enough"
{
    echo '| Series | runs | CPU of all threads | largest process | of it in `build` |'
    echo '|---|---:|---:|---:|---:|'
    for name in pull simple simple-chroot five complex complex-chroot prebuilt repository repository-chroot; do
        echo "| $name | $(awk -F'\t' '$2 == "total" && $3 == "wall" { print $4 }' "$name/summary.tsv") | $(figure $name '^total$' cpu_all 5) | $(figure $name '^total$' memory 8) | $(figure $name 'build$' memory 8) |"
    done
} >"$page/resources"
# What unpacking takes altogether, and what it was spent on along the path that its end waited for: FOLDER MEASURE
unpacking() {
    awk -F'\t' -v measure="$2" '$2 ~ /> unpack( #[0-9]+)?$/ && $3 == measure { sum += $5 } END { printf "%.2f s", sum / 1e9 }' "$1/summary.tsv"
}
{
    echo '| Series | dependencies | of it `dpkg --unpack` | on-CPU | run queue | disk | short waits | build |'
    echo '|---|---:|---:|---:|---:|---:|---:|---:|'
    for name in complex complex-chroot prebuilt; do
        echo "| $name | $(figure $name '> dependencies$|^dependencies$' wall 5) | $(unpacking $name wall) | $(unpacking $name cpu) | $(unpacking $name runqueue) | $(unpacking $name disk) | $(unpacking $name short_blocked) | $(figure $name 'build$' wall 5) |"
    done
} >"$page/dependencies"
# What the image with its dependencies is larger by.
size() { podman image inspect --format '{{.Size}}' "$1"; }
echo "$((($(size "$PREBUILT") - $(size "$IMAGE")) / 1000000)) MB" >"$page/layer"
mounted() { show layers "$1"/"$(ls "$1" | grep 'phg$' | head -1)" --width 110 | grep '^container ' | head -1 | sed 's/^container [^ ]*  //'; }
for name in simple complex; do echo "$name: $(mounted $name)"; done >"$page/mounts"

show diff simple-chroot simple --width 110 | verdict >"$page/diff-simple"
show diff simple five --width 110 | verdict >"$page/diff-five"
# Without the long lists of programs that are gone.
show diff complex prebuilt --width 110 | sed -n '/^phase/,/^found four/p; /^verdict/{s/^/\n/; :all; p; n; b all}' >"$page/diff-prebuilt"
show show --pareto complex --top 12 --width 110 >"$page/pareto-complex"
show show --pareto simple --top 8 --width 110 >"$page/pareto-simple"
show show --pareto pull --top 8 --width 110 >"$page/pareto-pull"
echo "\`$(uname -s) $(uname -r | cut -d- -f1)\`, $(nproc) CPUs, $(podman --version), $(runc --version | head -1), $(date -u +%F)" >"$page/host"
echo "$runs" >"$page/runs"
echo "$few" >"$page/few"
grep -c '^Package:' in/debs/Packages >"$page/packages"
cat "$SCENARIO/source" >"$page/source"
awk -F'\t' '$2 == "total" && $3 == "wall" { printf "%.2f s", $5 / 1e9 }' five/summary.tsv >"$page/five"
for name in simple complex pull; do cp "$SCENARIO/budgets/$name.toml" "$page/budget-$name"; done
if [ -n "${KEEP:-}" ]; then cp -r pull simple simple-chroot five session repository repository-chroot complex-chroot complex prebuilt page "$KEEP"; fi
