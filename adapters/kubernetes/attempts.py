"""Attempts on a cluster: one root object each, found by its name or its labels, known by its uid.

Every method raises ``KubernetesError``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace

from adapters.base import AttemptRef
from adapters.kubernetes import (
    cluster,
    dependents,
    evidence,
    job_sets,
    kueue,
    names,
    observations,
    records,
    serving,
)
from adapters.kubernetes.belongings import OPTIONAL, READERS, Belonging
from adapters.kubernetes.client import Client
from adapters.kubernetes.errors import Changed, Conflict, Forbidden, NotThere, Refused
from adapters.kubernetes.names import Manifest, member
from adapters.kubernetes.observations import Bundle
from adapters.kubernetes.options import Options
from adapters.kubernetes.queueing import Workloads
from adapters.kubernetes.records import Pod
from adapters.kubernetes.resources import (
    DEPLOYMENTS,
    JOB_SETS,
    JOBS,
    PODS,
    ROOTS,
    SCALED_OBJECTS,
    Resource,
)
from api_spec.jobs import Kind


@dataclass(frozen=True, kw_only=True)
class Root:
    """One attempt as the cluster has it."""

    resource: Resource
    object: Manifest

    @property
    def path(self) -> str:
        metadata = self.object["metadata"]
        return self.resource.path(str(metadata["namespace"]), str(metadata["name"]))

    @property
    def namespace(self) -> str:
        return str(self.object["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        return str(member(self.object, "metadata", "uid"))

    @property
    def marker(self) -> str:
        return str(member(self.object, "metadata", "labels", names.MARKER))

    @property
    def is_service(self) -> bool:
        return self.resource is DEPLOYMENTS

    @property
    def is_cancelled(self) -> bool:
        return names.is_cancelled(self.object)

    @property
    def is_unfinished(self) -> bool:
        """What belongs to it is not all made yet."""
        return member(self.object, "metadata", "annotations", names.UNFINISHED) is not None

    @property
    def is_queued(self) -> bool:
        """Kueue says when it starts."""
        return not self.is_service and kueue.queue_of(self.object) is not None

    @property
    def as_job(self) -> Manifest:
        """As its state is read."""
        return job_sets.as_job(self.object) if self.resource is JOB_SETS else self.object


Seen = Mapping[str, tuple[Root, Bundle]]
"""By marker: attempts of one moment."""


class Attempts:
    def __init__(self, client: Client, options: Options, instance: str) -> None:
        self._client = client
        self._options = options
        self.instance = instance
        self._workloads = Workloads(client)
        self.kinds = (JOBS, DEPLOYMENTS, *([JOB_SETS] if options.job_sets else []))

    # ---- one ---------------------------------------------------------------------------------------------

    def root(self, ref: AttemptRef) -> Root | None:
        """``None``: there is none, or what has the name is somebody else's."""
        handle = ref.handle or {}
        told = ref.kind and names.namespace_of(ref.project, self._options) and not self._options.job_sets
        if not handle and not told:
            found = self.named(ref.marker)
            return found[0] if found else None
        is_service = ref.kind == Kind.INFERENCE.value
        resource = ROOTS.get(str(handle.get("kind")), DEPLOYMENTS if is_service else JOBS)
        namespace = handle.get("namespace") or names.namespace_of(ref.project, self._options)
        name = str(handle.get("name") or ref.marker)
        try:
            found_one = self._client.get(resource.path(str(namespace), name))
        except NotThere:
            return None
        root = Root(resource=resource, object=found_one)
        return root if self.is_of(root, ref) else None

    def is_of(self, root: Root, ref: AttemptRef) -> bool:
        uid = (ref.handle or {}).get("uid")
        instance = member(root.object, "metadata", "labels", names.INSTANCE)
        return root.marker == ref.marker and instance is not None and uid in (None, root.uid)

    def named(self, marker: str, namespace: str | None = None) -> list[Root]:
        """There, or wherever it is; a list is a read of the newest state.

        Raises ``Forbidden`` when it may be where the broker may not look."""
        chosen = names.selector(names.instance_of(marker), marker)
        found: list[Root] = []
        forbidden: Forbidden | None = None
        for space in [namespace] if namespace else names.all_namespaces(self._options):
            try:
                found += self._listed(space, chosen)
            except Forbidden as error:
                forbidden = forbidden if cluster.is_gone(self._client, space) else error
        if forbidden is not None and not found:
            raise forbidden
        return found

    def _listed(
        self,
        namespace: str,
        chosen: str,
        kinds: Iterable[Resource] | None = None,
        read: Callable[[Manifest], Manifest] = dict,
    ) -> list[Root]:
        found = []
        for resource in self.kinds if kinds is None else kinds:
            for one in self._client.read(resource.path(namespace), read, {"labelSelector": chosen}):
                found.append(root_of(resource, one))
        return [root for root in found if root is not None]

    def _kinds_of(self, ref: AttemptRef) -> set[Resource]:
        """Without a handle it may be any that its kind of job can be."""
        if ref.handle:
            return {ROOTS.get(str(ref.handle.get("kind")), JOBS)}
        if not ref.kind:
            return set(self.kinds)
        return {DEPLOYMENTS} if ref.kind == Kind.INFERENCE.value else {*self.kinds} - {DEPLOYMENTS}

    def pods(self, root: Root) -> list[Pod]:
        return self.pods_of(root.namespace, root.marker)

    def pods_of(self, namespace: str, marker: str) -> list[Pod]:
        """Where the attempt is known to be, without a look at itself."""
        return self._pods(namespace, f"{names.MARKER}={marker}")

    def _pods(self, namespace: str, chosen: str) -> list[Pod]:
        """The oldest first."""
        found = self._client.read(PODS.path(namespace), records.pod, {"labelSelector": chosen})
        return in_order(found)

    def bundle(self, root: Root) -> Bundle:
        found = {root.marker: (root, Bundle(root=root.as_job, pods=self.pods(root)))}
        return self._in_queues(root.namespace, found)[root.marker][1]

    def is_over(self, root: Root) -> bool:
        return over(root, self.bundle(root))

    # ---- many --------------------------------------------------------------------------------------------

    def seen(self, namespace: str, refs: Collection[AttemptRef]) -> Seen:
        """One list a kind for all of them, and one of their pods."""
        kinds = set().union(*map(self._kinds_of, refs))
        by_marker = {ref.marker: ref for ref in refs}
        there = self.all_in(namespace, [one for one in ROOTS.values() if one in kinds])
        return {
            marker: pair
            for marker, pair in there.items()
            if marker in by_marker and self.is_of(pair[0], by_marker[marker])
        }

    def all_in(self, namespace: str, kinds: Iterable[Resource] | None = None) -> Seen:
        """In this order: a pod that is not in the later list is gone, or its Job was not seen to have it."""
        chosen = names.selector(self.instance)
        roots = self._listed(namespace, chosen, kinds, records.root)
        pods: dict[str, list[Pod]] = defaultdict(list)
        for pod in self._pods(namespace, chosen) if roots else ():
            pods[pod.marker].append(pod)
        found = {root.marker: (root, Bundle(root=root.as_job, pods=pods[root.marker])) for root in roots}
        return self.completed(namespace, found)

    def completed(self, namespace: str, found: Seen) -> Seen:
        """With what other objects than the attempts' own tell."""
        return evidence.added(self._client, namespace, self._in_queues(namespace, found))

    def _in_queues(self, namespace: str, found: Seen) -> Seen:
        """Workloads are read, once for all, only where some attempt is in a queue."""
        if not any(is_in_a_queue(root, bundle) for root, bundle in found.values()):
            return found
        told = self._workloads.of(namespace)
        return {
            marker: (root, replace(bundle, workload=kueue.of_attempt(told, root.uid, bundle.pods)))
            for marker, (root, bundle) in found.items()
        }

    def belongings(self, namespace: str) -> dict[str, list[Belonging]]:
        """What the services' own objects tell, by marker."""
        found = defaultdict(list)
        for resource, read in READERS.items():
            with suppress(Forbidden) if resource in OPTIONAL else nullcontext():
                chosen = {"labelSelector": names.selector(self.instance)}
                for one in self._client.read(resource.path(namespace), read, chosen):
                    if one is not None:
                        found[one.marker].append(one)
        return found

    # ---- what belongs to one -------------------------------------------------------------------------------

    def finish(self, root: Root) -> None:
        """Make what belongs to it, from what it carries; repeated, it does nothing."""
        written = member(root.object, "metadata", "annotations", names.UNFINISHED)
        if not isinstance(written, str):
            return
        wanted = dependents.written_in(root.marker, root.namespace, written, self._options)
        kept = {one["kind"] for one in wanted}
        if root.is_service:  # first: KEDA takes no Deployment that another autoscaler still has
            for resource in dependents.removable(self._options):
                if resource.kind not in kept:
                    self._remove(root, resource)
        for one in wanted:
            self._own(root, dependents.DEPENDENTS[one["kind"]], one)
        self.note(root, {names.UNFINISHED: None})

    def _own(self, root: Root, resource: Resource, body: Manifest) -> None:
        owner = {"apiVersion": root.resource.group, "kind": root.resource.kind, "name": root.marker}
        metadata = {**body["metadata"], "ownerReferences": [{**owner, "uid": root.uid}]}
        try:
            self._client.create(resource.path(root.namespace), {**body, "metadata": metadata})
        except Conflict as error:
            path = resource.path(root.namespace, str(metadata["name"]))
            there = self._client.get(path)
            if not dependents.belong_to(root.uid, there):
                raise Refused(f"another {resource.kind} has the name of what belongs to it") from error
            uid = member(there, "metadata", "uid")
            self._client.merge(path, {"metadata": {"uid": uid}, "spec": body["spec"]})

    def unscale(self, root: Root) -> None:
        """KEDA would bring back what is scaled to nothing; Kubernetes' own autoscaler leaves that alone."""
        if self._options.prometheus is not None:
            self._remove(root, SCALED_OBJECTS)

    def _remove(self, root: Root, resource: Resource) -> None:
        path = resource.path(root.namespace, root.marker)
        with suppress(NotThere, Conflict):
            there = self._client.get(path)
            if dependents.belong_to(root.uid, there):
                self._client.delete(path, str(member(there, "metadata", "uid")))

    def hold_back(self, root: Root, workload: Manifest | None = None) -> None:
        """Kueue starts none whose Workload is not active; it makes that one later than the Job."""
        if root.is_queued:
            found = workload or self._workloads.of(root.namespace).get(root.uid)
            self._workloads.switch(root.namespace, found, False)

    def let_go(self, root: Root) -> None:
        self._workloads.switch(root.namespace, self._workloads.of(root.namespace).get(root.uid), True)

    def note(
        self,
        root: Root,
        annotations: Mapping[str, str | None],
        spec: Manifest | None = None,
        *,
        as_seen: bool = False,
    ) -> None:
        """Changes this very object, and ``as_seen`` only while it is what was read.

        Raises ``NotThere`` for another one of its name, ``Changed`` for one that others are changing."""
        metadata: Manifest = {"uid": root.uid, "annotations": dict(annotations)}
        if as_seen:
            metadata["resourceVersion"] = member(root.object, "metadata", "resourceVersion")
        body = {"metadata": metadata, **({"spec": spec} if spec is not None else {})}
        try:
            self._client.merge(root.path, body)
        except Conflict as error:
            if member(self._client.get(root.path), "metadata", "uid") != root.uid:
                raise NotThere(str(error)) from error
            raise Changed(str(error)) from error


def root_of(resource: Resource, found: Manifest) -> Root | None:
    """``None`` for what cannot be told apart."""
    return Root(resource=resource, object={"kind": resource.kind, **found}) if _has_a_name(found) else None


def in_order(pods: Iterable[Pod]) -> list[Pod]:
    """The oldest first."""
    return sorted(pods, key=lambda pod: (pod.created_at or 0.0, pod.name))


def _has_a_name(found: Manifest) -> bool:
    """Whatever else is odd about it: what cannot be told apart is nobody's."""
    parts = [member(found, "metadata", key) for key in ("namespace", "name", "uid")]
    return all(isinstance(one, str) for one in [*parts, member(found, "metadata", "labels", names.MARKER)])


def over(root: Root, bundle: Bundle) -> bool:
    return serving.is_over(bundle) if root.is_service else observations.is_over(bundle)


def is_in_a_queue(root: Root, bundle: Bundle) -> bool:
    """Of Kueue, whose Workload says more."""
    return kueue.queue_of(root.object) is not None and not over(root, bundle)


def tasks_of(ref: AttemptRef | None, root: Manifest) -> Sequence[int]:
    """Of an array, the task behind each index; empty for what is none."""
    carried = names.ref_of(root)
    return (ref.task_indices if ref is not None else ()) or (carried.task_indices if carried else ())
