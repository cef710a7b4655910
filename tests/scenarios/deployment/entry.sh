#!/bin/sh
# The database's entrypoint: an empty volume becomes a cluster first, a copy of the image's where that has one.
# `entry.sh make` makes that one.
set -eu
data=/var/lib/postgresql/data
make() { initdb --pgdata="$1" --username=postgres --auth=trust --encoding=UTF8 --no-locale >/dev/null; }
if [ "${1:-}" = make ]; then
    make /made
    exit
fi
if [ ! -s $data/PG_VERSION ]; then
    if [ -s /made/PG_VERSION ]; then cp -a /made/. $data; else make $data; fi
fi
exec postgres -D $data -c listen_addresses=127.0.0.1 -c unix_socket_directories=/tmp
