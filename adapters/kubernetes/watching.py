"""A watch of all that belongs to attempts: what of them changes, and what they look like now.

It shows what a pass would show, from the same records and by the same rules, and calls the API server only
for what events and Workloads tell.  What it does not hold may be newer than it: only a pass proves absence.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from adapters.base import AttemptRef, Observation, Observations
from adapters.kubernetes import evidence, names, observations, records
from adapters.kubernetes.attempts import Attempts, Root, Seen, in_order, is_in_a_queue, root_of
from adapters.kubernetes.belongings import OPTIONAL, READERS, Belonging, Belongings
from adapters.kubernetes.errors import KubernetesError
from adapters.kubernetes.names import Manifest
from adapters.kubernetes.observations import Bundle
from adapters.kubernetes.options import Options
from adapters.kubernetes.records import Pod
from adapters.kubernetes.reflector import Reflector, Source
from adapters.kubernetes.resources import PODS, Resource

if TYPE_CHECKING:
    from adapters.kubernetes.client import Client

GATHER_S = 0.05
"""Changes come in flocks, a Job's with its pod's; one look serves all of them."""
READ_EVERY_S = 2.0
"""Events and Workloads of a namespace are read no more often, however many attempts want them."""
QUEUED_EVERY_S = 5.0
"""What Kueue says of an attempt in a queue stands in its Workload, of which nobody tells."""
LAST_WORDS = 8
"""Pods that are gone, of one attempt, whose end is remembered."""
LEAVE_WITHIN_S = 3.0

Show = Callable[[Seen, Belongings, Collection[AttemptRef]], Mapping[str, Observation]]


class Record(Protocol):
    @property
    def marker(self) -> str: ...

    @property
    def uid(self) -> str: ...


R = TypeVar("R", bound=Record)


class Shelf(Generic[R]):
    """Records by namespace and marker."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], dict[str, R]] = defaultdict(dict)

    def of(self, namespace: str, marker: str) -> list[R]:
        return list(self._found.get((namespace, marker), {}).values())

    def change(self, namespace: str, before: R | None, after: R | None) -> None:
        if before is not None:
            there = self._found[namespace, before.marker]
            there.pop(before.uid, None)
            if not there:
                del self._found[namespace, before.marker]
        if after is not None:
            self._found[namespace, after.marker][after.uid] = after


class ClusterWatch:
    def __init__(self, client: Client, options: Options, attempts: Attempts, show: Show) -> None:
        """``show``: what a pass makes of what it has seen."""
        self._client = client
        self._attempts = attempts
        self._show = show
        self._roots: Shelf[Root] = Shelf()
        self._pods: Shelf[Pod] = Shelf()
        self._belongings: Shelf[Belonging] = Shelf()
        self._gone: dict[tuple[str, str], list[Pod]] = {}
        self._told = threading.Condition()
        self._closed = threading.Event()
        self._changed: set[str] = set()
        self._due: dict[str, float] = {}
        self._unsettled: dict[tuple[str, str], float] = {}  # a uid, and what it waits for -> since when
        self._read: dict[str, float] = {}  # namespace -> when
        self._reflectors = list(self._reflecting(client, options))
        self._threads = [threading.Thread(target=one.run, daemon=True) for one in self._reflectors]
        for thread in self._threads:
            thread.start()

    def _reflecting(self, client: Client, options: Options) -> Iterator[Reflector[Any]]:
        chosen = names.selector(self._attempts.instance)
        kinds: list[tuple[Resource, Callable[[Manifest], Any], Take[Any]]] = [
            *((one, partial(_root, one), self._root_changed) for one in self._attempts.kinds),
            (PODS, records.pod, self._pod_changed),
            *((one, read, self._belonging_changed) for one, read in READERS.items()),
        ]
        for namespace in names.all_namespaces(options):
            for resource, read, take in kinds:
                path, is_optional = resource.path(namespace), resource in OPTIONAL
                source = Source(path=path, selector=chosen, read=read, is_optional=is_optional)
                yield Reflector(client, source, partial(take, namespace), options.watch_s)

    def close(self) -> None:
        self._closed.set()
        for reflector in self._reflectors:
            reflector.stop()
        give_up_at = time.monotonic() + LEAVE_WITHIN_S
        for thread in self._threads:
            thread.join(max(0.0, give_up_at - time.monotonic()))

    @property
    def fault(self) -> str | None:
        return next((one.fault for one in self._reflectors if one.fault is not None), None)

    # ---- what changes ----------------------------------------------------------------------------------

    def _root_changed(self, namespace: str, before: Root | None, after: Root | None) -> None:
        with self._told:
            self._roots.change(namespace, before, after)
            self._note(before, after)
            if after is None and before is not None:
                self._gone.pop((namespace, before.marker), None)
                for waits_for in [one for one in self._unsettled if one[0] == before.uid]:
                    del self._unsettled[waits_for]

    def _pod_changed(self, namespace: str, before: Pod | None, after: Pod | None) -> None:
        with self._told:
            self._pods.change(namespace, before, after)
            self._note(before, after)
            if after is None and before is not None and before.phase == "Failed":
                self._remember(namespace, before)

    def _remember(self, namespace: str, pod: Pod) -> None:
        """As long as there is an attempt that may want to know."""
        if self._roots.of(namespace, pod.marker):
            last = self._gone.setdefault((namespace, pod.marker), [])
            last.append(pod)
            del last[:-LAST_WORDS]

    def _belonging_changed(self, namespace: str, before: Belonging | None, after: Belonging | None) -> None:
        if before == after:  # an autoscaler writes down what it has measured all the time
            return
        with self._told:
            self._belongings.change(namespace, before, after)
            self._note(before, after)

    def _note(self, before: Record | None, after: Record | None) -> None:
        self._changed |= {one.marker for one in (before, after) if one is not None}
        self._told.notify()

    def changed(self, wait_s: float) -> Collection[str]:
        give_up_at = time.monotonic() + wait_s
        with self._told:
            while not self._changed and (left := self._next(give_up_at) - time.monotonic()) > 0:
                self._told.wait(left)
        self._closed.wait(GATHER_S)
        with self._told:
            now = time.monotonic()
            due = {marker for marker, at in self._due.items() if at <= now}
            found, self._changed = self._changed | due, set()
            for marker in found:
                self._due.pop(marker, None)
            return found

    def _next(self, give_up_at: float) -> float:
        return min([give_up_at, *self._due.values()])

    def again(self, markers: Collection[str], in_s: float) -> None:
        with self._told:
            for marker in markers:
                self._due.setdefault(marker, time.monotonic() + in_s)

    # ---- what is there ---------------------------------------------------------------------------------

    def observe(self, refs: Collection[AttemptRef]) -> Observations:
        as_of = time.time()
        with self._told:
            held = {ref.marker: pair for ref in refs if (pair := self._pair(ref)) is not None}
            belongings = {
                marker: self._belongings.of(root.namespace, marker)
                for marker, (root, _) in held.items()
                if root.is_service
            }
        seen: dict[str, tuple[Root, Bundle]] = {}
        by_namespace: dict[str, dict[str, tuple[Root, Bundle]]] = defaultdict(dict)
        for marker, (root, bundle) in held.items():
            if self._is_settled(root, bundle):
                by_namespace[root.namespace][marker] = root, bundle
        for namespace, some in by_namespace.items():
            seen |= self._completed(namespace, some)
        return Observations(as_of=as_of, complete=False, found=self._show(seen, belongings, refs))

    def _pair(self, ref: AttemptRef) -> tuple[Root, Bundle] | None:
        namespace = str((ref.handle or {}).get("namespace"))
        for root in self._roots.of(namespace, ref.marker):
            if self._attempts.is_of(root, ref):
                pods = in_order(self._pods.of(namespace, ref.marker))
                bundle = Bundle(root=root.as_job, pods=pods)
                if observations.lost_its_pod(bundle):  # and here it was seen how that ended
                    gone = self._gone.get((namespace, ref.marker), ())
                    bundle = replace(bundle, pods=in_order([*pods, *gone]))
                return root, bundle
        return None

    def _is_settled(self, root: Root, bundle: Bundle) -> bool:
        """What is still being made, or not all told of, is looked at again: nobody says that it never was.
        Whoever makes it is not disturbed, and neither is waited for long."""
        lacking = not root.is_service and evidence.is_new(root) and observations.lacks_pods(bundle)
        waits = [
            self._wait_for(root, why, is_so)
            for why, is_so in (
                ("its maker", root.is_unfinished),
                ("its pods", observations.is_ahead_of_its_pods(bundle)),
            )
        ]
        if lacking:
            self.again([root.marker], evidence.UNUSUAL_S + GATHER_S)
        return not any(waits)

    def _wait_for(self, root: Root, why: str, is_so: bool) -> bool:
        if not is_so:
            self._unsettled.pop((root.uid, why), None)
            return False
        since = self._unsettled.setdefault((root.uid, why), time.monotonic())
        left_s = since + evidence.UNUSUAL_S - time.monotonic()
        if left_s > 0:
            self.again([root.marker], left_s + GATHER_S)
        return left_s > 0

    def _completed(self, namespace: str, some: Seen) -> Seen:
        """What wants more than the watch holds, and does not get it, is left out: it would look otherwise."""
        queued = {marker for marker, pair in some.items() if is_in_a_queue(*pair)}
        wanting = queued | {marker for marker, pair in some.items() if evidence.is_wanted(*pair)}
        if not wanting:
            return some
        rest_s = self._read.get(namespace, 0.0) + READ_EVERY_S - time.monotonic()
        if rest_s <= 0:
            self._read[namespace] = time.monotonic()
            try:
                found = self._attempts.completed(namespace, some)
            except KubernetesError:
                rest_s = READ_EVERY_S
            else:
                self.again(queued, QUEUED_EVERY_S)
                return found
        self.again(wanting, rest_s)
        return {marker: pair for marker, pair in some.items() if marker not in wanting}


Take = Callable[[str, R | None, R | None], None]


def _root(resource: Resource, found: Manifest) -> Root | None:
    return root_of(resource, records.root(found))
