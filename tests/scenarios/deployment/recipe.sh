#!/bin/bash
# The recipe's CI: PostgreSQL and lighttpd are deployed, tested, upgraded, backed up and restored. Each stage and each step is a
# process of its own, started as `recipe.sh NAME`.
# Usage: recipe.sh WAY; before a cold run `recipe.sh cool WAY`
set -euo pipefail
registry=127.0.0.1:5000
export INTERVAL=${INTERVAL:-1} DB=${DB:-db}

step() { bash "$0" "$@"; }
fail() { echo "recipe: $*" >&2; exit 1; }
sql() { podman exec --interactive db psql --host=127.0.0.1 --username=postgres --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1; }
# The version that runs, as a file in the image says it, and the rows that there are.
state="\\! cat /version
SELECT count(*), md5(string_agg(n || word, ',' ORDER BY n)) FROM words;"
page() { busybox wget -q -O - "http://127.0.0.1:8080/$1"; }
until_ready() { # COMMAND...: for a minute at most
    local deadline=$((SECONDS + 60))
    until "$@"; do
        [ $SECONDS -lt $deadline ] || fail "not ready: $*"
        sleep "$INTERVAL"
    done
}

case $1 in
    # A deployment for each stage; readiness is asked for every second. `prepull` differs in what happens before (cool).
    base | prepull)
        step pull
        step upgrade
        step backup
        ;;
    # Readiness is asked for every 0.1 s.
    fast) INTERVAL=0.1 step base ;;
    # One deployment for both stages.
    shared)
        step pull
        step all
        ;;
    # The database's image has a cluster in it.
    made) DB=db-made step base ;;
    # All of these.
    adopted) INTERVAL=0.1 DB=db-made step shared ;;
    cool)
        podman rmi --all --force >/dev/null
        [ "$2" != prepull ] || step pull
        ;;
    # Stages.
    upgrade)
        step deploy 1
        step test 1
        step replace 2
        step check 2
        step teardown
        ;;
    backup)
        step deploy 2
        step test 2
        step dump
        step restore
        step teardown
        ;;
    all)
        step deploy 1
        step test 1
        step replace 2
        step check 2
        step dump
        step restore
        step teardown
        ;;
    # Steps.
    pull)
        for image in "$DB:1" web:1 "$DB:2" web:2; do
            podman image exists "$registry/$image" || podman pull --quiet --tls-verify=false "$registry/$image" >/dev/null
        done
        ;;
    deploy)
        podman run --detach --name db --network=host --log-driver=none --volume data:/var/lib/postgresql/data \
            "$registry/$DB:$2" >/dev/null
        podman run --detach --name web --network=host --log-driver=none --volume pages:/srv/www "$registry/web:$2" >/dev/null
        step wait db
        step wait web
        ;;
    wait)
        case $2 in
            db) until_ready podman exec db pg_isready --quiet --host=127.0.0.1 ;;
            web) until_ready page health >/dev/null ;;
        esac
        ;;
    test)
        sql >"$WORK/state" <<SQL
CREATE TABLE words (n int PRIMARY KEY, word text);
INSERT INTO words SELECT n, md5(n::text) FROM generate_series(1, 5000) n;
$state
SQL
        tail -n 1 "$WORK/state" >"$WORK/rows"
        [[ $(head -n 1 "$WORK/state") = "$2" && $(cat "$WORK/rows") = 5000\|* ]] || fail "the database has $(cat "$WORK/state")"
        echo "<p>recipe $2, $(date +%s%N)</p>" >"$WORK/index.html"
        podman exec --interactive web sh -c 'cat >/srv/www/index.html' <"$WORK/index.html"
        page index.html | cmp - "$WORK/index.html"
        [ "$(page version)" = "$2" ] || fail "the web server is not version $2"
        ;;
    replace)
        podman rm --force --time 10 db web >/dev/null
        step deploy "$2"
        ;;
    # After an upgrade: what runs is the new version, with the old one's rows and page.
    check)
        sql <<<"$state" | cmp - <(echo "$2"; cat "$WORK/rows")
        page index.html | cmp - "$WORK/index.html"
        [ "$(page version)" = "$2" ] || fail "the web server is not version $2"
        ;;
    dump) podman exec db pg_dump --host=127.0.0.1 --username=postgres postgres >"$WORK/backup.sql" ;;
    restore)
        { echo 'DROP TABLE words;'; cat "$WORK/backup.sql"; echo "RESET search_path; $state"; } | sql | tail -n 1 | cmp - "$WORK/rows"
        ;;
    teardown)
        podman rm --force --time 10 db web >/dev/null
        podman volume rm data pages >/dev/null
        ;;
esac
