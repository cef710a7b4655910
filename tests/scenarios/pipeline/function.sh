#!/bin/sh
# One function of the pipeline: reads resources (one a line, fields parted by |) and writes them changed.
set -eu
case $1 in
    generate) awk 'BEGIN { for (i = 0; i < 2000; i++) printf "ConfigMap|app-%04d|default|\n", i }' ;;
    set-namespace) sed 's/|default|/|edge|/' ;;
    set-labels) sed 's/$/tier=edge,/' ;;
    set-annotations) awk '{ print $0 "owner=o2," }' ;;
    render) awk -F'|' '{ s = ""; for (i = 0; i < 40; i++) s = s substr($2, 1 + i % 7, 3); print $0 "|" s }' ;;
    validate) awk -F'|' 'NF < 5 { bad++ } END { exit bad > 0 }  { print }' ;;
    sort) sort -t'|' -k2,2r ;;
    # An edge site that can't be reached now and then: the caller says when.
    deliver) [ "${REACHABLE:-yes}" = yes ] || { echo "deliver: site 2 does not answer" >&2; exit 1; }; cat ;;
esac
