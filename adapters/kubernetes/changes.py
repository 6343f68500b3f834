"""Makes the object that is an attempt, once, and changes it.

What already has its name is ours, or somebody else's.  A change is of what was looked at; where somebody got
ahead of it, it is made again from what is there now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from adapters.base import AttemptRef, Busy, Rejected
from adapters.kubernetes import names, render
from adapters.kubernetes.attempts import Attempts, Root
from adapters.kubernetes.errors import Changed, Conflict, NotThere
from adapters.kubernetes.names import member
from adapters.kubernetes.observations import has_started
from adapters.kubernetes.render import Plan

if TYPE_CHECKING:
    from adapters.kubernetes.client import Client

TRIES = 5
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
    for _ in range(TRIES):
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
    raise Changed(str(conflict)) from conflict


def suspended(attempts: Attempts, ref: AttemptRef) -> None:
    """Unless a pod has started.  Raises ``KubernetesError``."""

    def may_be(root: Root) -> bool:
        return not attempts.is_over(root) and not any(map(has_started, attempts.pods(root)))

    _suspend(attempts, ref, True, may_be)


def resumed(attempts: Attempts, ref: AttemptRef) -> None:
    """Unless it was cancelled.  Raises ``KubernetesError``."""
    _suspend(attempts, ref, False, lambda root: not root.is_cancelled)


def _suspend(attempts: Attempts, ref: AttemptRef, wanted: bool, may_be: Callable[[Root], bool]) -> None:
    """A pod may start, or a cancel come, between the look and the change."""
    for _ in range(TRIES):
        root = attempts.root(ref)
        if root is None or root.is_service or member(root.object, "spec", "suspend") is wanted:
            return
        if not may_be(root):
            return
        try:
            return attempts.note(root, {}, {"suspend": wanted}, as_seen=True)
        except Changed as error:
            changed = error
    raise changed
