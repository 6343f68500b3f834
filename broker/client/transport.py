"""HTTP to the broker with httpx2: pooled connections, proxies, streams.  Its only door in the SDK."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from json import loads

import httpx2

from broker.client.contexts import Connection
from broker.client.errors import Refused, broken, no_broker, silent
from broker.client.exchange import Answer, Call, checked, common_headers

SILENCE_S = 60.0  # of a stream: the broker's heartbeat comes every 15 s


class HttpTransport:
    """``http`` replaces the network: a test's fake, or an application in the same process."""

    def __init__(
        self, known: Connection, timeout: float = 30.0, http: httpx2.BaseTransport | None = None
    ) -> None:
        self.url = known.url
        self.timeout = timeout
        try:
            self.client = httpx2.Client(
                base_url=known.url, headers=common_headers(known), timeout=timeout, transport=http
            )
        except httpx2.InvalidURL as error:
            raise no_broker(known.url) from error

    def close(self) -> None:
        self.client.close()

    def send(self, call: Call) -> Answer:
        with self.errors_in_our_words():
            response = self.client.request(
                call.method, call.path, params=call.params, json=call.json, headers=call.headers
            )
        return answer_of(response)

    def events(self, call: Call) -> Iterator[tuple[str, str, str]]:
        headers = {**call.headers, "Accept": "text/event-stream"}
        patience = httpx2.Timeout(self.timeout, read=SILENCE_S)
        with (
            self.errors_in_our_words(),
            self.client.stream(
                call.method, call.path, params=call.params, headers=headers, timeout=patience
            ) as response,
        ):
            if response.status_code >= 400:
                response.read()
                checked(answer_of(response))
            for event in httpx2.EventSource(response):
                if event.event == "problem":  # the status had long been sent
                    raise Refused(response.status_code, loads(event.data))
                yield event.event, event.id, event.data

    @contextmanager
    def errors_in_our_words(self) -> Iterator[None]:
        """Nothing of the HTTP library leaves this module, except as ``__cause__``."""
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol) as error:
            raise no_broker(self.url) from error
        except httpx2.TimeoutException as error:
            raise silent(self.url, self.timeout) from error
        except httpx2.HTTPError as error:
            raise broken(self.url, error) from error


def answer_of(response: httpx2.Response) -> Answer:
    return Answer(response.status_code, response.headers, response.content)
