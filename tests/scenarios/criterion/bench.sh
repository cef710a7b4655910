#!/bin/sh
# In the container: `criterion OPTIONS...` measures as long as it is told to, `fixed MEBIBYTES` decodes that much.
set -eu
what=$1
shift
for kind in display comp3; do
    case $what in
        criterion) /decode --bench "$@" "decode/$kind" ;;
        fixed) /fixed "$kind" "$1" ;;
    esac
done
