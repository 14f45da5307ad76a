#!/bin/bash
# follower.sh - makes the host it runs in one that stands beside a XiVO pair, by its name: `cc`, with the contact centres of
# both sides, or `edge`, which points at the master. Run once, as root, inside the host.
set -eu
here=$(dirname "$(readlink -f "$0")")
mkdir -p /run/lab/on
case $(hostname) in
  cc) ln -sf "$here/stub.sh" /usr/bin/xivocc-dcomp;;
  edge)
    ln -sf "$here/stub.sh" /usr/bin/edge-dcomp
    rm -rf /etc/docker/edge; mkdir -p /etc/docker/edge
    cp "$here/../data/edge-master.env" /etc/docker/edge/.env
    # it holds a secret, and a group that is not the one that writes it
    chmod 640 /etc/docker/edge/.env; chgrp daemon /etc/docker/edge/.env;;
esac
"$here/ssh.sh"
exec "$here/up.sh" xivo
