#!/bin/bash
# The pipeline: eight function containers, each with the one before it as its input; all at once, on the same input; or
# all in one container.
# Usage: pipeline.sh sequential|parallel|together
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
    together)
        # One container in which the functions run one after the other.
        podman run --rm --interactive --network=none --log-driver=none --env REACHABLE="$reachable" --name pipeline \
            localhost/functions /bin/sh /together.sh "${functions[@]}" </dev/null >"$folder/deliver"
        ;;
esac
