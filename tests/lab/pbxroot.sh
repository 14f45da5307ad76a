#!/bin/bash
# pbxroot.sh DIR - unpacks Asterisk 16 (Debian 11; chan_sip and pjsip) below DIR/root, to lie UNDER the root of a lab's hosts:
#       LAB_LOWER_master=/:DIR/root LAB_LOWER_slave=/:DIR/root ./lab.sh up
# One host has Asterisk with its own libraries, and everything else of this machine. DIR becomes a tmpfs of its own:
# overlayfs refuses a lower layer inside another one ("Too many levels of symbolic links"). Remove: umount DIR.
# Needs the package mmdebstrap.
set -eu
dir=$1
# the archives that this machine is set up with, however its lists are written
uris=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' | sort -u)
main=$(grep -v security <<<"$uris" | head -1)
security=$(grep security <<<"$uris" | head -1 || true)
[ -n "$main" ] || { echo "this machine has no archive set up (apt-get update)" >&2; exit 1; }
mkdir -p "$dir"; mountpoint -q "$dir" || mount -t tmpfs -o mode=755,size=2g ha-asterisk "$dir"
# without the hook a real /lib is made, which the machine's /lib link hides in the overlay
mmdebstrap --quiet --mode=root --variant=extract --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --include=asterisk \
  --keyring=/usr/share/keyrings/debian-archive-keyring.gpg --aptopt='APT::Install-Recommends "false"' \
  bullseye "$dir/root" "deb $main bullseye main" ${security:+"deb $security bullseye-security main"}
