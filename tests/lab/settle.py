#!/usr/bin/env python3
"""settle.py PRODUCT - opens a replication at this host's agent as a master does, and sends nothing: what an earlier one left
is settled.

Prints "ready NUMBER KEPT", or what the agent says instead.
"""
import struct, subprocess, sys

product = sys.argv[1]
agent = subprocess.Popen([f"/usr/bin/{product}-ha", "agent"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def text(words):
    return struct.pack(">I", len(words)) + words.encode()


def say(body):
    agent.stdin.write(struct.pack(">I", len(body)) + body)
    agent.stdin.flush()


def hear():
    size = struct.unpack(">I", agent.stdout.read(4))[0]
    return agent.stdout.read(size)


say(b"\x00" + struct.pack(">H", 2) + text(product) + text("test"))
hear()
say(b"\x01")
generation = hear()[2:10]
say(b"\x09" + generation)
answer = hear()
print("ready %d %d" % struct.unpack(">QQ", answer[1:]) if answer[:1] == b"\x0a" else answer[6:].decode())
say(b"\x18")
agent.wait()
