"""One API server over HTTP.  The only module that knows the ``kubernetes`` package.

Of that package the configuration, the credentials and the connections are used, and no models: one odd object
would break a whole list, and a field that is newer than the package could not be sent.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import load_incluster_config, load_kube_config
from kubernetes.config.config_exception import ConfigException
from urllib3 import HTTPHeaderDict
from urllib3.exceptions import ConnectTimeoutError, HTTPError, MaxRetryError, NewConnectionError

from adapters.kubernetes.errors import (
    DENIED,
    NO_WEBHOOK,
    Conflict,
    Expired,
    Forbidden,
    KubernetesError,
    NoAnswer,
    NotAuthenticated,
    NotReached,
    NotThere,
    Refused,
    TryLater,
)
from adapters.kubernetes.identity import Identity
from adapters.kubernetes.lines import Lines
from adapters.kubernetes.names import BROKER, Manifest, member, rows
from adapters.kubernetes.options import Options

Query = Mapping[str, str | int]
T = TypeVar("T")

PAGE = 500
LISTED_AGAIN = 3
"""A list that takes longer than the API server keeps its moment begins anew, so often."""
MERGE = "application/merge-patch+json"
JSON = "application/json"
STRICT = {"fieldValidation": "Strict"}
LATER_S = 5.0
LONGEST_MESSAGE = 2000

ACTING: ContextVar[Identity | None] = ContextVar("acting", default=None)
"""As whom this thread writes now."""

ERRORS: Mapping[int, type[KubernetesError]] = {
    400: Refused,
    401: NotAuthenticated,
    403: Forbidden,
    404: NotThere,
    405: Refused,
    409: Conflict,
    410: Expired,
    413: Refused,
    415: Refused,
    422: Refused,
}


@dataclass(frozen=True, kw_only=True)
class Question:
    method: str
    path: str
    query: Query | None = None
    body: Manifest | None = None
    content_type: str = JSON


class Client:
    """Safe from several threads, and after a fork: each process makes its own connections.

    Every method raises ``KubernetesError``."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._made: tuple[int, ApiClient] | None = None
        self._token_read: tuple[float, str] = (0.0, "")

    def close(self) -> None:
        with self._lock:
            made, self._made = self._made, None
        if made is not None and made[0] == os.getpid():
            made[1].close()

    @contextmanager
    def acting_as(self, who: Identity) -> Iterator[None]:
        """What this thread changes meanwhile is changed as somebody else; it reads as itself."""
        token = ACTING.set(who)
        try:
            yield
        finally:
            ACTING.reset(token)

    # ---- requests --------------------------------------------------------------------------------------

    def get(self, path: str, query: Query | None = None) -> Manifest:
        return self._json(Question(method="GET", path=path, query=query))

    def items(self, path: str, query: Query | None = None) -> list[Manifest]:
        """All of a collection as it was at one moment, in pages."""
        return self.read(path, dict, query)

    def read(self, path: str, one: Callable[[Manifest], T], query: Query | None = None) -> list[T]:
        """The same, each object read at once: of a page no more is kept than was asked for."""
        return self.collection(path, one, query)[0]

    def collection(
        self, path: str, one: Callable[[Manifest], T], query: Query | None = None
    ) -> tuple[list[T], str]:
        """And the version that a watch of it may begin at."""
        for _ in range(LISTED_AGAIN):
            try:
                found: list[T] = []
                for page, version in self._pages(path, query or {}):
                    found += [one(each) for each in page]
                    at = version
                return found, at
            except Expired as error:  # what was read so far is of a moment that is gone
                expired = error
        raise expired

    @contextmanager
    def lines(self, path: str, query: Query, silent_s: float) -> Iterator[Lines]:
        """An answer that goes on: a watch.  One that is silent for so long has lost its other end."""
        with _in_our_words():
            response = self._asked(Question(method="GET", path=path, query=query), silent_s)
            if response.status != 200:
                raise _error(int(response.status), bytes(response.read() or b""), response.headers)
        lines = Lines(response.response, _in_our_words)
        try:
            yield lines
        finally:
            lines.close()

    def create(self, path: str, body: Manifest, *, tried_within_s: float | None = None) -> Manifest:
        """``tried_within_s``: a dry run, of which nothing is kept and for which nobody waits longer."""
        query = {**STRICT, **({"dryRun": "All"} if tried_within_s is not None else {})}
        return self._json(Question(method="POST", path=path, query=query, body=body), tried_within_s)

    def merge(self, path: str, body: Manifest) -> Manifest:
        """A merge patch; with ``metadata.uid`` in it, only for that very object."""
        return self._json(Question(method="PATCH", path=path, body=body, content_type=MERGE))

    def replace(self, path: str, body: Manifest) -> Manifest:
        """With ``metadata.resourceVersion`` in it, only what has not changed since."""
        return self._json(Question(method="PUT", path=path, query=STRICT, body=body))

    def delete(self, path: str, uid: str, propagation: str = "Background") -> None:
        """A bare DELETE of a Job would leave its pods behind."""
        body = {"propagationPolicy": propagation, "preconditions": {"uid": uid}}
        self._json(Question(method="DELETE", path=path, body=body))

    def content(self, path: str, query: Query | None = None) -> bytes:
        """As it is, and not JSON: a log."""
        status, body, headers = self._sent(Question(method="GET", path=path, query=query))
        if status != 200:
            raise _error(status, body, headers)
        return body

    # ---- answers ---------------------------------------------------------------------------------------

    def _pages(self, path: str, query: Query) -> Iterator[tuple[list[Manifest], str]]:
        token = ""
        while True:
            page = self.get(path, {**query, "limit": PAGE, **({"continue": token} if token else {})})
            if not isinstance(page.get("items", ""), list | None):  # without them all would look absent
                raise NoAnswer("a list without items")
            version = str(member(page, "metadata", "resourceVersion") or "")
            yield [dict(one) for one in rows(page.get("items"))], version
            token = str(member(page, "metadata", "continue") or "")
            if not token:
                return

    def _json(self, question: Question, within_s: float | None = None) -> Manifest:
        status, raw, headers = self._sent(question, within_s)
        if not 200 <= status < 300:
            raise _error(status, raw, headers)
        return _object(raw)

    def _sent(
        self, question: Question, within_s: float | None = None
    ) -> tuple[int, bytes, Mapping[str, str]]:
        with _in_our_words():
            response = self._asked(question, min(within_s or math.inf, self._options.answer_s))
            return int(response.status), bytes(response.read() or b""), response.headers

    def _asked(self, question: Question, silent_s: float) -> Any:
        """The answer, of which nothing has been read yet."""
        api = self._api()
        method, path = question.method, question.path
        headers = {"Accept": "application/json, */*", "User-Agent": BROKER}
        request = api.param_serialize(
            method=method,
            resource_path=path,
            query_params=list((question.query or {}).items()),
            header_params={**headers, "Content-Type": question.content_type},
            body=question.body,
            auth_settings=["BearerToken"],
        )
        _, url, given, sent, form = request
        if method != "GET":
            given = _as_somebody(given)
        limits = (self._options.connect_s, silent_s)
        response = api.call_api(method, url, given, sent, form, _request_timeout=limits)
        if response.status == 401:
            self._forget()
        return response

    # ---- connections -----------------------------------------------------------------------------------

    def _api(self) -> ApiClient:
        with self._lock:
            if self._made is None or self._made[0] != os.getpid():
                self._made = os.getpid(), ApiClient(configuration=self._configuration())
            return self._made[1]

    def _forget(self) -> None:
        """The next request reads the configuration again: a kubeconfig's token file is else read once."""
        with self._lock:
            self._made = None

    def _configuration(self) -> Configuration:
        options, found = self._options, Configuration()
        found.retries = False  # else a time-out of 4 s takes 16
        found.keep_alive = True
        try:
            if options.in_cluster:
                load_incluster_config(client_configuration=found)
            elif options.kubeconfig:
                load_kube_config(
                    config_file=options.kubeconfig,
                    context=options.context,
                    client_configuration=found,
                    persist_config=False,
                )
            else:
                found.host, found.ssl_ca_cert = str(options.url), options.ca_file
                setattr(found, "refresh_api_key_hook", self._with_the_token)  # noqa: B010 - typed as None
                self._with_the_token(found)
        except (ConfigException, OSError) as error:
            raise NotReached(f"the configuration of the connection cannot be read: {error}") from error
        return found

    def _with_the_token(self, configuration: Configuration) -> None:
        """The file is read again when it has changed: tokens are renewed under our feet."""
        file = str(self._options.token_file)
        try:
            changed = os.stat(file).st_mtime
            if changed != self._token_read[0]:
                with open(file, encoding="ascii") as opened:
                    self._token_read = changed, opened.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise NotReached(f"the token cannot be read from {file}") from error
        configuration.api_key["BearerToken"] = f"Bearer {self._token_read[1]}"


def _as_somebody(headers: dict[str, str]) -> Any:
    """A user may have several groups, each a header of its own, which the package's type does not know."""
    who = ACTING.get()
    if who is None:
        return headers
    found = HTTPHeaderDict({**headers, "Impersonate-User": who.user})
    for group in who.groups:
        found.add("Impersonate-Group", group)
    return found


@contextmanager
def _in_our_words() -> Iterator[None]:
    """Nothing of the libraries leaves this module but as a cause."""
    try:
        yield
    except (NewConnectionError, ConnectTimeoutError, MaxRetryError) as error:
        if isinstance(getattr(error, "reason", error), NewConnectionError | ConnectTimeoutError):
            raise NotReached("no connection to the API server") from error
        raise NoAnswer("the connection broke") from error
    except (HTTPError, OSError) as error:
        raise NoAnswer(f"the connection broke ({type(error).__name__})") from error
    except ApiException as error:
        raise NotReached(f"no secure connection: {str(error.reason).splitlines()[-1]}") from error


def _object(raw: bytes) -> Manifest:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise NoAnswer("an answer that is not JSON") from error
    if not isinstance(found, dict) or "kind" not in found:
        raise NoAnswer("an answer that is no object of Kubernetes")
    return found


def _error(status: int, raw: bytes, headers: Mapping[str, str]) -> KubernetesError:
    """What is not a Status was said by somebody on the way, whose 404 is not Kubernetes'."""
    try:
        told = _object(raw)
    except NoAnswer:
        told = {}
    message = str(told.get("message") or f"HTTP {status}")[:LONGEST_MESSAGE]
    if status == 429 or (status == 503 and "Retry-After" in headers):
        return TryLater(message, _seconds(headers.get("Retry-After")))
    if told.get("kind") == "Status" and (by_webhook := _of_a_webhook(status, message)) is not None:
        return by_webhook
    kind = ERRORS.get(status)
    if kind is None or (told.get("kind") != "Status" and status != 401):
        return NoAnswer(f"the answer is {status}: {message}")
    return kind(message)


def _of_a_webhook(status: int, message: str) -> KubernetesError | None:
    """It is asked before anything is stored, so nothing was done; its denial has any status it likes."""
    denied = any(words in message for words in DENIED)
    if NO_WEBHOOK in message or (denied and status >= 500):
        return TryLater(message, LATER_S)
    return Forbidden(message) if denied else None


def _seconds(text: str | None) -> float:
    """Never under a second: what says 0 would be asked without pause."""
    try:
        return max(1.0, float(text or LATER_S))
    except ValueError:
        return LATER_S
