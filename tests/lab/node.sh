#!/bin/bash
# node.sh PROGRAM - makes the host it runs in a Wazo host: layout, commands, sshd. Run once, as root, inside the host.
# The master has configuration to copy; the slave is a fresh installation that stands by.
set -eu
program=$1
here=$(dirname "$(readlink -f "$0")")
host=$(hostname)
tenant=5a51b0e8-0000-4000-8000-000000000001

# a machine with a PBX of its own lends nothing of it either
rm -rf /etc/xivo /var/lib/wazo /etc/pbx-ha /var/lib/pbx-ha /etc/cron.d/xivo-ha-* /var/lib/asterisk/moh /etc/asterisk/extensions_extra.d
mkdir -p /etc/xivo/asterisk /etc/asterisk/extensions_extra.d /etc/pbx-ha /etc/cron.d /run/asterisk /run/lab/on \
  /var/lib/asterisk/moh/default /var/lib/asterisk/agi-bin /var/lib/wazo-auth-keys /root/.config/wazo-auth-cli \
  /var/lib/wazo/sounds/tenants/$tenant/{playback,acd,recordings,monitoring-jingles}

for command in wazo-service xivo-create-config xivo-update-config dhcpd-update service update-rc.d wazo-confgen \
  wazo-agentd-cli systemctl mail mutt; do
  ln -sf "$here/stub.sh" /usr/bin/$command; ln -sf "$here/stub.sh" /usr/sbin/$command
done
ln -sf "$program" /usr/bin/wazo-ha
for script in xivo-check-master-status xivo-manage-slave-services xivo-master-slave-db-replication; do
  ln -sf "$program" /usr/sbin/$script
done
ln -sf "$program" /usr/bin/wazo-sync

if [ "$host" = master ]; then
  for i in 1 2 3 4 5 6 7 8; do
    printf '[extra%d]\nexten = %d,1,NoOp()\n' $i $i > /etc/asterisk/extensions_extra.d/extra$i.conf
    head -c $((i * 3000)) /dev/urandom > /var/lib/asterisk/moh/default/song$i.wav
    head -c $((i * 1000)) /dev/urandom > /var/lib/wazo/sounds/tenants/$tenant/playback/greeting$i.wav
  done
  echo secret > /var/lib/wazo-auth-keys/wazo-confd-key.yml; chmod 600 /var/lib/wazo-auth-keys/*
  echo kept > /var/lib/wazo/sounds/tenants/$tenant/recordings/call.wav
  ln -s extra1.conf /etc/asterisk/extensions_extra.d/link.conf
else
  : > /var/lib/wazo/disabled
fi

# nor does the machine's own shell start in its way: what that leaves when a host loses power would stop the next session
rm -f /root/.bashrc /root/.bash_profile /root/.bash_login /root/.profile
# the machine's own keys show through in the overlay; they are not for the lab
rm -rf /root/.ssh; mkdir -p /run/sshd /root/.ssh; chmod 700 /root/.ssh
rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
printf 'HostKey /etc/ssh/ssh_host_ed25519_key\nPermitRootLogin yes\nUseDNS no\n' > /etc/ssh/sshd_config.d/lab.conf
echo root:secret | chpasswd
exec "$here/up.sh"
