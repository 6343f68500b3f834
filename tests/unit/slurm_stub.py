"""A slurmrestd for tests: answers as real ones did, or in ways that real ones seldom do."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

from adapters.slurm.rest.answers import Answer
from tests.unit.slurm_recorded import recorded


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    connection: int


@dataclass
class Stub:
    """``answers["POST", "job/submit"]`` is an answer, a fault, or a list of them, one for each call."""

    dialect: str
    answers: dict[tuple[str, str], Any] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def next(self, method: str, path: str) -> Answer | Fault:
        key = (method, path.split("?")[0].partition(f"/{self.dialect}/")[2] or path)
        answer = self.answers.get(key) or self.answers.get((method, "*"))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        return answer or recorded(self.dialect, KNOWN.get(key, "unknown_path"))

    def calls(self, method: str | None = None) -> list[str]:
        return [
            f"{one.method} {one.path.partition(f'/{self.dialect}/')[2] or one.path}"
            for one in self.seen
            if method in (None, one.method)
        ]


Fault = Callable[[BaseHTTPRequestHandler, Stub], None]

KNOWN = {
    ("GET", "/openapi/v3"): "openapi",
    ("GET", "ping"): "ping",
    ("GET", "diag"): "diag",
    ("GET", "jobs"): "jobs",
    ("GET", "nodes"): "nodes",
    ("GET", "partitions"): "partitions",
    ("GET", "licenses"): "licenses",
    ("GET", "jobs/state"): "states",
    ("POST", "job/submit"): "submit",
    ("GET", "job/99999"): "unknown_job",
    ("DELETE", "job/99999"): "cancel_unknown",
    ("DELETE", "job/1"): "cancel",
}

# ---- faults ------------------------------------------------------------------------------------------


def hangs_up(handler: BaseHTTPRequestHandler, stub: Stub) -> None:
    """It has read the request, and answers not a byte."""
    handler.close_connection = True


def stops_half_way(handler: BaseHTTPRequestHandler, stub: Stub) -> None:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"job_id": 7')
    handler.close_connection = True


def is_silent(handler: BaseHTTPRequestHandler, stub: Stub) -> None:
    stub.released.wait(30)
    handler.close_connection = True


def talks_nonsense(handler: BaseHTTPRequestHandler, stub: Stub) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    handler.close_connection = True


def resets(handler: BaseHTTPRequestHandler, stub: Stub) -> None:
    linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.close_connection = True


# ---- the server --------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def address_string(self) -> str:
        return "a test"

    def log_message(self, *_: object) -> None:
        pass

    def do(self) -> None:
        stub: Stub = self.server.stub  # type: ignore[attr-defined]
        size = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(size)
        body = json.loads(text) if text else None
        number = self.connection.fileno()
        stub.seen.append(Seen(self.command, self.path, dict(self.headers), body, number))
        answer = stub.next(self.command, self.path)
        if callable(answer):
            answer(self, stub)
            return
        head = f"HTTP/1.1 {answer.status} X\r\nContent-Length: {len(answer.content)}\r\n\r\n"
        self.wfile.write(head.encode() + answer.content)

    do_GET = do_POST = do_DELETE = do  # noqa: N815


class UnixServer(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


class Serving:
    """``with Serving(stub):``"""

    def __init__(
        self, stub: Stub, path: Path | None = None, certificate: tuple[Path, Path] | None = None
    ) -> None:
        """At a unix socket, or with TLS by a certificate and its key."""
        self.stub = stub
        self.server = (
            UnixServer(str(path), Handler) if path else ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        )
        self.server.stub = stub  # type: ignore[attr-defined]
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        if path is None:
            stub.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Stub:
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return self.stub

    def __exit__(self, *_: object) -> None:
        self.stub.released.set()
        self.server.shutdown()
        self.server.server_close()
