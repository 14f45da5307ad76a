#!/bin/bash
# pg.sh PRODUCT USERS [ENCODING] - a fresh PostgreSQL cluster with the product's database for that many users, inside the
# host.
set -eu
product=$1 users=$2 encoding=${3:-UTF8}
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
{ "$here/pbxdb.py" ddl --product "$product"; [ "$users" = 0 ] || "$here/pbxdb.py" rows --product "$product" --users "$users"; } |
  run psql -X -q -v ON_ERROR_STOP=1 -o /dev/null asterisk
