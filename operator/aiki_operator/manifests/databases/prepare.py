"""What the managed Postgres's pod does before Postgres starts: the data directory, the role of the server, its password.

The official image sets a password once, when it makes the data directory, and never again: whoever changes the Secret
later is locked out, and so is a server whose Secret was lost. And the role that the image makes is a superuser, which
may read files and run programs in the pod. So an init container does both itself. It makes the data directory if there
is none, and at each start it writes the Secret's password into the role `aiki`, which owns the database `aiki` and is
no superuser. It asks nobody for the old password, because `postgres --single` opens the directory without a network.
The superuser `postgres` has no password: only a local socket in the pod lets it in.

The data directory is made beside its place and moved there when it is whole, so a pod that is killed in the middle
begins again. The script needs what each image with the official one's conventions has: bash, initdb and postgres.
"""

from __future__ import annotations

SCRIPT = r"""
set -euo pipefail
umask 077

single() { # DIRECTORY: runs one statement a line as the superuser, without a network; an error ends the script
    local output
    output=$(postgres --single -D "$1" -c exit_on_error=on postgres 2>&1) || { printf '%s\n' "$output" >&2; return 1; }
}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    if [ -n "$(ls -A "$PGDATA" 2>/dev/null)" ]; then
        echo "$PGDATA is not empty and holds no Postgres: empty it, or give the AikiServer another volume" >&2
        exit 1
    fi
    rm -rf "$PGDATA.part" "$PGDATA"
    initdb --pgdata="$PGDATA.part" --username=postgres --encoding=UTF8 --data-checksums \
        --auth-local=trust --auth-host=scram-sha-256 >/dev/null
    echo 'host all all all scram-sha-256' >>"$PGDATA.part/pg_hba.conf"
    single "$PGDATA.part" <<<'create role aiki login
create database aiki owner aiki'
    mv "$PGDATA.part" "$PGDATA"
fi

case $AIKI_PASSWORD in
*$'\n'*)
    echo "the Secret's password has a line break in it, which no client can send: take it out" >&2
    exit 1
    ;;
esac

version=$(<"$PGDATA/PG_VERSION")
wanted=$(postgres --version | grep -oE '[0-9]+' | head -n 1)
if [ "$version" != "$wanted" ]; then
    echo "the volume was written by Postgres $version and the image has $wanted: dump and restore, or go back to the old image" >&2
    exit 1
fi
single "$PGDATA" <<<"alter role aiki password '${AIKI_PASSWORD//\'/\'\'}'"
"""
"""PGDATA and AIKI_PASSWORD come from the environment. One statement a line is what single-user mode reads."""
