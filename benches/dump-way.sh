#!/bin/bash
# dump-way.sh SLAVE_IP TABLE... - copies the database to the slave as Wazo's own script does: everything, each time.
#
# The baseline of `replication-figures`, and nothing else: whoever reads on the slave waits until it has ended. Written from
# the facts about that script: dump the rows without the excluded tables, TRUNCATE every table that the dump names, load
# it, in one transaction, as superuser over the network.
#
# TABLE... are excluded, `*` matches any ending. The script's own list is older: it copies call logs, tokens and sessions,
# half as many bytes again, over those of the slave. Here the caller names what the engine leaves out, so that both copy
# the same rows. TRUNCATE refuses a table that one outside its list points at, and with CASCADE it would empty that one too:
# what excluded tables point at, and what this points at in turn, is emptied with DELETE.
set -eu
umask 077
slave=$1; shift
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cd "$work"

excluded=()
for table; do excluded+=(-T "$table" -T "${table}_id_seq"); done
referenced='auth_(refresh_token|tenant|user)|call_logd_tenant|chatd_(endpoint|line|tenant|user)'
referenced+='|endpoint_sip|pjsip_transport|queuefeatures|tenant|webhookd_subscription'

# what it says about circular foreign keys is no error
pg_dump -U postgres --data-only --schema=public "${excluded[@]}" asterisk > dump.sql 2> said || { cat said >&2; exit 1; }

# the script looks for them in the same way
LC_ALL=C sed -n 's/^COPY public\.\([^ ]*\) (.*/\1/p' dump.sql > tables
{
  echo 'SET session_replication_role = replica;'
  echo 'BEGIN;'
  echo "TRUNCATE $(grep -vxE "$referenced" tables | paste -sd,);"
  grep -xE "$referenced" tables | sed 's/.*/DELETE FROM &;/'
  cat dump.sql
  echo 'COMMIT;'
  echo 'RESET session_replication_role;'
} > replication.sql
psql -X -q -U postgres -h "$slave" -v ON_ERROR_STOP=1 -o /dev/null -f replication.sql asterisk
