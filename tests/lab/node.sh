#!/bin/bash
# node.sh PRODUCT PROGRAM - makes the host it runs in a node of a pair: layout, commands, sshd. Run once, as root, inside
# the host. What follows is of Wazo and XiVO; SARK's nodes are another sort (sark.sh). The master has configuration to copy; the slave is a fresh installation that stands by.
set -eu
product=$1 program=$2
here=$(dirname "$(readlink -f "$0")")
host=$(hostname)
state=/var/lib/$product

case $product in
  sark) exec "$here/sark.sh" "$program";;
  wazo)
    commands="wazo-service wazo-confgen wazo-agentd-cli"
    sounds=$state/sounds/tenants/5a51b0e8-0000-4000-8000-000000000001
    keys=/var/lib/wazo-auth-keys more=/root/.config/wazo-auth-cli;;
  xivo)
    commands="xivo-service xivo-confgen xivo-agentd-cli asterisk"
    sounds=$state/sounds
    keys=$state/certificates more=;;
  *) echo "node.sh: no such product: $product" >&2; exit 2;;
esac

# a machine with a PBX of its own lends nothing of it either
rm -rf /etc/xivo /var/lib/wazo /var/lib/xivo /etc/pbx-ha /var/lib/pbx-ha /etc/cron.d/xivo-ha-* /var/lib/asterisk/moh \
  /etc/asterisk/extensions_extra.d
mkdir -p /etc/xivo/asterisk /etc/asterisk/extensions_extra.d /etc/pbx-ha /etc/cron.d /run/asterisk /run/lab/on \
  /var/lib/asterisk/moh/default /var/lib/asterisk/agi-bin $keys $more \
  $sounds/{playback,acd,recordings,monitoring-jingles}

for command in $commands xivo-create-config xivo-update-config dhcpd-update service update-rc.d systemctl mail mutt; do
  ln -sf "$here/stub.sh" /usr/bin/$command; ln -sf "$here/stub.sh" /usr/sbin/$command
done
ln -sf "$program" /usr/bin/"$product"-ha
for script in xivo-check-master-status xivo-manage-slave-services xivo-master-slave-db-replication; do
  ln -sf "$program" /usr/sbin/$script
done
ln -sf "$program" /usr/bin/"$product"-sync

if [ "$host" = master ]; then
  for i in 1 2 3 4 5 6 7 8; do
    printf '[extra%d]\nexten = %d,1,NoOp()\n' $i $i > /etc/asterisk/extensions_extra.d/extra$i.conf
    head -c $((i * 3000)) /dev/urandom > /var/lib/asterisk/moh/default/song$i.wav
    head -c $((i * 1000)) /dev/urandom > $sounds/playback/greeting$i.wav
  done
  echo secret > $keys/secret.key; chmod 600 $keys/*
  echo kept > $sounds/recordings/call.wav
  ln -s extra1.conf /etc/asterisk/extensions_extra.d/link.conf
else
  : > $state/disabled
fi

"$here/ssh.sh"
exec "$here/up.sh" "$product"
