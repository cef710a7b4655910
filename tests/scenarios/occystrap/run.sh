#!/bin/bash
# occystrap, an image tool in Python, against a registry of our own: pulls to a folder and to an archive, a push.
# Started by `cargo xtask scenario occystrap` in a mount and network namespace of its own; leaves $WORK/page.
. "$(dirname "$SCENARIO")/corner.sh"

runs=5 sizes="1 1 2 4 8 16"
[ "$FULL" = no ] || runs=20 sizes="1 1 2 5 10 20 50 100"
page=$WORK/page
cd "$WORK"

local_registry
python3 "$SCENARIO/image.py" layout $sizes
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >policy.json
skopeo --policy policy.json copy --quiet --dest-tls-verify=false oci:layout:made docker://127.0.0.1:5000/library/made:1
rm -r layout

tool="$WORK/venv/bin/occystrap --insecure"
source=registry://127.0.0.1:5000/library/made:1
mkdir out
bench() { # NAME OPTIONS...
    local name=$1
    shift
    "$PHASEGRAPH" bench --quiet --name "$name" --runs "$runs" --series cold --timeout 5m -o "$name" "$@" || [ -f "$name/results.json" ]
}
bench dir --cold 'rm -rf out/dir' --param j=1,2,4,8 -- $tool -j '{j}' process "$source" dir://out/dir
bench tar --cold 'rm -f out/made.tar' --param j=1,4 -- $tool -j '{j}' process "$source" tar://out/made.tar
bench push --cold "rm -rf $WORK/registry/docker/registry/v2/repositories/bench" --param j=1,4 -- \
    $tool -j '{j}' process "$source" registry://127.0.0.1:5000/bench/made:1
# One certificate instead of all that there are: the registry is asked by plain HTTP.
sed -n '/BEGIN CERT/,/END CERT/p;/END CERT/q' "$("$WORK/venv/bin/python" -c 'import certifi; print(certifi.where())')" >one.pem
bench certificate --cold 'rm -rf out/dir' --param j=4 -- \
    env SSL_CERT_FILE="$WORK/one.pem" $tool -j '{j}' process "$source" dir://out/dir

echo "\`$(uname -s) $(uname -r | cut -d- -f1)\`, $(nproc) CPUs, $($WORK/venv/bin/pip list 2>/dev/null | awk '$1 == "occystrap" { print $1, $2 }'), \
$(python3 --version), $(docker-registry --version | head -1 | cut -d' ' -f1,3), $(date -u +%F)" >"$page/host"
echo "$runs" >"$page/runs"
echo "$sizes" >"$page/sizes"
{
    echo '| Workload | Median | CV | Min | Max | P95 | CPU of all threads |'
    echo '|---|---:|---:|---:|---:|---:|---:|'
    for name in dir tar push certificate; do
        awk -F'\t' -v name="$name" '
            FNR == 1 || $2 != "total" { next }
            $3 == "wall" { split($1, part, " "); line = sprintf("| %s, %s | %.2f s | %.1f %% | %.2f s | %.2f s | %.2f s |", name, part[2], $5 / 1e9, 100 * $13, $8 / 1e9, $9 / 1e9, $10 / 1e9) }
            $3 == "cpu_all" { printf "%s %.2f s |\n", line, $5 / 1e9 }
        ' "$name/summary.tsv"
    done
} >"$page/ways"
show diff dir dir --base-series 'cold j=1' --new-series 'cold j=4' --width 100 | verdict >"$page/diff-j"
show diff dir dir --base-series 'cold j=4' --new-series 'cold j=8' --width 100 | verdict >"$page/diff-more"
show diff dir certificate --base-series 'cold j=4' --new-series 'cold j=4' --width 100 | sed -n '/^phase/,$p' \
    >"$page/diff-certificate"
show show --pareto dir --top 10 --width 100 >"$page/pareto"
# Shares of CPU time of some functions, with what they call, over all runs to a folder with four threads.
for recording in dir/*-j-4-*.phg; do
    "$PHASEGRAPH" flame "$recording" --process python3 --folded --roots none -o -
done | awk '{
    count = $NF; sub(/ [0-9]+$/, ""); n = split($0, frames, ";"); delete seen; all += count
    for (i = 1; i <= n; i++) if (!(frames[i] in seen)) { seen[frames[i]] = 1; sum[frames[i]] += count }
} END {
    n = split("PyImport_ImportModuleLevelObject _ssl__SSLContext_load_verify_locations zlib_Decompress_decompress SHA256_Update gc_collect_main vfs_write_[k] sock_recv", names, " ")
    for (i = 1; i <= n; i++) if (names[i] in sum) printf "%5.1f %%  %s\n", 100 * sum[names[i]] / all, names[i]
}' | sort -rn >"$page/functions"
if [ -n "${KEEP:-}" ]; then cp -r dir tar push certificate page "$KEEP"; fi
