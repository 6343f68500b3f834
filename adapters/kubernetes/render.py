"""A job as Kubernetes' objects.  Pure.

The first is the attempt itself; the others belong to it, get an owner reference to its uid when they are
created, and go with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from adapters.base import AttemptRef
from adapters.kubernetes import (
    allowed,
    autoscaling,
    devices,
    environment,
    identity,
    job_sets,
    kueue,
    names,
    native,
    pods,
)
from adapters.kubernetes.names import Manifest
from adapters.kubernetes.options import Options
from adapters.kubernetes.resources import (
    BUDGETS,
    CLAIM_TEMPLATES,
    DEPLOYMENTS,
    JOB_SETS,
    JOBS,
    SERVICES,
    Resource,
)
from api_spec.jobs import JobSpec


@dataclass(frozen=True)
class Plan:
    namespace: str
    resource: Resource
    root: Manifest
    dependents: tuple[Manifest, ...] = ()


def plan(spec: JobSpec, ref: AttemptRef, options: Options, instance: str, backend: str) -> Plan:
    """Of a job that has passed ``refusals``.  Raises ``Rejected`` for what would be more than is allowed."""
    namespace = names.namespace_of(ref.project, options) or ""
    labels = names.labels(ref.marker, instance)
    chosen = native.chosen(spec, options, backend)
    template = pods.template(spec, ref, options, chosen, labels)
    resource, body = _root(spec, ref, template, options)
    if chosen.queue is not None and not spec.is_service:
        body["suspend"] = True  # until Kueue starts it
    of_queue = kueue.labels(spec, options, chosen.queue)
    root = _object(resource, ref.marker, namespace, {**labels, **of_queue}, body)
    digest = names.digest_of(root)
    root["metadata"]["annotations"] = {**names.notes(ref), names.DIGEST: digest}
    if spec.is_service:
        root["metadata"]["annotations"][names.REVISION] = str(ref.revision)
    elif chosen.queue is not None and spec.hold:
        root["metadata"]["annotations"][names.HELD] = "true"
    if (who := identity.identity_of(ref.owner, ref.project, options)) is not None:
        root["metadata"]["annotations"][names.USER] = who.user
    dependents = tuple(
        _object(kind, name, namespace, labels, body)
        for kind, name, body in _dependents(spec, ref, labels, options)
    )
    if dependents:  # until they are made, it says itself what is missing
        root["metadata"]["annotations"][names.UNFINISHED] = json.dumps(dependents)
    allowed.check((root, *dependents), namespace, options)
    return Plan(namespace, resource, root, dependents)


def revised(there: Manifest, plan: Plan, revision: int) -> Manifest | None:
    """The object as it is to be now; ``None``: it is newer, or the same already."""
    metadata = there["metadata"]
    notes = {**(names.member(metadata, "annotations") or {})}
    known = names.revision_of(there)
    wanted = json.loads(json.dumps(plan.root))
    replicas = wanted["spec"].setdefault("replicas", names.member(there, "spec", "replicas"))
    same = known == revision and names.member(there, "spec", "replicas") == replicas
    if known > revision or same:
        return None
    wanted["metadata"]["annotations"] = {**notes, **wanted["metadata"]["annotations"]}
    wanted["metadata"]["labels"] = kueue.kept(metadata.get("labels"), wanted["metadata"]["labels"])
    wanted["metadata"]["resourceVersion"] = metadata["resourceVersion"]
    wanted["metadata"]["uid"] = metadata["uid"]
    return wanted  # type: ignore[no-any-return]


def text(plan: Plan) -> str:
    """As ``kubectl apply -f`` takes it."""
    items = [plan.root, *plan.dependents]
    whole = items[0] if len(items) == 1 else {"apiVersion": "v1", "kind": "List", "items": items}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _object(
    resource: Resource, name: str, namespace: str, labels: dict[str, str], body: Manifest
) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels)}
    return {"apiVersion": resource.group, "kind": resource.kind, "metadata": metadata, "spec": body}


def _root(spec: JobSpec, ref: AttemptRef, template: Manifest, options: Options) -> tuple[Resource, Manifest]:
    if spec.is_service:
        return DEPLOYMENTS, _deployment(spec, ref, template)
    job = _job(spec, ref, template, options)
    return (JOB_SETS, job_sets.body(job, ref.marker)) if job_sets.wanted(spec, options) else (JOBS, job)


# ---- finite work -------------------------------------------------------------------------------------


def _job(spec: JobSpec, ref: AttemptRef, template: Manifest, options: Options) -> Manifest:
    """One pod for each index and no second one: another try is another attempt, and the broker's to make."""
    tasks = environment.indices_of(spec, ref)
    count = len(tasks) or spec.resources.nodes
    at_once = spec.array.max_running if spec.array and spec.array.max_running else count
    found: Manifest = {
        "completionMode": "Indexed",
        "completions": count,
        "parallelism": min(count, at_once),
        "podReplacementPolicy": "Failed",
        "ttlSecondsAfterFinished": options.keep_s,
        "suspend": spec.hold,
        "template": template,
    }
    if spec.array:
        return {**found, "backoffLimitPerIndex": 0, "maxFailedIndexes": count}
    return {**found, "backoffLimit": 0, "podFailurePolicy": {"rules": list(_last_words())}}


def _last_words() -> Iterator[Manifest]:
    """Each ends the Job as any failure would; but its condition then names the pod's own reason or exit code,
    and keeps that when the pod is gone."""
    yield {
        "action": "FailJob",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    yield {
        "action": "FailJob",
        "onExitCodes": {"containerName": names.MAIN, "operator": "NotIn", "values": [0]},
    }


# ---- services ----------------------------------------------------------------------------------------


def _deployment(spec: JobSpec, ref: AttemptRef, template: Manifest) -> Manifest:
    """A revision is part of the pods, so that a new one reaches them even where nothing else has changed."""
    template["metadata"]["labels"] = {**template["metadata"]["labels"], names.REVISION: str(ref.revision)}
    # A pod beside the old ones could wait for ever for a GPU that one of them has.
    surge = 0 if spec.resources.gpus_per_node else 1
    found: Manifest = {
        "selector": {"matchLabels": {names.MARKER: ref.marker}},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": surge, "maxUnavailable": 1 - surge},
        },
        "progressDeadlineSeconds": 3600,
        "revisionHistoryLimit": 3,
        "template": template,
    }
    if spec.service is not None and spec.service.scale_on is not None:
        return found  # the autoscaler's to say
    return {**found, "replicas": replicas(spec, ref)}


def replicas(spec: JobSpec, ref: AttemptRef) -> int:
    if ref.replicas is not None:
        return ref.replicas
    return spec.service.replicas.min if spec.service is not None else 1


def _dependents(
    spec: JobSpec, ref: AttemptRef, labels: dict[str, str], options: Options
) -> Iterator[tuple[Resource, str, Manifest]]:
    if devices.are_claimed(spec, options):
        name = devices.template_name(spec, ref.marker, options)
        yield CLAIM_TEMPLATES, name, devices.claim(spec, options)
    for kind, body in _by_the_marker(spec, ref, labels, options):
        yield kind, ref.marker, body


def _by_the_marker(
    spec: JobSpec, ref: AttemptRef, labels: dict[str, str], options: Options
) -> Iterator[tuple[Resource, Manifest]]:
    chosen = {names.MARKER: labels[names.MARKER]}
    if spec.resources.nodes > 1 and not job_sets.wanted(spec, options):  # a JobSet makes its own
        yield SERVICES, {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": chosen}
    if spec.service is None:
        return
    port = {"name": "http", "port": spec.service.port, "targetPort": "http"}
    yield SERVICES, {"selector": chosen, "ports": [port]}
    yield from autoscaling.scaler(spec.service, ref.marker, options)
    if spec.service.replicas.max > 1:
        yield BUDGETS, {"maxUnavailable": 1, "selector": {"matchLabels": chosen}}
