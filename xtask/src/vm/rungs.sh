# Forces every rung of every signal and writes to $OUT/rungs what became of it, a line each: `SIGNAL=RUNG ok`, or
# `SIGNAL=RUNG refused: WHY`. Where the tasks' state is kept decides what other rungs can be had, so its rungs are forced
# one by one. Of the others the best of all signals are forced in one recording, then the second ones, and so on; one that
# the kernel lacks is left out and the others are tried again.
phasegraph rungs >"$OUT/known" || exit 1
: >"$OUT/rungs"

# force LINES: all of them in one recording.
force() {
    list=$1
    while [ "$list" ]; do
        forced=$(echo "$list" | paste -sd, -)
        echo "forcing $forced"
        if error=$(PHASEGRAPH_RUNGS=$forced phasegraph run --quiet --no-summary --force -o /tmp/rung.phg -- true 2>&1); then
            phasegraph show --json /tmp/rung.phg >/tmp/rung.json || exit 1
            echo "$list" | sed 's/$/ ok/' >>"$OUT/rungs"
            break
        fi
        refused=$(echo "$error" | sed -n "s/.*[^a-z_]\\([a-z_]*=[a-z_-]*\\) is forced and can't be had: .*/\\1/p" | head -n 1)
        # A kernel without task storage can't make that variant's map, and says so before any rung is tried.
        case $error in *'map `TASKS`'*) refused=task_state=storage ;; esac
        echo "$error"
        # Whatever else went wrong is no answer of the kernel's.
        echo "$list" | grep -qFx -- "$refused" || exit 1
        why=$(echo "$error" | tr '\n' ' ' | sed "s/.*is forced and can't be had: //")
        echo "$refused refused: $why" >>"$OUT/rungs"
        list=$(echo "$list" | grep -vFx -- "$refused")
    done
}

for rung in $(grep '^task_state=' "$OUT/known"); do
    force "$rung"
done
rank=1
while :; do
    others=$(grep -v '^task_state=' "$OUT/known" | awk -F= -v rank=$rank '{ n[$1]++ } n[$1] == rank')
    [ "$others" ] || break
    force "$others"
    rank=$((rank + 1))
done
cat "$OUT/rungs"
