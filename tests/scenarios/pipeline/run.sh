#!/bin/bash
# A pipeline of eight short function containers: one after the other, all at once, and all in one container.
# Started by `cargo xtask scenario pipeline` in a mount and network namespace of its own; leaves $WORK/page.
. "$(dirname "$SCENARIO")/corner.sh"

runs=8 failing=10
[ "$FULL" = no ] || runs=30 failing=100
page=$WORK/page
cd "$WORK"

podman_settings runc
busybox_root image
cp "$SCENARIO/function.sh" "$SCENARIO/together.sh" image/
tar -C image -cf image.tar .
podman import --quiet image.tar localhost/functions >/dev/null 2>&1
pipeline() { echo bash "$SCENARIO/pipeline.sh" "$1"; }

# One pipeline by hand: what the functions must come to, whichever way they are run.
$(pipeline sequential)
cp stages/render resources
want=$(md5sum <stages/deliver)

bench() { # NAME MODE RUNS OPTIONS...: a pipeline that fails is no reason to stop, anything else is
    local name=$1 mode=$2 runs=$3
    shift 3
    "$PHASEGRAPH" bench --quiet --name "$name" --runs "$runs" --config "$SCENARIO/phasegraph.toml" --timeout 5m \
        -o "$name" "$@" -- $(pipeline "$mode") || [ -f "$name/results.json" ]
}
rm -f count
bench sequential sequential "$runs"
bench parallel parallel "$runs"
bench together together "$runs"
[ "$(md5sum <stages/deliver)" = "$want" ]
rm -f count
FAILING=yes bench failing sequential "$failing" --warmup 0

column() { # FOLDER KEY COLUMN: a figure of summary.tsv, in seconds
    awk -F'\t' -v key="$2" -v column="$3" '$2 == key && $3 == "wall" { printf "%.2f s", $column / 1e9 }' "$1/summary.tsv"
}
functions='generate set-namespace set-labels set-annotations render validate sort deliver'
{
    echo '| Stage | Function | its container | average | P95 | P99 | container succeeded |'
    echo '|---|---:|---:|---:|---:|---:|---:|'
    for name in $functions; do
        # Function and container: medians; averages and tails of the container's run, from create to its end.
        awk -F'\t' -v name="$name" -v runs="$failing" '
            $3 == "wall" && $2 ~ " > " name "$" { own = $5 }
            $3 == "wall" && $2 ~ "^podman run " name " > (mount|create|start|run|cleanup)$" {
                median += $5; mean += $6; if ($2 ~ "run$") { p95 = $10; p99 = $11 }
            }
            END { printf "| %s | %.1f ms | %.0f ms | %.0f ms | %.0f ms | %.0f ms | ", name, own / 1e6, median / 1e6, mean / 1e6, p95 / 1e6, p99 / 1e6 }
        ' failing/summary.tsv
        # A stage behind one that failed never ran.
        awk -F'\t' -v name="$name" '
            FNR > 1 && $5 ~ "^podman run " name " > run$" { ran[$2] = 1; if (!(name == "deliver" && $3 != "ok")) good++ }
            END { for (run in ran) all++; printf "%d of %d |\n", good, all }
        ' failing/runs.tsv
    done
} >"$page/stages"
{
    echo '| Way | Median | P95 | P99 | Runs |'
    echo '|---|---:|---:|---:|---:|'
    for name in sequential parallel together; do
        printf '| %s | %s | %s | %s | %s |\n' "$name" "$(column "$name" total 5)" "$(column "$name" total 10)" \
            "$(column "$name" total 11)" "$(awk -F'\t' '$2 == "total" && $3 == "wall" { print $4 }' "$name/summary.tsv")"
    done
} >"$page/ways"
echo "\`$(uname -s) $(uname -r | cut -d- -f1)\`, $(nproc) CPUs, $(podman --version), $(runc --version | head -1), $(date -u +%F)" >"$page/host"
echo "$runs" >"$page/runs"
show show --pareto sequential --top 10 --width 100 >"$page/pareto"
for name in parallel together; do
    show diff sequential "$name" --width 100 | sed -n '/^verdict/,$p' >"$page/diff-$name"
done
awk -F'\t' '$5 == "total" { all++; good += $3 == "ok" } END { printf "%d of %d", good, all }' failing/runs.tsv >"$page/succeeded"
cp "$SCENARIO/budget.toml" "$page/budget"
show check --budget "$SCENARIO/budget.toml" --baseline sequential failing --width 100 >"$page/check"
"$PHASEGRAPH" export "$(ls sequential/*.phg | head -1)" --format prometheus -o metrics.prom 2>/dev/null
grep -E '^phasegraph_phase_duration_seconds_(sum|count)' metrics.prom | head -12 >"$page/metrics"
if [ -n "${KEEP:-}" ]; then cp -r sequential parallel together failing metrics.prom page "$KEEP"; fi
