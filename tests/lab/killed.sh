#!/bin/bash
# killed.sh PRODUCT CALLS - SIGKILLs `PRODUCT-ha configure slave` at the first, second, third ... of those system calls (a
# list as strace takes it) until one run gets to its end, inside an unconfigured host. After each kill the next run must
# finish the change and `configure disabled` must undo it, both exactly as without a kill. Prints a line for each run that
# differs, and last "KILLS kills, DIFFERENT different".
product=$1 calls=$2
folders="/etc/xivo /etc/cron.d /etc/postgresql /var/lib/$product"
ha=/usr/bin/$product-ha
slave="configure slave --remote 10.77.0.11"

seen() { # every file's path, mode, owner and content
  # shellcheck disable=SC2086
  find $folders -printf '%p %y %m %u %l\n' | sort
  # shellcheck disable=SC2086
  find $folders -type f -print0 | sort -z | xargs -0 sha256sum
}
say() { echo "kill $kills: $1"; different=$((different + 1)); }

kills=0 different=0
# a freed node has a role file that says so; one that was never configured has none
$ha configure disabled >/dev/null || { echo "configure disabled: exit $?"; exit 1; }
free=$(seen)
# shellcheck disable=SC2086
$ha $slave >/dev/null || { echo "configure slave: exit $?"; exit 1; }
bound=$(seen)
$ha configure disabled >/dev/null || { echo "configure disabled: exit $?"; exit 1; }
[ "$(seen)" = "$free" ] || { echo "configure disabled does not restore:"; diff <(echo "$free") <(seen); exit 1; }

while [ $kills -lt 400 ]; do
  # shellcheck disable=SC2086
  strace -f -qq -o /dev/null -e trace="$calls" -e inject="$calls:signal=SIGKILL:when=$((kills + 1))" $ha $slave >/dev/null 2>&1
  code=$?
  [ $code = 0 ] && break
  [ $code = 137 ] || { say "the run ended with $code instead of being killed"; break; }
  kills=$((kills + 1))
  role=$($ha show --json) || say "show: exit $?"
  case $role in *'"slave"'* | *'"disabled"'*) ;; *) say "show: $role";; esac
  # shellcheck disable=SC2086
  $ha $slave >/run/lab/again 2>&1 || say "the next run: exit $? $(cat /run/lab/again)"
  [ "$(seen)" = "$bound" ] || say "configured, but: $(diff <(echo "$bound") <(seen) | head -5)"
  $ha configure disabled >/run/lab/again 2>&1 || say "configure disabled: exit $? $(cat /run/lab/again)"
  [ "$(seen)" = "$free" ] || say "restored, but: $(diff <(echo "$free") <(seen) | head -5)"
done
echo "$kills kills, $different different"
