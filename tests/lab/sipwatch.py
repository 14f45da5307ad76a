#!/usr/bin/env python3
"""sipwatch.py LOG NAME=ADDRESS... - who answers SIP OPTIONS, asked every 100 ms, until it is ended.

A line "SECONDS NAME up|down" in LOG at each change; down after 400 ms without an answer, with the time of the last one.
sipwatch.py --once ADDRESS: exit 0 when it answers one of three questions within a second.
"""
import select, socket, sys, time

SOCK = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
SOCK.bind(("0.0.0.0", 0))
PORT = SOCK.getsockname()[1]
COUNT = 0


def ask(address):
    global COUNT
    COUNT += 1
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        own.connect((address, 5060))
        here = own.getsockname()[0]
        SOCK.sendto((f"OPTIONS sip:ping@{address} SIP/2.0\r\nVia: SIP/2.0/UDP {here}:{PORT};branch=z9hG4bK{COUNT}{PORT};rport\r\n"
                     f"From: <sip:watch@{here}>;tag={COUNT}\r\nTo: <sip:ping@{address}>\r\nCall-ID: {COUNT}.{PORT}@{here}\r\nCSeq: 1 OPTIONS\r\n"
                     f"Contact: <sip:watch@{here}:{PORT}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n").encode(), (address, 5060))
    except OSError:
        pass  # no route or no carrier for the moment: silence, like any other
    finally:
        own.close()


def answers(seconds):
    """Addresses that answer, as they do, for that time."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([SOCK], [], [], left)[0]:
            try:
                data, peer = SOCK.recvfrom(65535)
            except OSError:
                continue  # an ICMP error reported on the socket
            if data.startswith(b"SIP/2.0"):
                yield peer[0]


if sys.argv[1] == "--once":
    for _ in range(3):
        ask(sys.argv[2])
        for peer in answers(0.33):
            if peer == sys.argv[2]:
                sys.exit(0)
    sys.exit(1)

log, targets = sys.argv[1], dict(pair.split("=")[::-1] for pair in sys.argv[2:])
last, up = {}, {}
while True:
    for address in targets:
        ask(address)
    for peer in answers(0.1):
        last[peer] = time.time()
    for address, name in targets.items():
        now = address in last and time.time() - last[address] < 0.4
        if now != up.get(address):
            up[address] = now
            when = last[address] if address in last else time.time()
            with open(log, "a") as file:
                file.write(f"{when:.6f} {name} {'up' if now else 'down'}\n")
