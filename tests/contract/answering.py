"""Servers that are not what they should be: each says the same to everybody."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# What it says; without a word it closes.
NONSENSE: dict[str, bytes] = {
    "closes": b"",
    "HTML": b"<html><body><h1>502 Bad Gateway</h1></body></html>\n",
    "half of the JSON": b'{"meta": {"Slurm": {"release": "22.05.8"}}, "paths": {"/slurm/v0.0.38/jo',
    "no object": b"[]\n",
    "not UTF-8": b"\xff\xfe\x00\n",
}


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """The URL of one."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            if body:
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                self.wfile.write(head % len(body) + body)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
