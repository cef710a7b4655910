# Forces each rung of each signal, one after the other, and writes to $OUT/rungs what became of it.
# A rung that the kernel lacks is told in words; one that it has must give a recording.
failed=0
phasegraph rungs >"$OUT/known" || exit 1
while read -r rung; do
    error=$(phasegraph run --quiet --no-summary --force --rung "$rung" -o /tmp/rung.phg -- true 2>&1)
    status=$?
    if [ $status = 0 ]; then
        phasegraph show --json /tmp/rung.phg >/tmp/rung.json || failed=1
        echo "$rung ok" | tee -a "$OUT/rungs"
    else
        echo "$rung refused: $(echo "$error" | tr '\n' ' ')" | tee -a "$OUT/rungs"
    fi
done <"$OUT/known"
exit $failed
