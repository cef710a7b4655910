#!/bin/bash
# A build as a worker's daemon asks for it: a container that does nothing, the build put into it, its end.
# Usage: session.sh BUILD [OPTION OF create]...
set -euo pipefail
build=$1
shift
id=$(podman create "$@" --network=none --volume ./in:/in:ro "$IMAGE" sleep infinity)
podman start "$id" >/dev/null
podman exec "$id" sh /in/build.sh "$build"
podman stop --time 0 "$id" >/dev/null
# With --rm the engine may have been quicker.
podman rm --force --ignore "$id" >/dev/null
