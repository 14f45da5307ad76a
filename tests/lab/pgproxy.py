#!/usr/bin/env python3
"""pgproxy.py SOCKET_DIR UPSTREAM MAILBOX [PORT] - a wire between a client and PostgreSQL that can hold a COMMIT.

Listens on SOCKET_DIR/.s.PGSQL.5432, or on TCP PORT when given, and passes everything to the socket UPSTREAM. While the file
MAILBOX/hold stands, the first message that carries COMMIT is kept: "SECONDS held" is written to MAILBOX/proxy.log and the
message goes on when MAILBOX/release appears ("SECONDS released", or "SECONDS refused" when the server had closed by then).
Run it as user postgres, so that peer authentication sees who it stands for.
"""
import os, select, socket, sys, threading, time

directory, upstream, box = sys.argv[1:4]


def note(word):
    with open(f"{box}/proxy.log", "a") as file:
        file.write(f"{time.time():.6f} {word}\n")


def frames(buffer):
    """Whole messages at the head of the buffer; what is left stays in it."""
    while len(buffer) >= 5:
        size = 1 + int.from_bytes(buffer[1:5], "big")
        if len(buffer) < size:
            return
        yield bytes(buffer[:size])
        del buffer[:size]


def is_commit(frame):
    """A statement by itself: a transaction that begins is READ COMMITTED, and no end of it."""
    if frame[:1] not in (b"Q", b"P"):
        return False
    statement = frame[5:].split(b"\0")[frame[:1] == b"P"]
    return statement.strip(b" ;").upper() == b"COMMIT"


def startup(client):
    """The first message has no type byte; encryption is declined, as on a local socket."""
    while True:
        head = client.recv(4, socket.MSG_WAITALL)
        body = client.recv(int.from_bytes(head, "big") - 4, socket.MSG_WAITALL)
        if body[:4] not in (b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30"):
            return head + body
        client.sendall(b"N")


def hold(server, frame):
    note("held")
    while not os.path.exists(f"{box}/release"):
        time.sleep(0.01)
    try:
        readable = select.select([server], [], [], 0)[0]
        if readable and not server.recv(1, socket.MSG_PEEK):
            raise ConnectionResetError
        server.sendall(frame)
        note("released")
    except OSError:
        note("refused")


def forward(client, server):
    buffer, waiting = bytearray(), True
    try:
        while data := client.recv(65536):
            buffer += data
            for frame in frames(buffer):
                if waiting and is_commit(frame) and os.path.exists(f"{box}/hold"):
                    waiting = False
                    hold(server, frame)
                else:
                    server.sendall(frame)
    except OSError:
        pass
    finally:
        server.close()


def back(server, client):
    try:
        while data := server.recv(65536):
            client.sendall(data)
    except OSError:
        pass
    # the client's side stays open while a COMMIT is held: a cable that was cut tells nobody


def serve(client):
    server = socket.socket(socket.AF_UNIX)
    server.connect(upstream)
    server.sendall(startup(client))
    threading.Thread(target=back, args=(server, client), daemon=True).start()
    forward(client, server)
    client.close()


if len(sys.argv) > 4:
    listener = socket.create_server(("", int(sys.argv[4])))
else:
    os.makedirs(directory, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{directory}/.s.PGSQL.5432")
    listener.listen()
note("ready")
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
