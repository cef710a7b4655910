#!/bin/bash
# A pipeline of eight short function containers: sequential, parallel, and with one container for all of them.
# Started by `cargo xtask scenario pipeline` in a mount and network namespace of its own; leaves $WORK/page.
. "$(dirname "$SCENARIO")/corner.sh"

runs=3
[ "$FULL" = no ] || runs=30
page=$WORK/page
cd "$WORK"

podman_settings runc
busybox_root image
cp "$SCENARIO/function.sh" image/function.sh
tar -C image -cf image.tar .
podman import --quiet image.tar localhost/functions >/dev/null
pipeline() { echo bash "$SCENARIO/pipeline.sh" "$1"; }

# One pipeline by hand: what the functions must come to, whichever way they are run.
$(pipeline sequential)
cp stages/generate resources
want=$(md5sum <stages/deliver)

bench() { # NAME MODE OPTIONS...
    local name=$1 mode=$2
    shift 2
    "$PHASEGRAPH" bench --quiet --name "$name" --runs "$runs" --history history.sqlite -o "$name" "$@" -- $(pipeline "$mode") || [ $? = 1 ]
}
rm -f count
bench sequential sequential --unprofiled
bench parallel parallel
bench reused reused
[ "$(md5sum <stages/deliver)" = "$want" ]
rm -f count
FAILING=yes bench failing sequential --warmup 0

# show COMMAND...: what a command prints, whatever its verdict.
show() { "$PHASEGRAPH" "$@" || true; }
# The table of stages: runs, success, median, P95 and P99 of each function's container, from the tables that bench writes.
stages() { # FOLDER
    echo '| Stage | Runs | Median | Mean | P95 | P99 |'
    echo '|---|---:|---:|---:|---:|---:|'
    awk -F'\t' '$3 == "wall" && $2 ~ /^podman run [a-z-]+ > run$/ {
        split($2, part, " ")
        printf "| %s | %d | %.0f ms | %.0f ms | %.0f ms | %.0f ms |\n", part[3], $4, $5 / 1e6, $6 / 1e6, $10 / 1e6, $11 / 1e6
    }' "$1/summary.tsv"
}
total() { # FOLDER COLUMN
    awk -F'\t' -v column="$2" '$2 == "total" && $3 == "wall" { printf "%.2f s", $column / 1e9 }' "$1/summary.tsv"
}
succeeded() { # FOLDER: successful runs of all
    awk -F'\t' '$5 == "total" { all++; good += $3 == "ok" } END { printf "%d of %d", good, all }' "$1/runs.tsv"
}
{
    echo "\`$(uname -sr)\`, $(nproc) CPUs, $(podman --version), $(crun --version | head -1), $runs runs of each."
} >"$page/host"
stages sequential >"$page/stages"
show show --pareto sequential --top 8 --width 100 >"$page/pareto"
show diff sequential parallel --width 100 | sed -n '/^verdict/,$p' >"$page/parallel"
show diff sequential reused --width 100 | sed -n '/^verdict/,$p' >"$page/reused"
for name in sequential parallel reused; do
    total "$name" 5 >"$page/$name-median"
    total "$name" 10 >"$page/$name-p95"
    total "$name" 11 >"$page/$name-p99"
done
"$PHASEGRAPH" show "$(ls sequential/*.phg | head -1)" --width 100 >one.txt
show bench --help >/dev/null
sed -n '/effect on the command/,$p' < <(show diff sequential sequential) >/dev/null
succeeded failing >"$page/succeeded"
show check --budget "$SCENARIO/budget.toml" --baseline sequential failing --width 100 >"$page/check"
cp "$SCENARIO/budget.toml" "$page/budget"
"$PHASEGRAPH" export "$(ls sequential/*.phg | head -1)" --format prometheus -o metrics.prom
grep -E '^phasegraph_phase_duration_seconds_(sum|count)' metrics.prom | head -12 >"$page/metrics" || head -20 metrics.prom >"$page/metrics"
if [ -n "${KEEP:-}" ]; then cp -r sequential parallel reused failing history.sqlite metrics.prom page "$KEEP"; fi
