#!/bin/bash
# The pipeline: eight function containers, each with the one before it as its input, or all at once on the same input.
# Usage: pipeline.sh sequential|parallel|reused
set -euo pipefail
functions=(generate set-namespace set-labels set-annotations render validate sort deliver)
folder=$WORK/stages
mkdir -p "$folder"

# The site of the last stage does not answer in every tenth pipeline.
count=$(($(cat "$WORK/count" 2>/dev/null || echo 0) + 1))
echo "$count" >"$WORK/count"
reachable=yes
[ "${FAILING:-no}" = no ] || [ $((count % 10)) -ne 5 ] || reachable=no

stage() { # NAME INPUT OUTPUT
    podman run --rm --interactive --network=none --log-driver=none --env REACHABLE="$reachable" --name "$1" \
        localhost/functions /bin/sh /function.sh "$1" <"$2" >"$3"
}

case $1 in
    sequential)
        input=/dev/null
        for name in "${functions[@]}"; do
            stage "$name" "$input" "$folder/$name"
            input=$folder/$name
        done
        ;;
    parallel)
        input=$WORK/resources
        pids=()
        for name in "${functions[@]}"; do
            stage "$name" "$input" "$folder/$name" &
            pids+=($!)
        done
        for pid in "${pids[@]}"; do wait "$pid"; done
        ;;
    reused)
        # One container for the pipeline, a process in it for each function.
        podman run --detach --rm --network=none --log-driver=none --env REACHABLE="$reachable" --name pipeline \
            localhost/functions /bin/sleep 1000 >/dev/null
        input=/dev/null
        for name in "${functions[@]}"; do
            podman exec --interactive pipeline /bin/sh /function.sh "$name" <"$input" >"$folder/$name"
            input=$folder/$name
        done
        podman rm --force --time 0 pipeline >/dev/null
        ;;
esac
