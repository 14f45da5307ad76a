#!/usr/bin/env python3
"""sipstub.py PIDFILE LOG - a small SIP responder on UDP 5060 in the place of Asterisk.

Answers OPTIONS and REGISTER with 200, anything else but ACK with 501. PIDFILE is written when it answers and removed at SIGTERM;
each REGISTER is a line "SECONDS REGISTER USER" in LOG. It has Asterisk's process name.
"""
import os, re, signal, socket, sys, time

pidfile, log = sys.argv[1:3]
with open("/proc/self/comm", "w") as comm:
    comm.write("asterisk")
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
sock.bind(("::", 5060))


def leave(*_):
    os.unlink(pidfile)
    sys.exit(0)


signal.signal(signal.SIGTERM, leave)
with open(pidfile + ".new", "w") as file:
    file.write(f"{os.getpid()}\n")
os.rename(pidfile + ".new", pidfile)

while True:
    data, peer = sock.recvfrom(65535)
    lines = data.decode("utf-8", "replace").split("\r\n")
    method = lines[0].split(" ")[0]
    if method in ("ACK", "SIP/2.0", ""):
        continue
    headers = [line for line in lines[1:] if re.match(r"(?i)(via|v|from|f|to|t|call-id|i|cseq):", line)]
    headers = [line + ";tag=stub" if re.match(r"(?i)(to|t):", line) and "tag=" not in line else line for line in headers]
    if method == "REGISTER":
        user = re.search(r"(?im)^(?:to|t):.*sips?:([^@>\s]+)", data.decode("utf-8", "replace"))
        with open(log, "a") as file:
            file.write(f"{time.time():.6f} REGISTER {user.group(1) if user else '?'}\n")
        headers += [line + ";expires=60" for line in lines[1:] if re.match(r"(?i)(contact|m):", line)]
    status = "200 OK" if method in ("OPTIONS", "REGISTER") else "501 Not Implemented"
    sock.sendto("\r\n".join([f"SIP/2.0 {status}", *headers, "Content-Length: 0", "", ""]).encode(), peer)
