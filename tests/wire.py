"""A wire to a real HTTP server that counts requests and can lose, hold back and swallow them."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


@dataclass(frozen=True)
class Message:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Wire:
    """``with Wire(url) as wire``: ``wire.url`` is where a client is to call."""

    target: str
    tls: ssl.SSLContext | None = None  # of a target behind https
    count: int = 0
    loses_answers_to: str | None = None  # the next request of this method arrives, its answer does not
    holds_back: str | None = None  # the next request of this method is kept in ``held``
    swallows: bool = False  # nothing is answered, and nothing arrives before ``let_it_arrive``
    watcher: Callable[[Message], str | None] | None = None
    """Is shown each request: "before" ends the connection instead of sending it, "after" of answering."""
    held: list[Message] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        wire = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                headers = {key: value for key, value in self.headers.items() if key.lower() not in HOP_BY_HOP}
                wire.pass_on(Message(self.command, self.path, headers, self.rfile.read(length)), self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815 - the standard library's names

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A client that has gone, or an answer that was to be lost."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def calm(self) -> None:
        self.loses_answers_to = self.holds_back = self.watcher = None
        self.swallows = False

    def let_it_arrive(self) -> None:
        """What was held back, now."""
        while self.held:
            self.send(self.held.pop(0))

    # ---- one message

    def pass_on(self, message: Message, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.count += 1
            held = self._takes("holds_back", message)
            lost = self._takes("loses_answers_to", message)
            cut = self.watcher(message) if self.watcher is not None else None
        if cut == "before":
            handler.close_connection = True
            return None
        if self.swallows:
            self.held.append(message)
            self._closing.wait(30)
        elif held:
            self.held.append(message)
        elif "watch=true" in message.path:
            self._stream(handler, message)
        else:
            status, headers, body = self.send(message)
            if not lost and cut is None:
                return self._answer(handler, status, headers, body)
        handler.close_connection = True
        return None

    def _takes(self, mode: str, message: Message) -> bool:
        if getattr(self, mode) != message.method:
            return False
        setattr(self, mode, None)
        return True

    def send(self, message: Message) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(self.target)
        connection = self._connection(parts.hostname or "", parts.port)
        try:
            connection.request(message.method, message.path, message.body or None, message.headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        except (OSError, http.client.HTTPException):
            return 502, {}, b"nobody answers behind the wire"
        finally:
            connection.close()

    def _stream(self, handler: BaseHTTPRequestHandler, message: Message) -> None:
        """An answer that goes on, as it comes; without an end where it had none."""
        parts = urlsplit(self.target)
        connection = self._connection(parts.hostname or "", parts.port)
        try:
            connection.request(message.method, message.path, None, message.headers)
            answer = connection.getresponse()
            if answer.status != 200:
                return self._answer(handler, answer.status, dict(answer.getheaders()), answer.read())
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.send_header("Connection", "close")
            handler.end_headers()
            while (said := answer.read1(65536)) or answer.isclosed():
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(said), said))
                if not said:
                    return None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def _connection(self, host: str, port: int | None) -> http.client.HTTPConnection:
        if self.tls is not None:
            return http.client.HTTPSConnection(host, port, timeout=60, context=self.tls)
        return http.client.HTTPConnection(host, port, timeout=60)

    @staticmethod
    def _answer(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
        handler.send_response(status)
        for key, value in headers.items():
            if key.lower() not in HOP_BY_HOP:
                handler.send_header(key, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
