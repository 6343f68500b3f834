"""What one collection of a cluster holds, kept as it is now by a watch.  Knows neither kinds nor attempts.

    a list            what is there, and its version
    a watch from it   each change; a bookmark moves the version on while nothing changes
    its end           a watch again, from the last version: each is asked to end after a while, and one
                      that is silent for longer than that has lost its other end
    410               that version is not known any more, for ever after a restart of the API server: a list

Nothing is asked without a pause after a failure, and the pause grows.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from adapters.kubernetes.errors import (
    RIGHTS_S,
    Expired,
    Forbidden,
    KubernetesError,
    NoAnswer,
    TryLater,
)
from adapters.kubernetes.names import Manifest, member

if TYPE_CHECKING:
    from adapters.kubernetes.client import Client
    from adapters.kubernetes.lines import Lines

T = TypeVar("T")

NOT_LISTED = "it has not been listed yet"
SLACK_MAX_S = 5.0
"""For the end of a watch to arrive, after the time that it was asked to last."""
SHORTEST_S = 1.0
"""A watch that ends sooner, and without a word, is no reason to ask for the next one at once."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
HEALTHY_S = 60.0
"""After a watch that lasted so long the pauses begin anew."""

log = logging.getLogger("adapters.kubernetes")


@dataclass(frozen=True, kw_only=True)
class Source(Generic[T]):
    """A collection, and what is kept of each of its objects; of one that is read as ``None``, nothing."""

    path: str
    selector: str
    read: Callable[[Manifest], T | None]
    is_optional: bool = False
    """That it may not be read is no fault."""


class Reflector(Generic[T]):
    """``changed(before, after)`` is called by its thread; ``None``: it was not there, or is not any more."""

    def __init__(
        self,
        client: Client,
        source: Source[T],
        changed: Callable[[T | None, T | None], None],
        watch_s: float,
    ) -> None:
        self._client = client
        self._source = source
        self._changed = changed
        self._watch_s = watch_s
        self._held: dict[str, tuple[str, T]] = {}  # uid -> version, what is kept
        self._version = ""  # none: it has to be listed
        self._failures = 0
        self._well_since: float | None = None
        self._lines: Lines | None = None
        self._stop = threading.Event()
        self.fault: str | None = NOT_LISTED  # None: what it holds is what is there

    def stop(self) -> None:
        """By another thread; what is being read is left."""
        self._stop.set()
        if (lines := self._lines) is not None:
            lines.shut()

    def run(self) -> None:
        """The body of a thread.  Returns after ``stop``."""
        while not self._stop.is_set():
            try:
                if not self._version:
                    self._list()
                self._watch()
            except KubernetesError as error:
                self._failed(error)
            except Exception as error:
                # The last loop of the thread: what this was about is listed again.
                if not self._stop.is_set():  # a connection that is shut in the middle may say anything
                    log.exception("a watch of %s failed", self._source.path)
                self._version = ""
                self._failed(error)

    # ---- the two questions -----------------------------------------------------------------------------

    def _list(self) -> None:
        found, version = self._client.collection(self._source.path, self._kept, self._query())
        if not version:
            raise NoAnswer("a list without a version")
        there = {uid: (written, kept) for uid, written, kept in filter(None, found)}
        before, self._held = self._held, there
        for uid, (written, kept) in there.items():
            known = before.pop(uid, None)
            if known is None or known[0] != written:
                self._changed(known[1] if known else None, kept)
        for _, gone in before.values():
            self._changed(gone, None)
        self._version = version

    def _watch(self) -> None:
        """Until it ends as it was asked to."""
        lasts_s = self._watch_s * random.uniform(0.75, 1.0)  # noqa: S311 - not all at the same moment
        query = self._query(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=self._version,
            timeoutSeconds=max(1, round(lasts_s)),
        )
        began = time.monotonic()
        with self._client.lines(self._source.path, query, lasts_s + min(SLACK_MAX_S, self._watch_s)) as lines:
            self._lines = lines
            try:
                self._is_well()
                for line in () if self._stop.is_set() else lines:
                    self._take(line)
            finally:
                self._lines = None
        if time.monotonic() - began < SHORTEST_S and not self._stop.is_set():
            raise NoAnswer("a watch that ends as soon as it has begun")

    def _query(self, **more: str | int) -> dict[str, str | int]:
        return {"labelSelector": self._source.selector, **more}

    # ---- what is told ----------------------------------------------------------------------------------

    def _kept(self, found: Manifest) -> tuple[str, str, T] | None:
        """uid, version and what is kept; ``None`` for what cannot be told apart or is nobody's."""
        uid, kept = member(found, "metadata", "uid"), self._source.read(found)
        return (uid, _version_of(found), kept) if isinstance(uid, str) and kept is not None else None

    def _take(self, line: bytes) -> None:
        event = _event(line)
        found = member(event, "object")
        if event is None or event.get("type") == "ERROR":
            self._version = ""  # to ask for the same again would bring the same
            raise _fault(found) if event is not None else NoAnswer("an event that is no JSON object")
        if not isinstance(found, dict):
            return  # nobody can say what it was about; a list will
        version = _version_of(found)
        if event.get("type") in ("ADDED", "MODIFIED", "DELETED"):
            self._apply(event["type"] == "DELETED", version, found)
        if version and _is_newer(version, self._version):
            self._version = version

    def _apply(self, is_gone: bool, version: str, found: Manifest) -> None:
        """What was told before, or is older than what is known, changes nothing."""
        uid, read = member(found, "metadata", "uid"), self._kept(found)
        known = self._held.get(uid) if isinstance(uid, str) else None
        is_newer = _is_newer(version, known[0] if known is not None else self._version)
        if not is_newer and not (is_gone and known is not None and version == known[0]):
            return
        if read is not None and is_newer and (known is not None or not is_gone):
            self._held[uid] = version, read[2]
            self._changed(known[1] if known is not None else None, read[2])
        if known is not None and (is_gone or read is None):  # after its last words, if it has some
            _, last = self._held.pop(uid)
            self._changed(last, None)

    # ---- how it is -------------------------------------------------------------------------------------

    def _is_well(self) -> None:
        if self.fault is not None:
            self._well_since = time.monotonic()
        self.fault = None

    def _failed(self, error: Exception) -> None:
        told = f"{self._source.path} cannot be watched: {error}"
        self.fault = None if self._source.is_optional and isinstance(error, Forbidden) else told
        if isinstance(error, Expired):
            self._version = ""
        since, self._well_since = self._well_since, None
        if since is not None and time.monotonic() - since > HEALTHY_S:
            self._failures = 0
        if self._failures == 0:
            log.warning("%s", told)
        # A server that has just been started forbids everything until it has read who may do what.
        most_s = RIGHTS_S if isinstance(error, Forbidden) else LONGEST_PAUSE_S
        longest_s = min(most_s, FIRST_PAUSE_S * 2 ** min(self._failures, 10))
        self._failures += 1
        pause_s = longest_s * random.uniform(0.5, 1.0)  # noqa: S311 - so that not all come back together
        if isinstance(error, TryLater) and not isinstance(error, Expired):
            pause_s = max(pause_s, error.retry_after_s)
        self._stop.wait(pause_s)


def _version_of(found: Mapping[str, Any]) -> str:
    version = member(found, "metadata", "resourceVersion")
    return version if isinstance(version, str) else ""


def _is_newer(one: str, other: str) -> bool:
    """Versions of one collection are numbers that grow.  Of what is none nobody knows, so it may be."""
    return int(one) > int(other) if one.isdecimal() and other.isdecimal() else one != other


def _event(line: bytes) -> Mapping[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _fault(status: Any) -> KubernetesError:
    message = str(member(status, "message") or "a watch was ended with an error")
    gone = member(status, "code") == 410 or member(status, "reason") in ("Expired", "Gone")
    return Expired(message) if gone else NoAnswer(message)
