"""HTTP to slurmrestd with httpx2, over TCP, TLS or a unix socket.  Its only door here.

All calls share a small pool of open connections: a submission over a new one takes twice as long.  The pool
does not use one that the other side has closed; should that happen at the very moment of a write, the write's
outcome is unknown, and nothing is sent again.
"""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Mapping

import httpx2

from adapters.slurm.options import Options
from adapters.slurm.rest.answers import Answer, Request
from adapters.slurm.transport import NoAnswer, NotReached, TryLater

CONNECTIONS = 8  # slurmrestd has 20 threads by default, and others use it too
IDLE_S = 5.0
LARGEST_BODY = 512 * 2**20  # 11,000 jobs are 95 MB in v0.0.44
LONGEST = 4.0  # a body may trickle for so many times the time-out of one read

# It failed before the first byte of the request was written.
NOTHING_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol, httpx2.InvalidURL)


class Client:
    """Safe in threads, and in processes that were forked from one that had used it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.place = options.url or f"the socket {options.socket}"
        # By process: a child must not touch the connections of its parent, and not even close them.
        self._pools: dict[int, httpx2.Client] = {}

    def close(self) -> None:
        if pool := self._pools.pop(os.getpid(), None):
            pool.close()

    def send(self, request: Request, headers: Mapping[str, str]) -> Answer:
        """Raises ``NotReached``, ``NoAnswer`` or ``TryLater``; whatever was answered is returned."""
        try:
            return self._exchange(self._pool(), request, headers)
        except NOTHING_SENT as error:
            raise NotReached(f"{self.place} cannot be reached: {said(error)}") from error
        except httpx2.PoolTimeout as error:
            raise TryLater(f"{CONNECTIONS} calls to {self.place} are under way") from error
        except httpx2.TimeoutException as error:
            raise NoAnswer(f"{self.place} did not answer within {self.options.answer_s:g} s") from error
        except httpx2.HTTPError as error:
            raise NoAnswer(f"{self.place} did not answer: {said(error)}") from error

    def _exchange(self, client: httpx2.Client, request: Request, headers: Mapping[str, str]) -> Answer:
        began = time.monotonic()
        content = None if request.body is None else json.dumps(request.body).encode()
        kind = {} if content is None else {"Content-Type": "application/json"}
        with client.stream(
            request.method,
            request.path,
            params=list(request.params) or None,
            content=content,
            headers={**headers, **kind},
        ) as response:
            body = self._body(response, began)
        return Answer(status=response.status_code, content=body, took_s=time.monotonic() - began)

    def _body(self, response: httpx2.Response, began: float) -> bytes:
        parts, size = [], 0
        for part in response.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > LARGEST_BODY:
                raise NoAnswer(f"{self.place} answers with more than {LARGEST_BODY // 2**20} MiB")
            if time.monotonic() - began > self.options.answer_s * LONGEST:
                raise NoAnswer(f"{self.place} does not come to the end of its answer")
        return b"".join(parts)

    def _pool(self) -> httpx2.Client:
        mine = os.getpid()
        if mine not in self._pools:
            # setdefault is atomic: of two threads that come first, one's pool is used.
            self._pools.setdefault(mine, self._open())
        return self._pools[mine]

    def _open(self) -> httpx2.Client:
        options = self.options
        limits = httpx2.Limits(
            max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=IDLE_S
        )
        try:
            transport = httpx2.HTTPTransport(
                verify=self._trust(), limits=limits, uds=options.socket, trust_env=False
            )
            return httpx2.Client(
                base_url=options.url or "http://localhost",
                headers={"Accept": "application/json"},
                timeout=httpx2.Timeout(options.answer_s, connect=options.connect_s),
                transport=transport,
                trust_env=False,  # a proxy of the site is not between the broker and its cluster
            )
        except httpx2.InvalidURL as error:
            raise NotReached(f"{self.place} is no address: {error}") from error

    def _trust(self) -> ssl.SSLContext:
        if not (self.options.url or "").startswith("https:"):
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody; reading the system's takes 0.1 s
        try:
            return ssl.create_default_context(cafile=self.options.ca_file)
        except OSError as error:
            raise NotReached(f"the certificates in {self.options.ca_file} cannot be read: {error}") from error


def said(error: Exception) -> str:
    return str(error) or type(error).__name__
