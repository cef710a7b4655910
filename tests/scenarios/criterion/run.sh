#!/bin/bash
# A Rust benchmark (Criterion) in a docker container, its receipt, baseline and trend, and phasegraph in a container itself.
# Started by `cargo xtask scenario criterion` in a mount and network namespace of its own; leaves $WORK/page.
. "$(dirname "$SCENARIO")/corner.sh"

runs=7 criterion=2 results=8 times="--warm-up-time 0.5 --measurement-time 1"
[ "$FULL" = no ] || runs=20 criterion=10 results=20 times=""
mebibytes=64
page=$WORK/page
cd "$WORK"
# Debian's programs, whatever else there is.
PATH=/usr/sbin:/usr/bin:/sbin:/bin

# What dockerd and containerd write outside of the folders that they are given; only in this namespace.
made=
[ -d /var/lib/containerd ] || { mkdir /var/lib/containerd && made=/var/lib/containerd; }
for folder in /etc/docker /opt /var/lib/containerd; do mount -t tmpfs none "$folder"; done
export DOCKER_HOST="unix://$WORK/docker.sock" DOCKER_CONFIG="$WORK/docker" DOCKER_BUILDKIT=0
echo '{}' >daemon.json

finish() {
    trap '' INT TERM HUP
    set +e
    # What was going on, before the daemon that it talks to.
    for child in $(cat /proc/$$/task/$$/children); do
        [ "$child" = "$dockerd" ] || kill "$child"
    done 2>/dev/null
    docker ps --all --quiet | xargs -r docker rm --force
    kill "$dockerd"
    wait "$dockerd"
    rmdir /sys/fs/cgroup/docker
    [ -z "$made" ] || { umount "$made" && rmdir "$made"; }
} >/dev/null 2>&1
setpriv --pdeathsig TERM dockerd --config-file daemon.json --iptables=false --ip6tables=false --bridge=none \
    --storage-driver overlay2 --data-root "$WORK/data" --exec-root "$WORK/exec" --pidfile "$WORK/dockerd.pid" \
    --host "$DOCKER_HOST" >dockerd.log 2>&1 &
dockerd=$!
trap finish EXIT
trap 'exit 130' INT
for _ in $(seq 600); do
    if docker version >/dev/null 2>&1; then break; fi
    kill -0 "$dockerd" || { tail dockerd.log >&2; exit 1; }
    sleep 0.05
done
docker import --message root root.tar root >/dev/null
for version in text direct; do docker build --quiet --tag "benchmark:$version" "image/$version" >/dev/null; done

mkdir out
container() { # ARGUMENTS...: the benchmark's
    echo docker run --rm --name benchmark --network=none --log-driver=none --volume "$WORK/out:/out" \
        --env CRITERION_HOME=/out benchmark "$@"
}
bench() { # FOLDER VERSION RUNS OPTIONS... -- COMMAND...: of a version's commit and image
    local folder=$1 version=$2 runs=$3
    shift 3
    git -C source checkout --quiet "$version"
    docker tag "benchmark:${version/back/text}" benchmark
    (cd source && "$PHASEGRAPH" bench --quiet --runs "$runs" --config "$SCENARIO/phasegraph.toml" --timeout 5m \
        --note "toolchain=$(cat "$WORK/toolchain")" -o "$WORK/$folder" "$@") || [ -f "$folder/results.json" ]
}
# Criterion compares with the results before: each run begins without.
bench criterion text "$criterion" --name criterion --cold "rm -rf $WORK/out/decode" --series cold -- $(container criterion $times)
mv out out-text && mkdir out
bench text text "$runs" --name text -- $(container fixed "$mebibytes")
bench direct direct "$runs" --name direct -- $(container fixed "$mebibytes")
numbers() { docker run --rm --network=none --log-driver=none "benchmark:$1" fixed 1; }
[ "$(numbers text)" = "$(numbers direct)" ]
# The same benchmark with fewer resamplings and no plots, and of the other version.
bench lean text "$criterion" --name lean --cold "rm -rf $WORK/out/decode" --series cold -- \
    $(container criterion $times --nresamples 1000 --noplot)
rm -r out && mkdir out
docker tag benchmark:direct benchmark
$(container criterion $times) >/dev/null 2>&1
# A history in which the faster version is taken back half-way.
for number in $(seq "$results"); do
    version=direct
    [ "$number" -le $((results / 2)) ] || version=back
    bench "history-$number" "$version" 1 --name nightly --warmup 0 --history "$WORK/history.sqlite" -- $(container fixed "$mebibytes")
done

# phasegraph in a container: privileged, or with what it needs where a privileged one can't be had.
mkdir -p image/phasegraph inside
cp "$SCENARIO/Dockerfile.phasegraph" image/phasegraph/Dockerfile
strip -o image/phasegraph/phasegraph "$PHASEGRAPH"
docker build --quiet --tag phasegraph image/phasegraph >/dev/null
cp "$SCENARIO/phasegraph.toml" inside
profiler() { # OPTIONS...: docker's, then the image and phasegraph's arguments
    docker run --rm --name profiler --network=none --log-driver=none --volume "$WORK/inside:/out" --workdir /out "$@"
}
rights="--privileged --pid=host"
profiler $rights phasegraph --version >/dev/null 2>&1 ||
    rights="--pid=host --security-opt seccomp=unconfined --cap-add SYS_ADMIN --cap-add SYS_PTRACE --cap-add SYSLOG --cap-add DAC_READ_SEARCH"
profiler $rights phasegraph record --no-summary -o benchmark.phg 2>inside.log &
recording=$!
for _ in $(seq 600); do
    if grep -q attached inside.log; then break; fi
    kill -0 "$recording" || { cat inside.log >&2; exit 1; }
    sleep 0.1
done
$(container fixed "$mebibytes") >/dev/null
docker stop --time 60 profiler >/dev/null
wait "$recording"

figure() { # FOLDER PHASE MEASURE [COLUMN]: of summary.tsv, ns; the median
    awk -F'\t' -v phase="$2" -v measure="$3" -v column="${4:-5}" \
        '($2 == phase || $2 ~ " > " phase "$") && $3 == measure { print $column }' "$1/summary.tsv"
}
per_second() { awk -v ns="$1" -v mebibytes="$mebibytes" 'BEGIN { printf "%.0f MiB/s", mebibytes * 1e9 / ns }'; }
estimate() { # FOLDER KIND: Criterion's, with the interval
    jq -r --argjson bytes "$(jq '.throughput.Bytes' "$1/decode/$2/new/benchmark.json")" \
        '.mean | [.point_estimate, .confidence_interval.upper_bound, .confidence_interval.lower_bound] |
        map($bytes * 1e9 / 1048576 / . | round) | "\(.[0]) MiB/s (\(.[1]) to \(.[2]))"' "$1/decode/$2/new/estimates.json"
}
stacks() { # FOLDER PHASE KIND: folded stacks of all runs
    for recording in "$1"/*.phg; do "$PHASEGRAPH" flame "$recording" --phase "$2" --kind "$3" --folded --roots none -o -; done
}
echo "\`$(uname -s) $(uname -r | cut -d- -f1)\`, $(nproc) CPUs, Docker $(docker version --format '{{.Server.Version}}'), \
$(runc --version | head -1), $(cut -d' ' -f1,2 "$WORK/toolchain"), $(date -u +%F)" >"$page/host"
for name in runs criterion results mebibytes; do echo "${!name}" >"$page/$name"; done
{
    echo '| Version | Records | Criterion (95 % interval) | fixed amount | of its CPU time alone | without a CPU | runs differ by (CV) |'
    echo '|---|---|---:|---:|---:|---:|---:|'
    for name in text direct; do
        folder=out-text
        [ "$name" = text ] || folder=out
        for kind in display comp3; do
            wall=$(figure $name $kind wall)
            echo "| $name | $kind | $(estimate $folder $kind) | $(per_second "$wall") |" \
                "$(per_second "$(figure $name $kind cpu_all)") |" \
                "$(awk -v q="$(figure $name $kind runqueue)" -v w="$wall" 'BEGIN { printf "%.1f %%", 100 * q / w }') |" \
                "$(awk -v cv="$(figure $name $kind wall 13)" 'BEGIN { printf "%.1f %%", 100 * cv }') |"
        done
    done
} >"$page/throughput"
{
    echo '| CPU time of a run | criterion, display | criterion, comp3 | lean, display | lean, comp3 |'
    echo '|---|---:|---:|---:|---:|'
    for name in criterion lean; do
        for kind in display comp3; do
            stacks $name "criterion-$kind" cpu | awk -v runs="$criterion" '
                { part = "anything else" }
                /Bencher<M>::iter/ { part = "measuring" }
                /warm_up/ { part = "warming up" }
                part == "anything else" && /rayon|criterion::stats|criterion::analysis::(estimates|compare)/ { part = "resampling" }
                part == "anything else" && /plotters|criterion::(plot|html)/ { part = "plots and report" }
                { sum[part] += $NF; all += $NF }
                END {
                    count = split("warming up,measuring,resampling,plots and report,anything else", parts, ",")
                    for (i = 1; i <= count; i++) printf "%.0f ms, %.1f %%\n", sum[parts[i]] / runs / 1e3, 100 * sum[parts[i]] / all
                }' >"parts-$name-$kind"
        done
    done
    printf '%s\n' 'warming up' measuring resampling 'plots and report' 'anything else' |
        paste -d'|' - parts-criterion-{display,comp3} parts-lean-{display,comp3} | sed 's/|/ | /g; s/^/| /; s/$/ |/'
} >"$page/parts"
# Shares of functions with what they call, below the decoder.
for name in text direct; do
    stacks $name comp3 cpu | awk '{
        count = $NF; sub(/ [0-9]+$/, ""); all += count; n = split($0, frames, ";"); delete seen; below = 0
        for (i = 1; i <= n; i++) {
            if (frames[i] ~ /^records::Kind::decode/) below = 1
            if (below && frames[i] !~ /_\[k\]$/ && !(frames[i] in seen)) { seen[frames[i]] = 1; sum[frames[i]] += count }
        }
    } END { for (name in sum) printf "%5.1f %%  %s\n", 100 * sum[name] / all, name }' | sort -rn | head -12 >"$page/functions-$name"
done
show show --pareto text --top 8 --width 100 >"$page/pareto"
show diff text direct --width 100 | verdict >"$page/diff"
cat "$SCENARIO/slo.toml" >"$page/slo"
show check --budget "$SCENARIO/slo.toml" --width 100 --receipt receipt.json text 2>/dev/null >"$page/check"
jq 'del(.host.hostname, .budgets[1:], .budgets[].why, .command[6:], .baseline)' receipt.json >"$page/receipt"
show check --budget "$SCENARIO/regression.toml" --baseline direct --width 100 text >"$page/regression"
for measure in wall cpu_all; do show trend comp3 --measure $measure --history history.sqlite --width 100; done >"$page/trend"
printf '%s\n' "docker run $rights --volume DIR:/out --workdir /out phasegraph record" >"$page/command"
show show inside/benchmark.phg --container benchmark --width 100 | sed -n '/^docker run/,/^$/p' >"$page/inside"
{
    for missing in "" --pid=host "${rights/--pid=host/}" "$rights --tmpfs /sys"; do
        echo "\$ docker run $missing phasegraph record" | tr -s ' '
        profiler $missing phasegraph record --duration 1s -o missing.phg 2>&1 | fold -s -w 100 || true
    done
} >"$page/missing"
if [ -n "${KEEP:-}" ]; then cp -r criterion lean text direct history-* history.sqlite inside receipt.json page "$KEEP"; fi
