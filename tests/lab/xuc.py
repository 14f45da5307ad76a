#!/usr/bin/env python3
"""xuc.py ADDRESS LOG - stands for the xuc of a contact centre: answers HTTP on port 8090 of that address, from one second
after its start on. When that begins is a line "SECONDS answers ADDRESS" in LOG."""
import http.server
import sys
import time

address, log = sys.argv[1:]


class Xuc(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        # xuc has no page there; that it says so is an answer
        self.send_response(404)
        self.send_header('Content-Length', '0')
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


time.sleep(1)
server = http.server.ThreadingHTTPServer((address, 8090), Xuc)
with open(log, 'a') as out:
    out.write(f'{time.time():.6f} answers {address}\n')
server.serve_forever()
