#!/bin/bash
# xuc.sh ADDRESS - starts the xuc of that address anew, inside the host `cc`.
set -u
here=$(dirname "$(readlink -f "$0")")
pidfile=/run/xuc-$1.pid
[ -s "$pidfile" ] && kill "$(<"$pidfile")"
# detached: whoever came by SSH waits for nothing that keeps its output open
setsid python3 "$here/xuc.py" "$1" /run/lab/cc.log </dev/null >/dev/null 2>>/run/lab/xuc.err &
echo $! > "$pidfile"
