#!/bin/bash
# pg.sh USERS [ENCODING] - a fresh PostgreSQL cluster with a Wazo database for that many users, inside the host.
set -eu
users=$1 encoding=${2:-UTF8}
here=$(dirname "$(readlink -f "$0")")
version=$(ls /usr/lib/postgresql | sort -n | tail -1)
# the machine's own clusters show through in the overlay; they are not ours to start or stop
rm -rf /etc/postgresql/* /var/lib/postgresql/* /run/postgresql; install -d -o postgres -g postgres /run/postgresql /var/lib/postgresql
pg_createcluster --port 5432 --encoding UTF8 --locale C.UTF-8 "$version" main -- -N >/dev/null
touch "/etc/postgresql/$version/main/lab"
# a lab host loses power, its disk does not: waiting for the disk would only cost time
echo 'fsync = off' > "/etc/postgresql/$version/main/conf.d/lab.conf"
pg_ctlcluster --skip-systemctl-redirect "$version" main start
run() { (cd /; setpriv --reuid postgres --regid postgres --init-groups "$@"); }
run createdb --template template0 --encoding "$encoding" --locale C asterisk
{ "$here/pbxdb.py" ddl; [ "$users" = 0 ] || "$here/pbxdb.py" rows --users "$users"; } |
  run psql -X -q -v ON_ERROR_STOP=1 -o /dev/null asterisk
