"""A Kubernetes cluster as the broker sees it: each verb of the contract over one API server.

An attempt is one object with a name of its own, so a second copy cannot be.  It is told to end by a mark on
the object, which stays as the record of it, and keeps its name taken, until ``cleanup``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from adapters.base import (
    Absent,
    AttemptRef,
    BackendConfig,
    Capability,
    Finding,
    Found,
    Handle,
    Inventory,
    Load,
    LogPage,
    LogQuery,
    Observation,
    Observations,
    Ours,
    Unsettled,
)
from adapters.errors import Rejected
from adapters.extras import LogEnds
from adapters.kubernetes import (
    acting,
    capacity,
    changes,
    checks,
    cluster,
    evidence,
    explain,
    gangs,
    identity,
    loading,
    metrics,
    names,
    observations,
    records,
    refusals,
    render,
    serving,
    spaces,
    volumes,
)
from adapters.kubernetes.attempts import Attempts, Root, Seen, tasks_of
from adapters.kubernetes.belongings import Belonging, Belongings
from adapters.kubernetes.errors import Conflict, KubernetesError, NotThere, reading
from adapters.kubernetes.names import Manifest, member
from adapters.kubernetes.observations import Bundle
from adapters.kubernetes.pod_logs import PodLogs
from adapters.kubernetes.render import Plan
from adapters.kubernetes.resources import EVENTS
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec
from api_spec.usage import RunUsage

if TYPE_CHECKING:
    from adapters.kubernetes.client import Client
    from adapters.kubernetes.watching import ClusterWatch

Shown = Mapping[str, Observation]
RECENT_S = 5.0
"""Why a job waits may be told from the pass that has just shown it waiting."""
RUNS_ON_S = 5.0
"""Until the next look at pods whose Job is gone."""


class KubernetesAdapter:
    type: ClassVar[str] = "kubernetes"
    capabilities = frozenset(
        {
            Capability.LOGS,
            Capability.EXPLAIN,
            Capability.HOLD,
            Capability.UPDATE,
            Capability.ARRAYS,
            Capability.SERVICES,
            Capability.WATCH,
        }
    )

    def __init__(self, config: BackendConfig, client: Client | None = None) -> None:
        """Calls nothing.  Raises ``ValueError`` for options that are wrong."""
        self.name = config.name
        self.options = loading.load(config.options, config.name)
        if not self.options.watch:
            self.capabilities = self.capabilities - {Capability.WATCH}
        self._instance = config.instance
        self._given = client
        self._last: tuple[float, Seen] = (0.0, {})  # pass, and what it showed
        self._watched: tuple[float, Seen] = (0.0, {})  # the same of the watch
        self._made_in: Mapping[str, str | None] = {}  # of the last pass: marker to namespace

    @cached_property
    def client(self) -> Client:
        from adapters.kubernetes.client import Client  # its library takes a second to load

        return self._given or Client(self.options)

    @cached_property
    def _attempts(self) -> Attempts:
        return Attempts(self.client, self.options, self._instance)

    @cached_property
    def _pod_logs(self) -> PodLogs:
        return PodLogs(self.client, self._attempts)

    def close(self) -> None:
        """Connections go; the next call makes new ones."""
        self.client.close()

    # ---- pure ----------------------------------------------------------------------------------------

    def refusals(self, spec: JobSpec, inventory: Inventory | None, owner: str = "") -> Sequence[Refusal]:
        of_the_job = refusals.refusals(spec, inventory, self.options, self.name)
        return [*identity.refusals(owner, spec.project or "", self.options, self.name), *of_the_job]

    def render(self, spec: JobSpec, ref: AttemptRef) -> str:
        return render.text(self._plan(spec, ref))

    def _plan(self, spec: JobSpec, ref: AttemptRef) -> Plan:
        return render.plan(spec, ref, self.options, names.instance_of(ref.marker), self.name)

    def outputs(self, spec: JobSpec, ref: AttemptRef) -> Mapping[str, str]:
        namespace = names.namespace_of(ref.project, self.options)
        above = f"pvc://{namespace}/{self.options.outputs_claim}/{volumes.folder(ref)}"
        return {one.name: f"{above}/{one.path.lstrip('/')}" for one in spec.outputs}

    # ---- attempts ------------------------------------------------------------------------------------

    def submit(self, ref: AttemptRef, spec: JobSpec) -> Handle:
        _must_take(self.refusals(spec, None, ref.owner))
        plan = self._plan(spec, ref)
        with self._writing(ref):
            root = changes.created(self.name, self.client, self._attempts, plan, ref)
        self._finish(root, ref)  # it is there and may run: from here on nothing is "not submitted"
        return observations.handle_of(root.object)

    def find(self, marker: str, since: float) -> Found | Absent | Unsettled:
        now, namespace = time.time(), self._made_in.get(marker)
        with reading(self.name, is_local=True):
            there = self._attempts.named(marker, namespace)
            if there:
                return Found(observations.handle_of(there[0].object))
            runs_on = spaces.is_running_on(self.client, self.options, marker, namespace)
        settled = max(since + self.options.settle_s, now + RUNS_ON_S if runs_on else 0.0)
        return Absent() if now >= settled else Unsettled(settled)

    def observe(self, refs: Collection[AttemptRef]) -> Observations:
        as_of = time.time()
        if not refs:
            return Observations(as_of=as_of, complete=True)
        with reading(self.name):
            looked = spaces.look(self.client, self._attempts, refs, self.options)
        self._last = as_of, looked.seen
        self._made_in = {ref.marker: spaces.of_handle(ref) for ref in refs}
        hidden = {ref.marker: ref for ref in refs if ref.marker in looked.hidden}
        told = {marker: observations.hidden(ref, looked.hidden[marker]) for marker, ref in hidden.items()}
        shown = self._shown(looked.seen, looked.belongings, refs)
        return Observations(as_of=as_of, complete=True, found={**told, **shown})

    def watch(self) -> ClusterWatch:
        from adapters.kubernetes.watching import ClusterWatch  # as ``client``

        def show(seen: Seen, belongings: Belongings, refs: Collection[AttemptRef]) -> Shown:
            self._watched = time.time(), seen
            return self._shown(seen, belongings, refs)

        return ClusterWatch(self.client, self.options, self._attempts, show)

    def _shown(self, seen: Seen, belongings: Belongings, refs: Collection[AttemptRef]) -> Shown:
        by_marker = {ref.marker: ref for ref in refs}
        limit_s, impersonates = self.options.partial_start_s, self.options.impersonate is not None
        found = {}
        for marker, (root, bundle) in seen.items():
            fault = self._finish(root, by_marker[marker], bundle)
            is_array = bool(tasks_of(by_marker[marker], root.object))  # of which one task is enough
            fault = fault or gangs.kept_whole(self._attempts, root, bundle, None if is_array else limit_s)
            told = self._observation(root, bundle, by_marker[marker], belongings.get(marker, ()))
            told = _with_fault(told, fault) if fault else told
            # As whom it would be made no pass knows.
            found[marker] = replace(told, unfinished=impersonates and root.is_unfinished)
        return found

    def _observation(
        self, root: Root, bundle: Bundle, ref: AttemptRef | None, belongings: Sequence[Belonging]
    ) -> Observation:
        if root.is_service:
            return serving.of_service(bundle, belongings, self.options.domain)
        return observations.of_job(bundle, tasks_of(ref, root.object))

    def _writing(self, ref: AttemptRef) -> AbstractContextManager[None]:
        return acting.writing_as_owner(self.name, self.client, ref, self.options)

    def _finish(self, root: Root, ref: AttemptRef, bundle: Bundle | None = None) -> str | None:
        """Whoever submitted it may have died before all of it was made.  A fault is a sentence, and the next
        pass tries again."""
        try:
            if root.is_unfinished:
                with acting.as_owner(self.client, ref, self.options):
                    self._attempts.finish(root)
        except KubernetesError as error:
            return f"what belongs to it has not been made yet: {error}"
        try:
            if bundle is not None and observations.may_be_started(bundle):
                self._attempts.hold_back(root, bundle.workload)
        except KubernetesError as error:
            return f"Kueue has not been told yet that it is to wait: {error}"
        return None

    def complete(self, ref: AttemptRef) -> None:
        with self._writing(ref), suppress(NotThere):
            if (root := self._attempts.root(ref)) is not None:
                self._attempts.finish(root)

    def list_ours(self, since: float) -> Sequence[Ours]:
        out = []
        with reading(self.name):
            for namespace in names.all_namespaces(self.options):
                belongings = self._attempts.belongings(namespace)
                for marker, (root, bundle) in self._attempts.all_in(namespace).items():
                    seen = self._observation(root, bundle, None, belongings.get(marker, ()))
                    created = records.moment(member(root.object, "metadata", "creationTimestamp"))
                    ref = names.ref_of(root.object) or AttemptRef(marker=marker)
                    ref = replace(ref, handle=seen.handle, submitted_at=created)
                    out.append(Ours(ref=ref, observation=seen))
        return out

    def cancel(self, ref: AttemptRef) -> None:
        self._last = (0.0, {})
        with self._writing(ref), suppress(NotThere):
            changes.cancelled(self._attempts, ref)

    def hold(self, ref: AttemptRef) -> None:
        """Only what has not started: to suspend a Job that runs would end its pods."""
        self._last = (0.0, {})
        with self._writing(ref), suppress(NotThere):
            changes.suspended(self._attempts, ref)

    def release(self, ref: AttemptRef) -> None:
        self._last = (0.0, {})
        with self._writing(ref), suppress(NotThere):
            changes.resumed(self._attempts, ref)

    def update(self, ref: AttemptRef, spec: JobSpec) -> None:
        self._last = (0.0, {})
        _must_take(self.refusals(spec, None, ref.owner))
        with reading(self.name):
            _must_take(cluster.not_served(self.client, spec))
        with self._writing(ref), suppress(NotThere):
            there = changes.updated(self.client, self._attempts, self._plan(spec, ref), ref)
            if there is not None:
                self._finish(there, ref)

    def cleanup(self, ref: AttemptRef) -> None:
        with self._writing(ref), suppress(NotThere, Conflict):
            root = self._attempts.root(ref)
            if root is not None and self._attempts.is_over(root):
                self.client.delete(root.path, root.uid)

    # ---- the cluster ---------------------------------------------------------------------------------

    def inventory(self) -> Inventory:
        with reading(self.name):
            client, options = self.client, self.options
            nodes, spaces = cluster.expected_nodes(client, options), cluster.namespaces(client, options)
            served = cluster.apis(client)
            allowed = cluster.allowed(client, options, served)
            classes = cluster.device_classes(client, served)
            return capacity.inventory(nodes, spaces, time.time(), allowed, served, classes)

    def load(self) -> Load:
        with reading(self.name):
            client, options = self.client, self.options
            nodes, pods = cluster.expected_nodes(client, options), cluster.pods(client, options)
            return capacity.load(nodes, pods, options.gpu_resource, time.time())

    def check(self) -> Sequence[Finding]:
        return checks.findings(self.client, self.options)

    # ---- optional ------------------------------------------------------------------------------------

    def logs(self, ref: AttemptRef, query: LogQuery) -> LogPage:
        return self.logs_or_kept(ref, query, lambda: None)

    def logs_or_kept(self, ref: AttemptRef, query: LogQuery, kept: Callable[[], LogEnds | None]) -> LogPage:
        with reading(self.name):
            return self._pod_logs.page(ref, query, kept)

    def log_ends(self, ref: AttemptRef, limit_bytes: int, within_s: float) -> LogEnds:
        with reading(self.name):
            return self._pod_logs.ends(ref, limit_bytes, within_s)

    def measure(self, refs: Collection[AttemptRef]) -> Mapping[str, RunUsage]:
        with reading(self.name):
            return metrics.of(self.client, self._instance, refs)

    def explain_pending(self, ref: AttemptRef) -> Sequence[Refusal]:
        with reading(self.name):
            root, bundle = self._just_seen(ref) or self._asked(ref)
            if root is None or bundle is None:
                return ()
            seen = self._observation(root, bundle, ref, ())
            if seen.state is not observations.A.QUEUED:
                return ()
            return explain.reasons(bundle, bundle.events or _events(self.client, root, bundle), ref.kind)

    def _just_seen(self, ref: AttemptRef) -> tuple[Root, Bundle] | None:
        for at, shown in (self._watched, self._last):
            if time.time() - at < RECENT_S and ref.marker in shown:
                return shown[ref.marker]
        return None

    def _asked(self, ref: AttemptRef) -> tuple[Root | None, Bundle | None]:
        root = self._attempts.root(ref)
        return root, self._attempts.bundle(root) if root is not None else None


def _events(client: Client, root: Root, bundle: Bundle) -> Sequence[Manifest]:
    """A pass reads them only of what has lacked pods for a while."""
    if evidence.is_new(root) or (bundle.pods and not observations.lacks_pods(bundle)):
        return ()
    chosen = f"involvedObject.uid={root.uid}"
    return client.items(EVENTS.path(root.namespace), {"fieldSelector": chosen})


def _must_take(found: Sequence[Refusal]) -> None:
    if found:
        raise Rejected("; ".join(one.message for one in found), found[0].code)


def _with_fault(seen: Observation, fault: str) -> Observation:
    if seen.state is observations.A.ENDED:
        return seen
    service = replace(seen.service, message=fault) if seen.service is not None else None
    return replace(seen, message=fault, service=service)
