#!/bin/bash
# lab.sh - several simulated hosts on one machine, for HA tests.
#
# A host = network + mount + pid + uts + ipc + cgroup namespaces. Its root is an
# overlay: lower = this machine's root (or LAB_LOWER_<host>=DIR), upper = a tmpfs
# under $LAB_DIR, so /etc, /var, /root ... belong to the host, every package of
# this machine can be run in it, and nothing written in it reaches the machine.
# All hosts hang on a bridge in a namespace of its own ($LAB-sw); no namespace
# has a route to anywhere else.
#
#   lab.sh up [HOST...]     make the switch and boot hosts (default: master slave client)
#   lab.sh down             stop and remove everything this lab made
#   lab.sh exec HOST CMD..  run in the host (its cgroup, all its namespaces)
#   lab.sh sh HOST 'SCRIPT' the same through bash -c
#   lab.sh crash HOST       power failure: all processes killed, carrier lost; disk (upper) kept
#   lab.sh boot HOST        power back on
#   lab.sh freeze|thaw HOST stop every process (kernel still answers ping and ARP!)
#   lab.sh hang HOST        freeze + silent blackhole: looks like a kernel hang
#   lab.sh cut|heal HOST    pull/replug the host's eth0 at the switch (carrier lost)
#   lab.sh cut1|heal1 HOST  the same for eth1, the second (cross-over) link
#   lab.sh drop A B [NET]   frames from A to B vanish silently (one way; A or B may be 'any')
#   lab.sh part A B [NET]   both ways; NET: eth0 or eth1 (default: both networks)
#   lab.sh loss A B PCT     random loss, one way
#   lab.sh filter A B EXPR  frames from A to B that match the nft expression vanish (one way)
#   lab.sh mend             forget every drop/part/loss/filter
#   lab.sh ip HOST          print the host's address
#
# LAB=name (prefix of everything, default lab)   LAB_DIR=DIR (default /tmp/$LAB.d)
# LAB_INIT=plain|systemd  (default plain)
# LAB_SHOW="DIR ..."      directories on other file systems than /, shown read-only in every host
set -u
LAB=${LAB:-lab}; LAB_DIR=${LAB_DIR:-${TMPDIR:-/tmp}/$LAB.d}
LAB_INIT=${LAB_INIT:-$(cat "$LAB_DIR/init" 2>/dev/null || echo plain)}
NET=10.77.0; NET1=10.78.0; SW=$LAB-sw
SELF=$(readlink -f "$0")
CG2=$(findmnt -rno TARGET -t cgroup2 | head -1)
die() { echo "lab.sh: $*" >&2; exit 1; }
hostno() { case $1 in master) echo 11;; slave) echo 12;; client) echo 20;; cc) echo 21;; witness) echo 30;; edge) echo 31;;
           h[0-9]*) echo $((40 + ${1#h}));; *) die "no such host name: $1";; esac; }
cg() { echo "$CG2/$LAB-$1"; }
netof() { echo "$LAB-$1"; }
pid() { cat "$LAB_DIR/$1/pid" 2>/dev/null; }
alive() { local p; p=$(pid "$1") && [ -n "$p" ] && kill -0 "$p" 2>/dev/null; }

up_switch() {
  [ -n "$CG2" ] || die "no cgroup2 mount"
  ip netns list | grep -qw "$SW" && return 0
  mkdir -p "$LAB_DIR"; mountpoint -q "$LAB_DIR" || mount -t tmpfs -o mode=755 "$LAB" "$LAB_DIR" || die "tmpfs"
  echo "$LAB_INIT" > "$LAB_DIR/init"
  ip netns add "$SW"; ip -n "$SW" link set lo up
  for b in br0 br1; do ip -n "$SW" link add $b type bridge stp_state 0 forward_delay 0 mcast_snooping 0; ip -n "$SW" link set $b up; done
  ip netns exec "$SW" nft -f - <<<'
    table bridge lab {
      chain relay {
        type filter hook forward priority 0; policy accept;
      }
    }' || die nft
}

plug() { # HOST: (re)make its two cables
  local h=$1 n i=0; n=$(netof "$h")
  ip netns list | grep -qw "$n" || { ip netns add "$n"; ip -n "$n" link set lo up; }
  for b in br0 br1; do
    local port; [ $i = 0 ] && port=p-$h || port=q-$h
    if ! ip -n "$SW" link show "$port" >/dev/null 2>&1; then
      ip link add "$port" netns "$SW" type veth peer name eth$i netns "$n"
      # a host keeps its MAC over a power cycle, or its neighbours' ARP entries go stale
      ip -n "$n" link set eth$i address "02:00:00:00:0$i:$(hostno "$h")"
      ip -n "$SW" link set "$port" master $b up
    fi
    i=$((i+1))
  done
}

net_up() { # HOST: what the host's own network scripts would do at boot
  local h=$1 n no; n=$(netof "$h"); no=$(hostno "$h")
  # the TTL of whatever it sends tells from outside which host it was, also from an address that moves
  ip netns exec "$n" sysctl -qw net.ipv4.ip_default_ttl=$((100 + no))
  ip -n "$n" addr flush dev eth0; ip -n "$n" addr flush dev eth1
  ip -n "$n" addr add $NET.$no/24 brd + dev eth0;  ip -n "$n" link set eth0 up
  # the contact centres of both sides
  [ "$h" = cc ] && ip -n "$n" addr add $NET.22/24 brd + dev eth0
  ip -n "$n" addr add $NET1.$no/24 brd + dev eth1; ip -n "$n" link set eth1 up
}

boot() {
  local h=$1 n no; n=$(netof "$h"); no=$(hostno "$h")
  alive "$h" && die "$h already runs"
  plug "$h"; net_up "$h"
  ip -n "$SW" link set "p-$h" up; ip -n "$SW" link set "q-$h" up
  mkdir -p "$LAB_DIR/$h/upper" "$LAB_DIR/$h/work" "$LAB_DIR/$h/root"
  mkdir -p "$(cg "$h")"; echo 0 > "$(cg "$h")/cgroup.freeze"
  rm -f "$LAB_DIR/$h/pid"
  local lower; lower=LAB_LOWER_$h; lower=${!lower:-/}
  ( echo $BASHPID > "$(cg "$h")/cgroup.procs"
    exec setsid nsenter --net=/run/netns/"$n" unshare -m -u -i -p -C -f --kill-child \
      bash "$SELF" _init "$h" "$lower" >"$LAB_DIR/$h/console" 2>&1 </dev/null ) &
  # the host's pid 1 is the child of unshare
  local p=$! c i
  for i in $(seq 1000); do
    if [ -e "$LAB_DIR/$h/ready" ]; then break; fi; sleep 0.01
  done
  [ -e "$LAB_DIR/$h/ready" ] || { cat "$LAB_DIR/$h/console" >&2; die "$h did not boot"; }
  rm -f "$LAB_DIR/$h/ready"
  c=$(pgrep -P "$p" | head -1); [ -n "$c" ] || die "$h: no pid 1"
  echo "$c" > "$LAB_DIR/$h/pid"
  if [ "$LAB_INIT" = systemd ]; then
    for i in $(seq 200); do hexec "$h" systemctl is-system-running >/dev/null 2>&1 && return; sleep 0.05; done
    echo "lab.sh: $h: systemd is $(hexec "$h" systemctl is-system-running 2>&1)" >&2
  fi
}

_init() { # runs as pid 1 of the host, before its root is in place
  local h=$1 lower=$2 D=$LAB_DIR/$1 r=$LAB_DIR/$1/root
  mount --make-rprivate /
  hostname "$h"
  mount -t overlay "lab-$h" -o lowerdir="$lower",upperdir="$D/upper",workdir="$D/work" "$r" || exit 1
  mkdir -p "$r"/{proc,sys,dev,run,tmp,mnt/lab,var/tmp}
  mount -t proc proc "$r/proc"
  mount -t sysfs -o nosuid,noexec,nodev sysfs "$r/sys"
  mount -t cgroup2 cgroup2 "$r/sys/fs/cgroup" || { mount -t tmpfs none "$r/sys/fs/cgroup"; }
  mount -t tmpfs -o mode=755 tmpfs "$r/dev"; mkdir "$r"/dev/{shm,pts}
  for d in null zero full random urandom tty; do : > "$r/dev/$d"; mount --bind /dev/$d "$r/dev/$d"; done
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$r/dev/pts"
  ln -s pts/ptmx "$r/dev/ptmx"; ln -s /proc/self/fd "$r/dev/fd"
  for i in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${i%:*} "$r/dev/${i#*:}"; done
  mount -t tmpfs -o mode=1777 tmpfs "$r/dev/shm"
  mount -t tmpfs -o mode=755 tmpfs "$r/run"
  mount -t tmpfs -o mode=1777 tmpfs "$r/tmp"
  for d in ${LAB_SHOW:-}; do mkdir -p "$r$d"; mount --bind -o ro "$d" "$r$d"; done
  # what the host may see of the lab: nothing but a mailbox
  mkdir -p "$D/box" "$r/run/lab"; mount --bind "$D/box" "$r/run/lab"
  if [ "$LAB_INIT" = systemd ]; then # its presence means "systemd runs" to many programs
  # units that would write to the machine's own kernel settings
  mkdir -p "$r/run/systemd/system"
  for u in systemd-sysctl systemd-modules-load systemd-udevd systemd-binfmt; do ln -s /dev/null "$r/run/systemd/system/$u.service"; done
  printf '[Unit]\nRequires=basic.target\nAfter=basic.target systemd-user-sessions.service\nWants=systemd-user-sessions.service\nAllowIsolate=yes\n' > "$r/run/systemd/system/lab.target"
  fi
  echo "$h" > "$r/etc/hostname"
  { echo "127.0.0.1 localhost"; for x in master slave client cc witness edge; do echo "$NET.$(hostno $x) $x"; done; } > "$r/etc/hosts"
  # not before the root is the host's own: what is run in it earlier finds the machine's /run, and a moment later another
  cd "$r"; pivot_root . mnt/lab; : > "mnt/lab$D/ready"; exec chroot . /bin/bash -c '
    umount -l /mnt/lab; cd /
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
    if [ "$1" = systemd ]; then export container=lab; exec /lib/systemd/systemd --unit=lab.target; fi
    trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done' init "$LAB_INIT"
}

hexec() { # HOST CMD...
  local h=$1 p; shift; p=$(pid "$h"); [ -n "$p" ] || die "$h is down"
  mkdir -p "$(cg "$h")/exec"
  ( echo $BASHPID > "$(cg "$h")/exec/cgroup.procs"
    exec nsenter -t "$p" -m -u -i -n -p -C -w env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
      HOME=/root LANG=C.UTF-8 TERM=dumb "$@" )
}

crash() { # power failure: no process runs on to see the carrier go, and no farewell of a killed one reaches the wire
  local h=$1 i
  echo 1 > "$(cg "$h")/cgroup.freeze"
  for i in $(seq 100); do grep -q "frozen 1" "$(cg "$h")/cgroup.events" && break; sleep 0.002; done
  ip -n "$SW" link set "p-$h" down; ip -n "$SW" link set "q-$h" down
  echo 1 > "$(cg "$h")/cgroup.kill"
  for i in $(seq 100); do grep -q "populated 0" "$(cg "$h")/cgroup.events" && break; sleep 0.01; done
  rm -f "$LAB_DIR/$h/pid"
  ip netns del "$(netof "$h")"            # the kernel's state goes too: addresses, sockets, arp, VIP
  ip -n "$SW" link del "p-$h" 2>/dev/null; ip -n "$SW" link del "q-$h" 2>/dev/null; :
}

rule() { # A B VERDICT [NET]: a frame rule from A's port to B's, on both bridges or on one
  local a=$1 b=$2 v=$3 s p ports
  case ${4:-} in '') ports="p q";; eth0) ports=p;; eth1) ports=q;; *) die "no such network: $4";; esac
  for p in $ports; do
    s=""; [ "$a" != any ] && s="iifname $p-$a "; [ "$b" != any ] && s="${s}oifname $p-$b "
    ip netns exec "$SW" nft add rule bridge lab relay $s $v || die nft
  done
}

down() {
  local h n
  for n in $(ip netns list 2>/dev/null | awk '{print $1}' | grep "^$LAB-"); do
    h=${n#"$LAB"-}; [ "$h" = sw ] && continue
    [ -e "$(cg "$h")/cgroup.kill" ] && echo 1 > "$(cg "$h")/cgroup.kill"
  done
  for d in "$CG2/$LAB"-*/; do
    [ -d "$d" ] || continue
    echo 1 > "$d/cgroup.kill" 2>/dev/null
    for i in $(seq 100); do
      find "$d" -depth -type d -exec rmdir {} + 2>/dev/null && break; sleep 0.02
    done
  done
  for n in $(ip netns list 2>/dev/null | awk '{print $1}' | grep "^$LAB-"); do ip netns del "$n"; done
  if mountpoint -q "$LAB_DIR"; then for i in $(seq 50); do umount "$LAB_DIR" 2>/dev/null && break; sleep 0.05; done; fi
  mountpoint -q "$LAB_DIR" && umount -l "$LAB_DIR"
  rmdir "$LAB_DIR" 2>/dev/null; :
}

cmd=${1:-}; shift || true
case $cmd in
  up) up_switch; [ $# = 0 ] && set -- master slave client; for h; do boot "$h"; done;;
  down) down;;
  exec) hexec "$@";;
  sh) h=$1; shift; hexec "$h" bash -c "$@";;
  crash) crash "$1";;
  boot) boot "$1";;
  freeze) echo 1 > "$(cg "$1")/cgroup.freeze";;
  thaw) echo 0 > "$(cg "$1")/cgroup.freeze";;
  hang) rule "$1" any drop; rule any "$1" drop; echo 1 > "$(cg "$1")/cgroup.freeze";;
  cut) ip -n "$SW" link set "p-$1" down;;
  heal) ip -n "$SW" link set "p-$1" up;;
  cut1) ip -n "$SW" link set "q-$1" down;;
  heal1) ip -n "$SW" link set "q-$1" up;;
  drop) rule "$1" "$2" drop "${3:-}";;
  part) rule "$1" "$2" drop "${3:-}"; rule "$2" "$1" drop "${3:-}";;
  loss) rule "$1" "$2" "numgen random mod 100 < $3 drop";;
  filter) a=$1 b=$2; shift 2; rule "$a" "$b" "$* drop";;
  mend) ip netns exec "$SW" nft flush chain bridge lab relay;;
  ip) echo "$NET.$(hostno "$1")";;
  _init) _init "$@";;
  *) sed -n '2,45s/^# \{0,1\}//p' "$SELF"; exit 2;;
esac
