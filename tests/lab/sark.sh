#!/bin/bash
# sark.sh [PROGRAM] - makes the host it runs in a node of a SARK pair: layout, database, commands, sshd. Run once, as root,
# inside the host. The master is the primary and has configuration and voicemail; the slave is a fresh installation.
# Telephony starts on neither by itself: the cluster owns it. Where systemd runs, Asterisk and systemctl are real ones, and
# the program is a unit that is not started yet.
set -eu
here=$(dirname "$(readlink -f "$0")")
host=$(hostname)
voicemail=/var/spool/asterisk/voicemail

real=; [ -d /run/systemd/system ] && real=yes

# a machine with a PBX or a cluster of its own lends nothing of it
rm -rf /opt/sark /etc/asha.conf /etc/pbx-ha /var/lib/pbx-ha /var/lib/asterisk/sounds /var/spool/asterisk \
  /etc/ha.d/{ha.cf,haresources,authkeys,resource.d/sark-ha} /etc/keepalived
[ $real ] || rm -rf /etc/asterisk
mkdir -p /opt/sark/{db,scripts} /etc/pbx-ha /etc/asterisk /var/lib/asterisk/sounds $voicemail/default /run/asterisk \
  /run/lab/on
for command in mail $([ $real ] || echo systemctl asterisk); do
  ln -sf "$here/stub.sh" /usr/bin/$command; ln -sf "$here/stub.sh" /usr/sbin/$command
done
ln -sf "$here/stub.sh" /opt/sark/scripts/srkgenAst
[ -z "${1:-}" ] || ln -sf "$1" /usr/bin/sark-ha
# seconds from Asterisk's start to its first answer
echo 0.2 > /run/lab/start-delay

cat > /etc/asha.conf <<'EOF'
# High availability of this pair. SARK writes the next four itself.
HACLUSTERIP=
HAPRINODE=haprimary
HASECNODE=hastandby
HASYNCH=LAZY

# the port of sshd on the primary
HASSHPORT=22
# what is copied: directories, and one database file
ASTERISK=/etc/asterisk
DB=/opt/sark/db/sark.db
GREETINGS=/var/lib/asterisk/sounds
VOICEMAIL=/var/spool/asterisk/voicemail
TELEPHONY=
OTHER1=
OTHER2=
OTHER3=
# after a copy that changed something
POSTSYNC=/opt/sark/scripts/srkgenAst
RESTART=NO
RHINOSPF=NO
RSYNC=/usr/bin/rsync
EOF
python3 - "$host" <<'EOF'
import sqlite3, sys

database = sqlite3.connect("/opt/sark/db/sark.db")
database.executescript("""
    create table globals (pkey text primary key, HACLUSTERIP text, HAPRINODE text, HASECNODE text, HASYNCH text,
                          HAUSECLUSTER text, HAAUTOFAILBACK text, BINDADDR text);
    insert into globals values ('global', '', 'haprimary', 'hastandby', 'LAZY', 'YES', 'off', 'OFF');
    create table ipphone (pkey text primary key, cluster text, desc text, passwd text);
""")
if sys.argv[1] == "master":
    database.executemany("insert into ipphone values (?, 'default', ?, 'pw')",
                         [(str(number), f"phone {number}") for number in range(1000, 1020)])
database.commit()
EOF

message() { # MAILBOX FOLDER NUMBER: as app_voicemail leaves one
  local folder=$voicemail/default/$1/$2 name
  name=$(printf 'msg%04d' "$3")
  mkdir -p "$folder"
  printf ';\n; Message Information file\n;\n[message]\norigmailbox=%s\ncontext=phones\npriority=2\ncallerid="phone" <%s>\norigdate=%s\norigtime=%s\nmsg_id=%s-%08x\nflag=\ncategory=\nduration=%s\n' \
    "$1" "$((1000 + $3))" "Fri Nov 20 10:0$3:00 UTC 2026" "$((1795168800 + 60 * $3))" "$((1795168800 + 60 * $3))" "$3" "$((5 + $3))" > "$folder/$name.txt"
  head -c $((8000 * (5 + $3))) /dev/urandom > "$folder/$name.wav"
}
printf '[general]\nbindaddr=0.0.0.0\n' > /etc/asterisk/sip.conf
if [ "$host" = master ]; then
  for i in 1 2 3 4 5 6 7 8; do
    printf '[extra%d]\nexten = %d,1,NoOp()\n' $i $i > /etc/asterisk/extra$i.conf
    head -c $((i * 1000)) /dev/urandom > /var/lib/asterisk/sounds/greeting$i.wav
  done
  for i in 0 1 2; do message 1000 INBOX $i; done
  message 1000 Old 0
  message 1001 INBOX 0
fi

[ ! $real ] || "$here/ast-setup.sh" 10
"$here/ssh.sh"
exec "$here/up.sh" sark
