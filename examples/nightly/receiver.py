#!/usr/bin/env python3
"""examples/nightly/receiver.py SECRET-FILE [PORT]: takes what the nightly audit tells.

Refuses what is not signed with the secret or is older than five minutes, counts each event once
(they come at least once), and prints a line for each. Python's own library only.
"""
import hmac
import http.server
import json
import sys
import time

secret = open(sys.argv[1], "rb").read().rstrip(b"\n")
seen = set()


def is_ours(header: str, body: bytes) -> bool:
    try:
        part = dict(p.split("=", 1) for p in header.split(","))
        wanted = hmac.new(secret, part["t"].encode() + b"." + body, "sha256").hexdigest()
        return abs(time.time() - int(part["t"])) < 300 and hmac.compare_digest(wanted, part["v1"])
    except (KeyError, ValueError, TypeError):
        return False


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if 0 < length <= 4 << 20 else b""
        ours = is_ours(self.headers.get("X-Exellix-Signature", ""), body)
        self.send_response(200 if ours else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()
        for e in json.loads(body)["events"] if ours else []:
            if e["number"] not in seen:
                seen.add(e["number"])
                print(e["at"], e["kind"], e["matrixRowId"], e.get("text") or "", flush=True)

    def log_message(self, *_):
        pass


port = int(sys.argv[2]) if len(sys.argv) > 2 else 8099
http.server.ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
