"""Makes the object that is an attempt, once: what already has its name is ours, or somebody else's.  And
replaces that of a service by a newer one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from adapters.base import AttemptRef, Busy, Rejected
from adapters.kubernetes import names, render
from adapters.kubernetes.attempts import Attempts, Root
from adapters.kubernetes.errors import Conflict, NotThere, TryLater
from adapters.kubernetes.names import member
from adapters.kubernetes.render import Plan

if TYPE_CHECKING:
    from adapters.kubernetes.client import Client

UPDATES = 5
"""The controller writes its status into the same object, above all just after the update before."""


def created(backend: str, client: Client, attempts: Attempts, plan: Plan, ref: AttemptRef) -> Root:
    """What already has the name is taken for ours only if it says so and is what we would send.

    Raises ``KubernetesError``, ``Busy`` and ``Rejected``."""
    path = plan.resource.path(plan.namespace)
    try:
        return Root(resource=plan.resource, object=client.create(path, plan.root))
    except NotThere as error:
        message = f"{backend} has no namespace {plan.namespace}, where the project's jobs run"
        raise Busy(message, 60.0) from error
    except Conflict as error:
        there = _namesake(backend, client, attempts, plan, ref)
        sent = member(plan.root, "metadata", "annotations", names.DIGEST)
        if there is None or member(there.object, "metadata", "annotations", names.DIGEST) != sent:
            message = f"{backend} has another {plan.resource.kind} of that name: {error}"
            raise Rejected(message) from error
        return there


def _namesake(backend: str, client: Client, attempts: Attempts, plan: Plan, ref: AttemptRef) -> Root | None:
    """``None``: it is somebody else's."""
    there = attempts.root(replace(ref, handle=None))
    if there is None:
        try:
            client.get(plan.resource.path(plan.namespace, ref.marker))
        except NotThere as error:
            raise Busy(f"{backend} is just removing an object of that name", 1.0) from error
    return there


def updated(client: Client, attempts: Attempts, plan: Plan, ref: AttemptRef) -> Root | None:
    """``None``: there is nothing to change.  Raises ``KubernetesError``."""
    for _ in range(UPDATES):
        root = attempts.root(ref)
        if root is None or root.is_cancelled:
            return None
        newest = render.revised(root.object, plan, ref.revision)
        if newest is None:
            return None
        try:
            return Root(resource=root.resource, object=client.replace(root.path, newest))
        except Conflict as error:  # it has changed since it was read
            conflict = error
    raise TryLater(str(conflict), 1.0) from conflict
