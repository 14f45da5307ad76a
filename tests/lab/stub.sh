#!/bin/bash
# Stands for every command that a host of a pair, or beside one, has and the lab does not: called by the command's name (a
# link). Each call is a line "SECONDS NAME ARGUMENTS" in the host's mailbox. A script /run/lab/on/NAME, when there is
# one, runs first and may sleep, fail or take itself away: so a test makes a command hang or fail.
name=${0##*/}
here=$(dirname "$(readlink -f "$0")")
box=/run/lab
pidfile=/run/asterisk/asterisk.pid
disabled=/var/lib/${name%-service}/disabled
printf '%s %s %s\n' "$EPOCHREALTIME" "$name" "$*" >> $box/calls.log
# shellcheck source=/dev/null
[ -e "$box/on/$name" ] && . "$box/on/$name"

running() { [ -s $pidfile ] && kill -0 "$(<$pidfile)" 2>/dev/null; }

start() { # as the units do: nothing while `disabled` stands, and not before SIP answers
  [ -e $disabled ] || running && return 0
  mkdir -p /run/asterisk; rm -f $pidfile $pidfile.booted
  if [ -e $box/real-asterisk ]; then
    chown asterisk: /run/asterisk
    /usr/sbin/asterisk -U asterisk -G asterisk 9>&-
    # right after its start it does not know the command yet
    for _ in {1..100}; do
      case $(timeout -s KILL 20 asterisk -rx 'core waitfullybooted' 2>&1) in *'fully booted'*) break;; esac
      sleep 0.05
    done
  else
    # /run/lab/start-delay: seconds from its start to its first answer, which the start command does not wait for
    local delay=""; [ -e $box/start-delay ] && delay=$(<$box/start-delay)
    # shellcheck disable=SC2086
    setsid python3 "$here/sipstub.py" $pidfile $box/sip.log $delay </dev/null >>$box/sip.err 2>&1 9>&- &
  fi
  for _ in {1..500}; do running && return 0; sleep 0.02; done
  return 1
}

stop() {
  running || return 0
  local pid; pid=$(<$pidfile)
  kill "$pid"
  # as systemd does, so that a stopped process can obey
  [ "$name" = systemctl ] && kill -CONT "$pid"
  for _ in {1..250}; do kill -0 "$pid" 2>/dev/null || break; sleep 0.02; done
  kill -KILL "$pid" 2>/dev/null
  rm -f $pidfile $pidfile.booted
}

job() { # as systemd has it: one job of a unit after the other; what is started must not inherit the lock
  exec 9>$box/unit.lock; flock 9
}

case $name in
  wazo-service|xivo-service)
    case ${1:-} in
      start) start;;
      stop) stop; exit 0;;
      restart) stop; start;;
      enable) rm -f $disabled;;
      disable) : > $disabled;;
      status) if running; then printf '%s good\n' "$EPOCHREALTIME" >> $box/status.log; else exit 1; fi;;
      *) exit 2;;
    esac;;
  service)
    # XiVO 1.2 has no command of its own, and a file that says whether Asterisk may run
    case "$*" in
      "asterisk start") if grep -qx RUNASTERISK=yes /etc/default/asterisk; then start; fi;;
      "asterisk stop") stop; exit 0;;
    esac;;
  systemctl)
    case "$*" in
      "restart postgresql"*|"reload postgresql"*) pg_ctlcluster "$(ls /etc/postgresql)" main "$1";;
      "start asterisk"|"start asterisk.service") job; start;;
      "stop asterisk"|"stop asterisk.service") job; stop; exit 0;;
      "restart asterisk"|"restart asterisk.service") job; stop; start;;
      # the real one; its package's tmpfiles.d has these directories made
      "start heartbeat.service")
        pgrep -f '^heartbeat: ' >/dev/null && exit 0
        mkdir -p /run/resource-agents
        install -d -o hacluster -g haclient -m 750 /run/heartbeat /run/heartbeat/ccm
        /usr/libexec/heartbeat/heartbeat >>/run/lab/heartbeat.log 2>&1;;
      "stop heartbeat.service") /usr/libexec/heartbeat/heartbeat -k >>/run/lab/heartbeat.log 2>&1;;
      "is-active "*asterisk*) if running; then echo active; else echo inactive; exit 3; fi;;
    esac;;
  asterisk)
    # each media server's line, as chan_sip prints it; /run/lab/unregistered names those that do not answer
    running || { echo "Unable to connect to remote asterisk (does /var/run/asterisk/asterisk.ctl exist?)"; exit 1; }
    [ "$*" = "-rx core show uptime" ] && { echo "System uptime: 1 minute"; exit 0; }
    if [ "$*" = "-rx core waitfullybooted" ]; then
      while running; do
        [ -e $pidfile.booted ] && { echo "Asterisk has fully booted."; exit 0; }
        sleep 0.02
      done
      exit 1
    fi
    [ "$*" = "-rx sip show registry" ] || exit 1
    line='%-39.39s %-6.6s %-12.12s %8s %-20.20s %-25.25s\n'
    # shellcheck disable=SC2059
    printf "$line" Host dnsmgr Username Refresh State Reg.Time
    for server in mds1 mds2; do
      state=Registered; grep -qx $server $box/unregistered 2>/dev/null && state="Request Sent"
      # shellcheck disable=SC2059
      printf "$line" $server:5060 N xivo 105 "$state" "$(date '+%a, %d %b %Y %T')"
    done
    echo "2 SIP registrations.";;
  xivocc-dcomp)
    # both sides' contact centres are one host: which one is meant is the address that was called
    read -r _ _ address _ <<<"${SSH_CONNECTION:-}"
    printf '%s restart %s %s\n' "$EPOCHREALTIME" "$address" "$*" >> $box/cc.log
    [ "$*" = "restart xuc" ] || exit 2
    "$here/xuc.sh" "$address";;
  edge-dcomp)
    # what the file says at this moment is what the Edge runs with from now on
    number=$(grep -c . $box/edge.log 2>/dev/null)
    cp .env "$box/env.${number:-0}" || exit 1
    printf '%s apply %s %s\n' "$EPOCHREALTIME" "$PWD" "$*" >> $box/edge.log
    [ "$*" = "up -d" ] || exit 2;;
  mail|mutt)
    { echo "to: $*"; cat; echo; } >> $box/mail;;
esac
