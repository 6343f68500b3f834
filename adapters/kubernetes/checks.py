"""``broker backends check``: what was found at a cluster and which rights are missing, in sentences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from adapters.base import AttemptRef, Finding
from adapters.kubernetes import cluster, extension_checks, identity, names, node_groups, render
from adapters.kubernetes.errors import Forbidden, KubernetesError, NotThere
from adapters.kubernetes.extension_checks import WRITES, Right
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
    METRICS,
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
READS = frozenset({"get", "list", "watch"})
MOST_USERS = 5
"""Whose rights are asked for in each namespace: each is some twenty questions."""
Need = tuple[Resource, str, str]  # one verb
# What deploy/kubernetes/ grants; each is asked for in each namespace.
RIGHTS: tuple[Right, ...] = (
    (JOBS, "", WRITES),
    (DEPLOYMENTS, "", (*WRITES, "update")),
    (SERVICES, "", WRITES),
    (AUTOSCALERS, "", WRITES),
    (BUDGETS, "", WRITES),
    (PODS, "", ("get", "list")),
    (PODS, "log", ("get",)),
    (METRICS, "", ("list",)),
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
        told += _asked("identity", lambda: _impersonation(client, options))
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
    told = cluster.nodes(client, options)
    ready = [one for one in told if one.takes_pods]
    resources: Counter[str] = Counter()
    for one in told:
        resources.update(one.extended)
    has = ", ".join(f"{count} {name}" for name, count in sorted(resources.items()) if count)
    message = (
        f"{len(ready)} of {len(told)} nodes take pods; beside CPUs and memory all have {has or 'nothing'}"
    )
    if more := len(node_groups.absent(told, options)):
        message += f"; {more} more may be brought by an autoscaler"
    yield Finding(subject="nodes", well=bool(ready or more), message=message)
    for name, fabric in options.fabrics.items():
        if fabric.resource and not resources[fabric.resource]:
            message = f"fabrics.{name} names {fabric.resource}, which no node has"
            yield Finding(subject="nodes", well=False, message=message)
    if options.rack_label and not any(options.rack_label in one.labels for one in told):
        message = f"rack_label is {options.rack_label}, which no node has"
        yield Finding(subject="nodes", well=False, message=message)


def _namespaces(client: Client, options: Options) -> Iterator[Finding]:
    for name in names.all_namespaces(options):
        try:
            is_going = cluster.is_going(client.get(f"/api/v1/namespaces/{name}"))
        except NotThere:
            message = f"there is no namespace {name}: jobs of its projects are refused"
            yield Finding(subject="namespaces", well=False, message=message)
        except Forbidden:
            message = f"the broker may not see whether there is a namespace {name}"
            yield Finding(subject="namespaces", well=True, message=message)
        else:
            told = "is being removed: jobs of its projects are refused" if is_going else "is there"
            yield Finding(subject="namespaces", well=not is_going, message=f"{name} {told}")


def _impersonation(client: Client, options: Options) -> Iterator[Finding]:
    """Of those who are known before a job comes."""
    if options.impersonate is None:
        return
    for who in identity.named(options.impersonate):
        wanted = [("users", who.user), *(("groups", one) for one in who.groups)]
        missing = [f"{kind[:-1]} {name}" for kind, name in wanted if not _may_be(client, kind, name)]
        message = f"it may write as {who.user}"
        if missing:
            message = f"the broker may not act as {', '.join(missing)}"
        yield Finding(subject="identity", well=not missing, message=message)
    user = options.impersonate.user
    if user is not None and not identity.is_the_same_for_all(user):
        message = f"it writes as {user} of each job; whether it may is known when the job comes"
        yield Finding(subject="identity", well=True, message=message)


def _may_be(client: Client, kind: str, name: str) -> bool:
    return _is_allowed(client, {"group": "", "resource": kind, "name": name, "verb": "impersonate"})


def _rights(client: Client, options: Options, namespace: str) -> Iterator[Finding]:
    """Where objects are made as their owner, that one's rights to write are asked for, and the broker's to
    read."""
    granted = (*RIGHTS, *extension_checks.rights(options))
    needed = [(resource, part, verb) for resource, part, verbs in granted for verb in verbs]
    if options.impersonate is None:
        yield _told_of("the broker", needed, _missing(client, namespace, needed), namespace)
        return
    reads = [one for one in needed if one[2] in READS]
    yield _told_of("the broker", reads, _missing(client, namespace, reads), namespace)
    writes = [one for one in needed if one[2] not in READS]
    for who in identity.named(options.impersonate)[:MOST_USERS]:
        with client.acting_as(who):
            missing = _missing(client, namespace, writes)
        yield _told_of(who.user, writes, missing, namespace)


def _missing(client: Client, namespace: str, needed: Sequence[Need]) -> list[str]:
    found = [one for one in needed if not _may(client, namespace, *one)]
    return [f"{verb} {_called(resource, part)}" for resource, part, verb in found]


def _called(resource: Resource, part: str) -> str:
    """Two kinds are called pods."""
    name = f"{resource.plural}/{part}" if part else resource.plural
    return f"{name} of metrics.k8s.io" if resource is METRICS else name


def _told_of(who: str, needed: Sequence[Need], missing: Sequence[str], namespace: str) -> Finding:
    if missing:
        nothing = len(missing) == len(needed)
        told = "do anything: its role is not bound there" if nothing else ", ".join(missing)
        return Finding(subject="rights", well=False, message=f"in {namespace} {who} may not {told}")
    whom = "it" if who == "the broker" else who
    return Finding(subject="rights", well=True, message=f"in {namespace} {whom} may do all that it needs")


def _trial(client: Client, options: Options, namespace: str) -> list[Finding]:
    """A Job that the server takes as far as it can without keeping it: admission rules of the site's own have
    their say."""
    alone = replace(options, namespace=namespace, namespaces={})
    plan = render.plan(TRIED, AttemptRef(marker="wb-check-check-1"), alone, "check", "")
    known = identity.named(options.impersonate) if options.impersonate is not None else []
    if options.impersonate is not None and not known:
        return []  # nobody is known yet as whom one could be made
    try:
        with client.acting_as(known[0]) if known else nullcontext():
            client.create(plan.resource.path(namespace), plan.root, tried_within_s=options.answer_s)
    except KubernetesError as error:
        message = f"in {namespace} a Job like the broker's is refused: {error}"
        return [Finding(subject="trial", well=False, message=message)]
    return [Finding(subject="trial", well=True, message=f"in {namespace} a Job like the broker's is taken")]


def _may(client: Client, namespace: str, resource: Resource, part: str, verb: str) -> bool:
    group, _, _ = resource.group.rpartition("/")
    asked = {"namespace": namespace, "group": group, "resource": resource.plural, "verb": verb}
    if part:
        asked["subresource"] = part
    return _is_allowed(client, asked)


def _is_allowed(client: Client, asked: Mapping[str, str]) -> bool:
    body: Manifest = {
        "apiVersion": ACCESS.group,
        "kind": ACCESS.kind,
        "spec": {"resourceAttributes": dict(asked)},
    }
    return member(client.create(ACCESS.path(), body), "status", "allowed") is True
