#!/bin/bash
# up.sh PRODUCT - what starts by itself when a host of a pair, or beside one, boots: sshd, PostgreSQL when it has a cluster,
# telephony unless it is disabled, the contact centres. Run inside the host.
set -eu
here=$(dirname "$(readlink -f "$0")")
mkdir -p /run/sshd /run/asterisk /run/lab/on
/usr/sbin/sshd
for version in $(ls /etc/postgresql 2>/dev/null); do
  [ -e "/etc/postgresql/$version/main/lab" ] || continue
  rm -f "/var/lib/postgresql/$version/main/postmaster.pid"; install -d -o postgres -g postgres /run/postgresql
  pg_ctlcluster --skip-systemctl-redirect "$version" main start
done
case $(hostname) in
  # SARK's is started by its cluster
  master|slave) [ "$1" = sark ] || "$1"-service start;;
  cc) for address in 10.77.0.21 10.77.0.22; do "$here/xuc.sh" $address; done;;
esac
