"""Builders that show only what matters to a test."""

from __future__ import annotations

from typing import Any

from api_spec.jobs import JobSpec, Kind, Replicas, Service


def spec(**changes: Any) -> JobSpec:
    """A training job named "train" that runs ``true``, but for ``changes``; what a kind needs is added."""
    members: dict[str, Any] = {"kind": Kind.TRAINING, "name": "train", **changes}
    members["kind"] = Kind(members["kind"])
    if not members.get("script"):
        members.setdefault("command", ("true",))
    if members["kind"] is Kind.INFERENCE:
        members.setdefault("service", Service(port=8000, replicas=Replicas(min=1, max=4)))
    return JobSpec(**members)
