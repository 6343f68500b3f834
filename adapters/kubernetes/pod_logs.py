"""Which container's log is meant, read while its pod is there; its end, for who keeps it; and what was kept.

What is kept are the kubelet's own lines with their times, so that a cursor goes on from one to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from adapters.base import AttemptRef, LogPage, LogQuery
from adapters.errors import BackendError, BadLogQuery
from adapters.extras import LogEnd, LogEnds
from adapters.kubernetes import logs, names
from adapters.kubernetes.attempts import Attempts, Root, over, tasks_of
from adapters.kubernetes.errors import KubernetesError, NotThere, Refused
from adapters.kubernetes.logs import Fetch
from adapters.kubernetes.names import member
from adapters.kubernetes.records import Pod
from adapters.kubernetes.resources import PODS

if TYPE_CHECKING:
    from adapters.kubernetes.client import Client

AT_ONCE = 8
"""Logs of one attempt that are read at the same time."""
MOST_READ = 1024
"""Of its pods; of 1 MiB each then has 1 KiB."""
UNKNOWN = "the cluster does not know this attempt; it has no log"
GONE = "its pod is gone, and the log with it"

Kept = Callable[[], LogEnds | None]


class Indexed(Protocol):
    @property
    def index(self) -> int | None: ...


Log = TypeVar("Log", bound=Indexed)


class PodLogs:
    """Every method raises ``KubernetesError``, ``BackendError`` and ``BadLogQuery``."""

    def __init__(self, client: Client, attempts: Attempts) -> None:
        self._client = client
        self._attempts = attempts

    def page(self, ref: AttemptRef, query: LogQuery, kept: Kept) -> LogPage:
        """``kept`` is asked for only where the cluster has the log no longer."""
        if query.cursor is not None:
            logs.place_of(query.cursor)
        root = self._attempts.root(ref)
        if root is None:
            return kept_page(kept(), ref.task_indices, query, UNKNOWN)
        tasks, bundle = tasks_of(ref, root.object), self._attempts.bundle(root)
        count = _nodes(root, tasks)
        if query.node is not None and query.node >= count:
            nodes = "1 node" if count == 1 else f"{count} nodes"
            raise BadLogQuery(f"the attempt runs on {nodes}, from 0", "node")
        pod = chosen(bundle.pods, query, tasks)
        if pod is not None and pod.has_started:
            told = of_many(count) if query.node is None else None
            return _noted(self._page(root.namespace, pod, query), told)
        if pod is None and over(root, bundle):
            return kept_page(kept(), tasks, query, GONE)
        if pod is None and (left := _left(kept(), bundle.pods)):
            beyond = replace(
                query, replica=None if query.replica is None else query.replica - len(bundle.pods)
            )
            with suppress(BackendError):
                return kept_page(left, tasks, beyond, GONE)
        return logs.not_started(query, over=pod is not None and not pod.live)

    def _page(self, namespace: str, pod: Pod, query: LogQuery) -> LogPage:
        found = logs.page(self._fetch(namespace, pod), query, over=not pod.live)
        if not pod.restarts:
            return found
        times = "once" if pod.restarts == 1 else f"{pod.restarts} times"
        told = f"its container was started again {times}; of those before, the last one's log is shown first"
        return _noted(found, told)

    def _fetch(self, namespace: str, pod: Pod) -> Fetch:
        now = partial(self._log, namespace, pod.name)
        # Of a container that waits to be started again the kubelet shows the last one anyhow.
        if not pod.restarts or pod.waiting is not None:
            return now
        return logs.one_after_the_other(partial(self._before, namespace, pod.name), now)

    def _log(self, namespace: str, pod: str, query: Mapping[str, str | int]) -> bytes:
        return self._client.content(PODS.path(namespace, pod, "log"), {"container": names.MAIN, **query})

    def _before(self, namespace: str, pod: str, query: Mapping[str, str | int]) -> bytes:
        """The kubelet keeps one, and removes it when the disk is full."""
        with suppress(Refused, NotThere):
            return self._log(namespace, pod, {**query, "previous": "true"})
        return b""

    # ---- what goes with its pods -------------------------------------------------------------------------

    def ends(self, ref: AttemptRef, limit_bytes: int, within_s: float) -> LogEnds:
        """Where some of its pods are about to go, of these alone: the others stay."""
        namespace = str((ref.handle or {}).get("namespace") or "")
        pods = self._attempts.pods_of(namespace, ref.marker) if namespace else []
        begun = [pod for pod in pods if pod.has_started]
        if not begun:
            return LogEnds(missed=self._why_none(ref))
        if any(pod.leaving for pod in begun):
            begun = [pod for pod in begun if pod.leaving or not pod.live]
        begun.sort(key=lambda pod: pod.phase != "Failed")
        # More than a fair share: who has written little leaves room.
        most = limit_bytes * AT_ONCE // max(AT_ONCE, min(len(begun), MOST_READ))
        found, missed = self._read(namespace, begun[:MOST_READ], most, within_s)
        if len(begun) > MOST_READ:
            missed.append(f"{len(begun) - MOST_READ} more pods were not read")
        again = any(pod.leaving and pod.live for pod in begun)
        return LogEnds(ends=tuple(found), missed="; ".join(missed) or None, again=again)

    def _why_none(self, ref: AttemptRef) -> str | None:
        """``None``: no pod of it has started."""
        root = self._attempts.root(ref)
        if root is None:
            return UNKNOWN
        return GONE if member(root.object, "status", "startTime") else None

    def _read(
        self, namespace: str, pods: Sequence[Pod], most: int, within_s: float
    ) -> tuple[list[LogEnd], list[str]]:
        """Several at once, and only for so long: what is missing is counted."""
        if not pods:
            return [], []
        readers = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="log-ends")
        reading = [readers.submit(self._end, namespace, pod, most) for pod in pods]
        late = wait(reading, within_s).not_done
        readers.shutdown(wait=False, cancel_futures=True)
        faults = [error for one in reading if one not in late and (error := _fault(one)) is not None]
        found = [one.result() for one in reading if one not in late and one.exception() is None]
        missed = [f"{len(late)} pods were not read within {within_s:g} s"] if late else []
        if faults:
            missed.append(f"{len(faults)} could not be read: {faults[0]}")
        return found, missed

    def _end(self, namespace: str, pod: Pod, most: int) -> LogEnd:
        data, cut = logs.end(self._fetch(namespace, pod), most)
        return LogEnd(source=pod.name, index=pod.index, began_at=pod.created_at or 0.0, data=data, cut=cut)


def _nodes(root: Root, tasks: Sequence[int]) -> int:
    """Of a job on several each has a log of its own; tasks and replicas are no nodes."""
    count = member(root.as_job, "spec", "completions")
    return count if isinstance(count, int) and not tasks and not root.is_service else 1


def _noted(page: LogPage, told: str | None) -> LogPage:
    return replace(page, note=f"{page.note}; {told}" if page.note else told) if told else page


def _fault(read: Future[LogEnd]) -> KubernetesError | None:
    """Raises what is no fault of the cluster's."""
    error = read.exception()
    if error is not None and not isinstance(error, KubernetesError):
        raise error
    return error


def _left(kept: LogEnds | None, pods: Sequence[Pod]) -> LogEnds | None:
    """Of those whose pods are no longer there."""
    if kept is None:
        return None
    there = {pod.name for pod in pods}
    gone = tuple(one for one in kept.ends if one.source not in there)
    return replace(kept, ends=gone) if gone else None


def kept_page(kept: LogEnds | None, tasks: Sequence[int], query: LogQuery, why: str) -> LogPage:
    """Raises ``BackendError`` with what is known where there is nothing."""
    if kept is None:
        raise BackendError(f"{why}; nothing of it was kept where this process looks")
    found = chosen(sorted(kept.ends, key=lambda one: one.began_at), query, tasks)
    if found is None:
        raise BackendError(f"{why}; nothing of it was kept" + (f": {kept.missed}" if kept.missed else ""))
    page = logs.page(logs.of_text(found.data), query, over=True)
    size = f"{len(found.data):,} bytes, times included"
    told = f"the last {size}, were kept" if found.cut else f"all of it was kept ({size})"
    told = f"{why.partition(',')[0].partition(';')[0]}; {told}"
    nodes = {one.index for one in kept.ends if one.index is not None}
    first = of_many(len(nodes)) if not tasks and query.node is None else None
    return _noted(_noted(page, told), first)


def of_many(nodes: int) -> str | None:
    return f"of {nodes} nodes this is the log of the first" if nodes > 1 else None


def chosen(found: Sequence[Log], query: LogQuery, tasks: Sequence[int]) -> Log | None:
    """The latest of its index: a task's place or a node's rank.  Replicas are counted from the oldest."""
    if query.task_index is not None and query.task_index not in tasks:
        raise BadLogQuery(f"the attempt runs no task {query.task_index}", "task")
    if query.replica is not None:
        return found[query.replica] if 0 <= query.replica < len(found) else None
    place = tasks.index(query.task_index) if query.task_index is not None else query.node or 0
    those = [one for one in found if one.index in (None, place)]
    return those[-1] if those else None
