"""``broker backends check``: what was found at a cluster and which rights are missing, in sentences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from adapters.base import AttemptRef, Finding
from adapters.kubernetes import capacity, extension_checks, names, render
from adapters.kubernetes.errors import Forbidden, KubernetesError, NotThere
from adapters.kubernetes.extension_checks import WRITES
from adapters.kubernetes.names import Manifest, member
from adapters.kubernetes.options import Options
from adapters.kubernetes.resources import (
    ACCESS,
    AUTOSCALERS,
    BUDGETS,
    CLAIMS,
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    LIMITS,
    NODES,
    PODS,
    QUOTAS,
    REVIEWS,
    SERVICES,
    Resource,
)
from api_spec.jobs import JobSpec, Kind

if TYPE_CHECKING:
    from adapters.kubernetes.client import Client

TRIED = JobSpec(kind=Kind.BATCH, name="check", image="registry.example/check:1", command=("true",))
# What deploy/kubernetes/ grants; each is asked for in each namespace.
RIGHTS: tuple[tuple[Resource, str, tuple[str, ...]], ...] = (
    (JOBS, "", WRITES),
    (DEPLOYMENTS, "", (*WRITES, "update")),
    (SERVICES, "", WRITES),
    (AUTOSCALERS, "", WRITES),
    (BUDGETS, "", WRITES),
    (PODS, "", ("get", "list")),
    (PODS, "log", ("get",)),
    (EVENTS, "", ("list",)),
    (QUOTAS, "", ("list",)),
    (LIMITS, "", ("list",)),
    (CLAIMS, "", ("list",)),
)


def findings(client: Client, options: Options) -> Sequence[Finding]:
    """Never raises: what does not answer is a finding, and nobody behind it is asked."""
    told = _asked("connection", lambda: _connection(client))
    if all(one.well for one in told):
        told += _asked("identity", lambda: _identity(client))
        told += _asked("nodes", lambda: _nodes(client, options))
        told += _asked("namespaces", lambda: _namespaces(client, options))
        told += _asked("extensions", lambda: extension_checks.findings(client, options))
        for namespace in names.all_namespaces(options):
            rights = _asked("rights", partial(_rights, client, options, namespace))
            told += rights
            if all(one.well for one in rights):
                told += _trial(client, options, namespace)
    return told


def _asked(subject: str, ask: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(ask())
    except KubernetesError as error:
        return [Finding(subject=subject, well=False, message=str(error))]


def _connection(client: Client) -> Iterator[Finding]:
    status = client.content("/version")
    version = _version(status)
    yield Finding(subject="connection", well=True, message=f"Kubernetes {version}")


def _version(raw: bytes) -> str:
    try:
        return str(json.loads(raw)["gitVersion"])
    except (ValueError, KeyError, TypeError) as error:
        raise KubernetesError("what answers is no API server") from error


def _identity(client: Client) -> Iterator[Finding]:
    """A plug-in for credentials that fails makes everybody anonymous, and nothing else tells."""
    body: Manifest = {"apiVersion": REVIEWS.group, "kind": REVIEWS.kind}
    who = member(client.create(REVIEWS.path(), body), "status", "userInfo", "username")
    if who == "system:anonymous":
        yield Finding(
            subject="identity", well=False, message="the broker has no credentials: it is anonymous"
        )
        return
    yield Finding(subject="identity", well=True, message=f"the broker is {who}")


def _nodes(client: Client, options: Options) -> Iterator[Finding]:
    told = client.items(NODES.path())
    ready = [one for one in (capacity.node(each, options.gpu_resource) for each in told) if one]
    resources: Counter[str] = Counter()
    for one in ready:
        resources.update(one.extended)
    has = ", ".join(f"{count} {name}" for name, count in sorted(resources.items()) if count)
    message = (
        f"{len(ready)} of {len(told)} nodes take pods; beside CPUs and memory they have {has or 'nothing'}"
    )
    yield Finding(subject="nodes", well=bool(ready), message=message)
    for name, fabric in options.fabrics.items():
        if fabric.resource and not resources[fabric.resource]:
            message = f"fabrics.{name} names {fabric.resource}, which no node has"
            yield Finding(subject="nodes", well=False, message=message)


def _namespaces(client: Client, options: Options) -> Iterator[Finding]:
    for name in names.all_namespaces(options):
        try:
            client.get(f"/api/v1/namespaces/{name}")
        except NotThere:
            message = f"there is no namespace {name}: jobs of its projects are refused"
            yield Finding(subject="namespaces", well=False, message=message)
        except Forbidden:
            message = f"the broker may not see whether there is a namespace {name}"
            yield Finding(subject="namespaces", well=True, message=message)
        else:
            yield Finding(subject="namespaces", well=True, message=f"{name} is there")


def _rights(client: Client, options: Options, namespace: str) -> Iterator[Finding]:
    missing = []
    wanted = (*RIGHTS, *extension_checks.rights(options))
    for resource, part, verbs in wanted:
        for verb in verbs:
            if not _may(client, namespace, resource, part, verb):
                name = f"{resource.plural}/{part}" if part else resource.plural
                missing.append(f"{verb} {name}")
    if missing:
        nothing = len(missing) == sum(len(verbs) for _, _, verbs in wanted)
        told = "do anything: its role is not bound there" if nothing else ", ".join(missing)
        message = f"in {namespace} the broker may not {told}"
        yield Finding(subject="rights", well=False, message=message)
        return
    yield Finding(subject="rights", well=True, message=f"in {namespace} it may do all that it needs")


def _trial(client: Client, options: Options, namespace: str) -> list[Finding]:
    """A Job that the server takes as far as it can without keeping it: admission rules of the site's own have
    their say."""
    alone = replace(options, namespace=namespace, namespaces={})
    plan = render.plan(TRIED, AttemptRef(marker="wb-check-check-1"), alone, "check", "")
    try:
        client.create(plan.resource.path(namespace), plan.root, dry_run=True)
    except KubernetesError as error:
        message = f"in {namespace} a Job like the broker's is refused: {error}"
        return [Finding(subject="trial", well=False, message=message)]
    return [Finding(subject="trial", well=True, message=f"in {namespace} a Job like the broker's is taken")]


def _may(client: Client, namespace: str, resource: Resource, part: str, verb: str) -> bool:
    group, _, _ = resource.group.rpartition("/")
    asked = {"namespace": namespace, "group": group, "resource": resource.plural, "verb": verb}
    if part:
        asked["subresource"] = part
    body: Manifest = {
        "apiVersion": ACCESS.group,
        "kind": ACCESS.kind,
        "spec": {"resourceAttributes": asked},
    }
    return member(client.create(ACCESS.path(), body), "status", "allowed") is True
