# Forces every rung of every signal and writes to $OUT/rungs what became of it, a line each: `SIGNAL=RUNG ok`, or
# `SIGNAL=RUNG refused: WHY`. The best rungs of all signals are forced in one recording, then the second ones, and so on;
# one that the kernel lacks is left out and the others are tried again.
phasegraph rungs >"$OUT/known" || exit 1
: >"$OUT/rungs"
rank=1
while :; do
    list=$(awk -F= -v rank=$rank '{ n[$1]++ } n[$1] == rank' "$OUT/known")
    [ "$list" ] || break
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
    rank=$((rank + 1))
done
cat "$OUT/rungs"
