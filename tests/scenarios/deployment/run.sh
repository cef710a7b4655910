#!/bin/bash
# A recipe that deploys PostgreSQL and lighttpd, tests, upgrades, backs up and restores; cold and warm, and experiments with it.
# Started by `cargo xtask scenario deployment` in a mount and network namespace of its own; leaves $WORK/page.
. "$(dirname "$SCENARIO")/corner.sh"

runs=${RUNS:-5}
[ "$FULL" = no ] || runs=10
page=$WORK/page
cd "$WORK"
podman_settings runc

# Images are pulled from a registry on loopback.
local_registry

# Two versions of each image: the second one has another file /version. db-made is db with a cluster
# in the image.
mkdir context
cp "$SCENARIO/entry.sh" "$SCENARIO/lighttpd.conf" context/
chmod 755 context/entry.sh
cat >db.file <<'FILE'
FROM localhost/db
COPY entry.sh version /
ENV PATH=/postgresql:/usr/bin:/bin
USER postgres
STOPSIGNAL SIGINT
CMD ["/entry.sh"]
FILE
cat >web.file <<'FILE'
FROM localhost/web
COPY lighttpd.conf version /
CMD ["/usr/sbin/lighttpd", "-D", "-f", "/lighttpd.conf"]
FILE
cat >db-made.file <<'FILE'
FROM localhost/db-made
COPY version /
FILE
image() { # NAME
    local version
    for version in 1 2; do
        echo "$version" >context/version
        podman build --quiet --network=none --file "$1.file" --tag "127.0.0.1:5000/$1:$version" context >/dev/null
        podman push --quiet --tls-verify=false "127.0.0.1:5000/$1:$version" >/dev/null
    done
}
podman import --quiet db.tar localhost/db >/dev/null 2>&1
podman import --quiet web.tar localhost/web >/dev/null 2>&1
rm db.tar web.tar
image db
image web
podman run --name made --network=none --log-driver=none 127.0.0.1:5000/db:1 /entry.sh make
podman commit --quiet --change 'CMD ["/entry.sh"]' made localhost/db-made >/dev/null
podman rm made >/dev/null
image db-made
size() { podman image inspect --format '{{.Size}}' "127.0.0.1:5000/$1:1" | awk '{ printf "%.0f MB", $1 / 1e6 }'; }
for name in db web db-made; do size "$name" >"$page/size-$name"; done
version() { podman run --rm --network=none --log-driver=none "127.0.0.1:5000/$1:1" "${@:2}" | head -1; }
echo "\`$(uname -s) $(uname -r | cut -d- -f1)\`, $(nproc) CPUs, $(podman --version), $(runc --version | head -1), \
$(version db postgres --version), $(version web lighttpd -v | cut -d' ' -f1), $(date -u +%F)" >"$page/host"
podman rmi --all --force >/dev/null

recipe=$SCENARIO/recipe.sh
# By hand: what is pulled here stays for the warm runs.
bash "$recipe" base
bash "$recipe" made

bench() { # NAME OPTIONS...: a run that fails is no reason to stop, anything else is
    local name=$1
    shift
    "$PHASEGRAPH" bench --quiet --name "$name" --runs "$runs" --config "$SCENARIO/phasegraph.toml" --timeout 5m -o "$name" \
        "$@" -- bash "$recipe" '{way}' || [ -f "$name/results.json" ]
}
bench warm --param way=base,fast,shared,made,adopted --warmup 0
bench cold --param way=base,prepull --series cold --cold "bash $recipe cool {way}"

echo "$runs" >"$page/runs"
awk -F'\t' '$5 == "total" { all++; good += $3 == "ok" } END { printf "%d of %d", good, all }' warm/runs.tsv cold/runs.tsv >"$page/succeeded"
{
    echo '| Step | cold, median | CV | P95 | warm, median | CV | P95 |'
    echo '|---|---:|---:|---:|---:|---:|---:|'
    awk -F'\t' '
        $3 != "wall" || $1 !~ /way=base$/ || $2 !~ /^(total$|bash > )/ { next }
        { figures = sprintf("%.2f s | %.1f %% | %.2f s |", $5 / 1e9, 100 * $13, $10 / 1e9) }
        $1 ~ /^cold/ { cold[$2] = figures; next }
        { name = $2; sub(/^bash > /, "", name); print "| " name " | " cold[$2] " " figures }
    ' cold/summary.tsv warm/summary.tsv
} >"$page/baseline"
for kind in cold warm; do
    show show --pareto "$kind" --series "$kind way=base" --top 8 --width 120 | sed '1,2d' >"$page/pareto-$kind"
done
{
    echo '| Image | pull | download | unpack | commit |'
    echo '|---|---:|---:|---:|---:|'
    awk -F'\t' '
        $3 != "wall" || $1 != "cold way=base" || !match($2, / > pull [^ ]+/) { next }
        { image = substr($2, RSTART + 8, RLENGTH - 8); rest = substr($2, RSTART + RLENGTH + 3); sub(/ .*/, "", rest) }
        rest == "" { order[++n] = image; rest = "pull" }
        { sum[image, rest] += $5 }
        END {
            for (i = 1; i <= n; i++) {
                printf "| %s |", order[i]
                split("pull download unpack commit", parts, " ")
                for (j = 1; j <= 4; j++) printf " %.2f s |", sum[order[i], parts[j]] / 1e9
                print ""
            }
        }
    ' cold/summary.tsv
} >"$page/pulls"
# Of each wait for the database: how long until it listened (ready), and how long it went on behind that; means of a run.
{
    echo '| Way | waits for the database | waited | until it listened | of that initdb | after it listened | of the wait |'
    echo '|---|---:|---:|---:|---:|---:|---:|'
    for way in base fast made adopted; do
        for recording in warm/*-way-"$way"-*.phg; do "$PHASEGRAPH" export "$recording" --format tsv; done | awk -F'\t' -v way="$way" '
            function run(  w, r, to) {
                for (w = 1; w <= waits; w++) {
                    to = 0
                    for (r = 1; r <= readies; r++) if (ready[r] <= end[w] && ready[r] > to) to = ready[r]
                    if (to < begin[w]) to = begin[w]
                    before += to - begin[w]; after += end[w] - to
                    for (r = 1; r <= makes; r++) if (make_end[r] > begin[w] && make_end[r] <= end[w])
                        made += make_end[r] - (make[r] > begin[w] ? make[r] : begin[w])
                }
                count += waits; waits = readies = makes = 0
            }
            $1 == "phase_index" { run(); runs++; next }
            $3 == "wait db" { begin[++waits] = $13; end[waits] = $14 }
            $3 == "initdb" { make[++makes] = $13; make_end[makes] = $14 }
            $2 == "ready" && $9 == "db" { ready[++readies] = $14 }
            END {
                run()
                printf "| %s | %.1f | %.2f s | %.2f s | %.2f s | %.2f s | %.0f %% |\n", way, count / runs, (before + after) / runs / 1e9, \
                    before / runs / 1e9, made / runs / 1e9, after / runs / 1e9, 100 * after / (before + after)
            }'
    done
} >"$page/polling"

difference() { # FOLDER SERIES WAY PHASES...
    show diff "$1" "$1" --base-series "$2 way=base" --new-series "$2 way=$3" --width 120 "${@:4}" | sed -n '/^phase/,$p'
}
median() { # FOLDER SERIES
    awk -F'\t' -v series="$2" '$1 == series && $2 == "total" && $3 == "wall" { printf "%.2f s", $5 / 1e9 }' "$1/summary.tsv"
}
experiment() { # FOLDER WAY WORDS
    local verdict decision='open: more runs are needed'
    difference "$1" "$1" "$2" --phase total >"$page/diff-$2"
    verdict=$(sed -n '/^verdict/,$p' "$page/diff-$2" | tr -s '\n ' ' ')
    case $verdict in
        *'the command as a whole is '*' shorter'*) decision=keep ;;
        *'the command as a whole is '*' longer'* | *'the same'* | *': changed:'*) decision=discard ;;
    esac
    echo "| $3 | $(median "$1" "$1 way=base") | $(median "$1" "$1 way=$2") | ${verdict#verdict: }| $decision |"
}
{
    echo '| Changed | before | after | verdict of `diff` on the total | |'
    echo '|---|---:|---:|---|---|'
    experiment warm fast 'readiness is asked for every 0.1 s instead of 1 s (`fast`)'
    experiment cold prepull 'images are pulled before the run (`prepull`)'
    experiment warm shared 'one deployment for both stages instead of one each (`shared`)'
} >"$page/experiments"
experiment warm made 'a cluster is in the image (`made`)' >/dev/null
experiment warm adopted 'all of it (`adopted`)' >/dev/null
if [ -n "${KEEP:-}" ]; then cp -r cold warm page "$KEEP"; fi
