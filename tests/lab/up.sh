#!/bin/bash
# up.sh - what starts by itself when a Wazo host boots: sshd, PostgreSQL when it has a cluster, telephony unless
# it is disabled. Run inside the host.
set -eu
mkdir -p /run/sshd /run/asterisk /run/lab/on
/usr/sbin/sshd
for version in $(ls /etc/postgresql 2>/dev/null); do
  [ -e "/etc/postgresql/$version/main/lab" ] || continue
  rm -f "/var/lib/postgresql/$version/main/postmaster.pid"; install -d -o postgres -g postgres /run/postgresql
  pg_ctlcluster --skip-systemctl-redirect "$version" main start
done
wazo-service start
