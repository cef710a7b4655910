#!/bin/bash
# Runs with the host's network, before run.sh: the tool from PyPI.
set -euo pipefail
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/pip" install --quiet --disable-pip-version-check occystrap==0.4.17
