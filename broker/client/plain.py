"""HTTP to the broker with the standard library alone, for commands that make a call or two and are gone.

One connection, no proxies (with one in the environment, ``suits`` says no); streams go to ``transport``.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from typing import cast
from urllib.parse import urlencode, urlsplit

from broker.client.contexts import Connection
from broker.client.errors import broken, no_broker, silent
from broker.client.exchange import Answer, Call, common_headers

PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def suits(environ: Mapping[str, str]) -> bool:
    named = {name.lower() for name, value in environ.items() if value}
    return not named.intersection(PROXIES)


class PlainWire:
    def __init__(self, known: Connection, timeout: float = 30.0) -> None:
        self.known = known
        self.timeout = timeout
        self.parts = urlsplit(known.url)
        self.connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def send(self, call: Call) -> Answer:
        """A connection that the broker has closed meanwhile is opened again once."""
        reused = self.connection is not None
        connection = self.connection or self.connect()
        try:
            return self.exchange(connection, call)
        except TimeoutError as error:
            self.close()
            raise silent(self.known.url, self.timeout) from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if (
                reused
                and isinstance(error, http.client.RemoteDisconnected | ConnectionError)
                and call.repeatable
            ):
                return self.send(call)
            raise broken(self.known.url, error) from error

    def connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self.parts.scheme == "https" else http.client.HTTPConnection
        try:
            connection = kind(self.parts.netloc, timeout=self.timeout)
            connection.connect()
        except (OSError, http.client.InvalidURL) as error:
            raise no_broker(self.known.url) from error
        self.connection = connection
        return connection

    def exchange(self, connection: http.client.HTTPConnection, call: Call) -> Answer:
        body = None if call.json is None else json.dumps(call.json, separators=(",", ":")).encode()
        headers = common_headers(self.known) | ({} if body is None else {"Content-Type": "application/json"})
        connection.request(call.method, self.target(call), body, {**headers, **call.headers})
        response = connection.getresponse()
        # A message finds names in any case, as a mapping of headers must.
        return Answer(response.status, cast(Mapping[str, str], response.headers), response.read())

    def target(self, call: Call) -> str:
        query = urlencode(dict(call.params), doseq=True)
        return self.parts.path + call.path + (f"?{query}" if query else "")

    def events(self, call: Call) -> Iterator[tuple[str, str, str]]:
        from broker.client.transport import HttpTransport

        transport = HttpTransport(self.known, self.timeout)
        try:
            yield from transport.events(call)
        finally:
            transport.close()
