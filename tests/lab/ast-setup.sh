#!/bin/bash
# ast-setup.sh USERS - configures the real Asterisk (pjsip) of the host it runs in: USERS phones 1000.. with password
# 'pw'; 600 = echo test, 1XXX = call that phone. Run as root inside a host whose root has the package.
set -eu
n=$1
# the uid of the unpacked files is another user here
id asterisk >/dev/null 2>&1 || useradd -r -d /var/lib/asterisk -s /usr/sbin/nologin asterisk
mkdir -p /var/run/asterisk
chown -R asterisk:asterisk /var/lib/asterisk /var/spool/asterisk /var/log/asterisk /etc/asterisk /var/run/asterisk
cd /etc/asterisk
{ printf '[modules]\nautoload=yes\n'; for m in chan_sip.so cdr_sqlite3_custom.so chan_dahdi.so chan_mgcp.so chan_skinny.so \
  chan_unistim.so pbx_dundi.so res_fax.so res_config_pgsql.so res_config_ldap.so cdr_pgsql.so cel_pgsql.so res_hep.so \
  app_voicemail_imap.so app_voicemail_odbc.so; do echo "noload => $m"; done; } > modules.conf
# each question without a login is a notice of its own
printf '[general]\n[logfiles]\nmessages => warning,error\n' > logger.conf
cat > extensions.conf <<'EOF'
[phones]
exten => 600,1,Answer()
 same => n,Echo()
exten => _1XXX,1,Dial(PJSIP/${EXTEN},20)
EOF
{ printf '[global]\ntype=global\n[udp]\ntype=transport\nprotocol=udp\nbind=0.0.0.0:5060\n'
  for i in $(seq 1000 $((999 + n))); do
    printf '[%s]\ntype=endpoint\ncontext=phones\ndisallow=all\nallow=ulaw\nauth=%s\naors=%s\n' "$i" "$i" "$i"
    printf '[%s]\ntype=auth\nauth_type=userpass\nusername=%s\npassword=pw\n' "$i" "$i"
    printf '[%s]\ntype=aor\nmax_contacts=1\nremove_existing=yes\nminimum_expiration=20\nmaximum_expiration=300\ndefault_expiration=40\n' "$i"
  done; } > pjsip.conf
