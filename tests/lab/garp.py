#!/usr/bin/env python3
"""garp.py ADDRESS - says in the host's network that ADDRESS is at its eth0 now (gratuitous ARP)."""
import socket, sys

wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
own, address = wire.getsockname()[4], socket.inet_aton(sys.argv[1])
everybody = b"\xff" * 6
wire.send(everybody + own + b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01" + own + address + everybody + address)
