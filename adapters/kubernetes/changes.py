"""Makes the object that is an attempt, once, and changes it.

What already has its name is ours, or somebody else's.  A change is of what was looked at; where somebody got
ahead of it, it is made again from what is there now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from adapters.base import AttemptRef
from adapters.errors import Busy, Rejected
from adapters.kubernetes import names, render
from adapters.kubernetes.attempts import Attempts, Root
from adapters.kubernetes.dependents import DEPENDENTS
from adapters.kubernetes.errors import Changed, Conflict, Forbidden, KubernetesError, NotThere, Refused
from adapters.kubernetes.names import Manifest, member
from adapters.kubernetes.render import Plan
from adapters.kubernetes.resources import JOB_SETS, JOBS

if TYPE_CHECKING:
    from adapters.kubernetes.client import Client

TRIES = 5
"""The controller writes its status into the same object, above all just after the update before."""

TRIED_WITHIN_S = 2.0
"""A dry run: of three at most, and no more than one that does not answer."""
UNTRIED = "does not support dry run"
"""What an admission webhook of an older kind says."""


def created(backend: str, client: Client, attempts: Attempts, plan: Plan, ref: AttemptRef) -> Root:
    """What already has the name is taken for ours only if it says so and is what we would send.

    Raises ``KubernetesError``, ``Busy`` and ``Rejected``."""
    path = plan.resource.path(plan.namespace)
    if plan.resource is JOB_SETS and (earlier := _as_a_job(backend, client, plan, ref)) is not None:
        return earlier
    _try(client, attempts, plan, ref)
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


def _try(client: Client, attempts: Attempts, plan: Plan, ref: AttemptRef) -> None:
    """A dry run of what belongs to it, so that what the cluster refuses is said before any of it is there.
    The object itself is taken or refused as a whole.

    Only a refusal counts.  Whatever else becomes of it the submission goes on as without it, and soon: an
    attempt is looked for by when it may have been sent."""
    for one in plan.dependents:
        try:
            client.create(DEPENDENTS[one["kind"]].path(plan.namespace), one, tried_within_s=TRIED_WITHIN_S)
        except (Forbidden, Refused) as error:
            # One that was made before is in its own way: of a quota of one Service it has that one.
            if UNTRIED in str(error) or attempts.root(replace(ref, handle=None)) is not None:
                return
            raise
        except (Conflict, NotThere):  # it is there; or its kind is not, which is told when it is made
            continue
        except KubernetesError:
            return


def _as_a_job(backend: str, client: Client, plan: Plan, ref: AttemptRef) -> Root | None:
    """Names are unique among objects of one kind, and jobs may have become JobSets since the first try."""
    try:
        there = client.get(JOBS.path(plan.namespace, ref.marker))
    except NotThere:
        return None
    carried = names.ref_of(there)
    if carried is None or (carried.marker, carried.digest) != (ref.marker, ref.digest):
        raise Rejected(f"{backend} has another Job of that name")
    return Root(resource=JOBS, object=there)


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


def cancelled(attempts: Attempts, ref: AttemptRef) -> None:
    """Repeated, it is made so again.  Raises ``KubernetesError``."""
    root = attempts.root(ref)
    if root is None or attempts.is_over(root):
        return
    attempts.hold_back(root)
    stops = _stops(root)
    if not root.is_cancelled:
        attempts.note(root, {names.CANCELLED: _now()}, stops)
    elif names.why_withdrawn(root.object) is not None:
        attempts.note(root, {names.WITHDRAWN: None}, stops)  # somebody wants it ended for good
    elif any(member(root.object, "spec", key) != value for key, value in stops.items()):
        attempts.note(root, {}, stops)  # somebody has started it again
    if root.is_service:
        attempts.unscale(root)


def _stops(root: Root) -> Manifest:
    if root.is_service:
        return {"replicas": 0}
    # Kueue could go ahead before it hears of it, and then without pods.  Nobody may change that in a JobSet.
    without_pods = root.is_queued and root.resource is JOBS
    return {"suspend": True, **({"parallelism": 0} if without_pods else {})}


def _now() -> str:
    return datetime.now(UTC).isoformat()


def suspended(attempts: Attempts, ref: AttemptRef) -> None:
    """Unless a pod has started.  Raises ``KubernetesError``."""

    def may_be(root: Root) -> bool:
        return not attempts.is_over(root) and not any(pod.has_started for pod in attempts.pods(root))

    _suspend(attempts, ref, True, may_be)


def resumed(attempts: Attempts, ref: AttemptRef) -> None:
    """Unless it was cancelled.  Raises ``KubernetesError``."""
    _suspend(attempts, ref, False, lambda root: not root.is_cancelled)


def _suspend(attempts: Attempts, ref: AttemptRef, wanted: bool, may_be: Callable[[Root], bool]) -> None:
    """A pod may start, or a cancel come, between the look and the change."""
    for _ in range(TRIES):
        root = attempts.root(ref)
        if root is None or root.is_service:
            return
        if not root.is_queued and member(root.object, "spec", "suspend") is wanted:
            return
        if not may_be(root):
            return
        try:
            if root.is_queued:
                return _in_its_queue(attempts, root, wanted)
            return attempts.note(root, {}, {"suspend": wanted}, as_seen=True)
        except Changed as error:
            changed = error
    raise changed


def _in_its_queue(attempts: Attempts, root: Root, waits: bool) -> None:
    """Kueue alone suspends and starts it.  The mark is for a Workload that Kueue has not made yet."""
    attempts.note(root, {names.HELD: _now() if waits else None}, as_seen=True)
    return attempts.hold_back(root) if waits else attempts.let_go(root)
