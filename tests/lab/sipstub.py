#!/usr/bin/env python3
"""sipstub.py PIDFILE LOG [SECONDS] - a small SIP responder on UDP 5060 in the place of Asterisk.

Answers OPTIONS and REGISTER with 200, anything else but ACK with 501, from the address that was asked, and names its host in
`Server`. PIDFILE is written when it answers and removed at SIGTERM; with SECONDS it is written at once, as Asterisk does,
and PIDFILE.booted that much later, when it answers. Each REGISTER is a line "SECONDS REGISTER USER" in LOG, the first
answer "SECONDS booted". It has Asterisk's process name.
"""
import os, re, signal, socket, sys, time

pidfile, log = sys.argv[1:3]
booted = pidfile + ".booted"
with open("/proc/self/comm", "w") as comm:
    comm.write("asterisk")


def leave(*_):
    for file in (pidfile, booted):
        if os.path.exists(file):
            os.unlink(file)
    sys.exit(0)


def note(words):
    with open(log, "a") as file:
        file.write(f"{time.time():.6f} {words}\n")


def write_pid(path):
    with open(path + ".new", "w") as file:
        file.write(f"{os.getpid()}\n")
    os.rename(path + ".new", path)


signal.signal(signal.SIGTERM, leave)
if len(sys.argv) > 3:
    write_pid(pidfile)
    time.sleep(float(sys.argv[3]))
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
# which of the host's addresses was asked, so that this one answers: a phone drops what comes from another
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
sock.bind(("::", 5060))
note("booted")
write_pid(booted if len(sys.argv) > 3 else pidfile)

while True:
    data, asked, _, peer = sock.recvmsg(65535, socket.CMSG_SPACE(20))
    # of the asked address only: the kernel finds the interface
    asked = [(level, kind, info[:16] + bytes(4)) for level, kind, info in asked]
    lines = data.decode("utf-8", "replace").split("\r\n")
    method = lines[0].split(" ")[0]
    if method in ("ACK", "SIP/2.0", ""):
        continue
    headers = [line for line in lines[1:] if re.match(r"(?i)(via|v|from|f|to|t|call-id|i|cseq):", line)]
    headers = [line + ";tag=stub" if re.match(r"(?i)(to|t):", line) and "tag=" not in line else line for line in headers]
    if method == "REGISTER":
        user = re.search(r"(?im)^(?:to|t):.*sips?:([^@>\s]+)", data.decode("utf-8", "replace"))
        note(f"REGISTER {user.group(1) if user else '?'}")
        headers += [line + ";expires=60" for line in lines[1:] if re.match(r"(?i)(contact|m):", line)]
    status = "200 OK" if method in ("OPTIONS", "REGISTER") else "501 Not Implemented"
    answer = [f"SIP/2.0 {status}", *headers, f"Server: stub on {socket.gethostname()}", "Content-Length: 0", "", ""]
    try:
        sock.sendmsg(["\r\n".join(answer).encode()], asked, 0, peer)
    except OSError:
        pass  # the address has left the host meanwhile, or the route to the phone has
