"""Rows of the fake's listings as observations.  Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.base import (
    AttemptRef,
    Handle,
    Inventory,
    Load,
    NodeShape,
    Observation,
    Ours,
    ServiceObservation,
    ShapeLoad,
    TaskObservation,
)
from adapters.fake.words import in_our_words
from api_spec.states import AttemptState

Row = Mapping[str, Any]


def handle_of(row: Row) -> Handle:
    return {"id": int(row["id"]), "submitted_at": float(row["submitted_at"])}


def row_of(ref: AttemptRef, rows: Sequence[Row]) -> Row | None:
    """The row of this attempt among those with its marker: that of its handle, or else the oldest."""
    if ref.handle is not None:
        for row in rows:
            if row["id"] == ref.handle.get("id"):
                return row
    return min(rows, key=lambda row: int(row["id"]), default=None)


def observation(row: Row, copies: int = 1) -> Observation:
    word, why = str(row["word"]), row["why"]
    state, outcome, reason = in_our_words(word, why)
    return Observation(
        marker=row["marker"],
        state=state,
        outcome=outcome,
        reason=reason,
        message=f"{copies} jobs carry this marker" if copies > 1 else None,
        native_state=word,
        native_reason=why,
        restarts=row["restarts"],
        exit_code=row["exit_code"],
        signal=row["signal"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        nodes=(f"fake-{row['id']}",) if row["started_at"] else (),
        handle=handle_of(row),
        service=service(row, state),
        tasks={int(index): task(*values) for index, values in row.get("tasks", {}).items()},
        outputs=dict(row.get("outputs", {})) if state is AttemptState.ENDED else {},
    )


def task(
    word: str, exit_code: int | None, started_at: float | None, ended_at: float | None
) -> TaskObservation:
    state, outcome, reason = in_our_words(word, None)
    return TaskObservation(
        state=state or AttemptState.QUEUED,
        outcome=outcome,
        reason=reason,
        exit_code=exit_code,
        started_at=started_at,
        ended_at=ended_at,
    )


def service(row: Row, state: AttemptState | None) -> ServiceObservation | None:
    if "service" not in row:
        return None
    wanted, updated, ready, revision = row["service"]
    short = ready < wanted and state is not AttemptState.ENDED
    return ServiceObservation(
        endpoint=f"http://{row['marker']}.fake.invalid" if ready else None,
        wanted=wanted,
        updated=updated,
        ready=ready,
        revision=revision,
        message=f"{ready} of {wanted} replicas are ready" if short else None,
    )


def ours(row: Row, script: Row) -> Ours:
    ref = AttemptRef(
        marker=row["marker"],
        handle=handle_of(row),
        submitted_at=row["submitted_at"],
        job_id=script["job_id"],
        number=script["number"],
        project=script["project"],
        owner=script["owner"],
        kind=script["kind"],
        name=script["title"],
        digest=script["digest"],
        task_indices=tuple(script.get("tasks", ())),
        revision=script["revision"],
        replicas=script.get("replicas"),
    )
    return Ours(ref=ref, observation=observation(row))


def inventory(answer: Row) -> Inventory:
    shapes = tuple(NodeShape(**shape) for shape in answer["shapes"])
    limits = {str(name): float(value) for name, value in answer["limits"].items()}
    return Inventory(
        as_of=float(answer["as_of"]), shapes=shapes, features=frozenset(answer["features"]), limits=limits
    )


def load(answer: Row, shapes: Sequence[NodeShape]) -> Load:
    """What runs is taken from the first shape that still has it, which is near enough for a fake."""
    used = {key: float(value) for key, value in answer["used"].items()}
    free = []
    for shape in shapes:
        nodes_taken = min(used["nodes"], shape.count)
        cpus_taken = min(used["cpus"], shape.count * shape.cpus)
        gpus_taken = min(used["gpus"], shape.count * shape.gpus)
        used = {
            "nodes": used["nodes"] - nodes_taken,
            "cpus": used["cpus"] - cpus_taken,
            "gpus": used["gpus"] - gpus_taken,
        }
        free_nodes = shape.count - math.ceil(nodes_taken)
        free.append(
            ShapeLoad(
                name=shape.name,
                free_nodes=free_nodes,
                free_cpus=int(shape.count * shape.cpus - cpus_taken),
                free_memory_mib=free_nodes * shape.memory_mib,
                free_gpus=int(shape.count * shape.gpus - gpus_taken),
            )
        )
    return Load(
        as_of=float(answer["as_of"]),
        shapes=tuple(free),
        queued_count=int(answer["queued"]),
        running_count=int(answer["running"]),
    )
