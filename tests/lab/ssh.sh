#!/bin/bash
# ssh.sh - gives the host it runs in keys of its own and an sshd that lets root in. Run once, as root, inside the host.
set -eu
# the machine's own shell does not start in its way: what that leaves when a host loses power would stop the next session
rm -f /root/.bashrc /root/.bash_profile /root/.bash_login /root/.profile
# the machine's own keys show through in the overlay; they are not for the lab
rm -rf /root/.ssh; mkdir -p /run/sshd /root/.ssh; chmod 700 /root/.ssh
rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
printf 'HostKey /etc/ssh/ssh_host_ed25519_key\nPermitRootLogin yes\nUseDNS no\n' > /etc/ssh/sshd_config.d/lab.conf
echo root:secret | chpasswd
