"""Which dialect to speak: the newest that both sides know, by slurmrestd's own OpenAPI document.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from adapters.slurm.records import Association, Changes, Cluster, Job, JobState, Partition, Qos, Submission
from adapters.slurm.rest import accounting, new, old, rows
from adapters.slurm.rest.accounting import Ask
from adapters.slurm.transport import NotReached

Params = Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The words of one version; what is not here is alike in all."""

    version: str
    submission: Callable[[Submission], dict[str, Any]]
    changes: Callable[[Changes], dict[str, Any]]
    partition: Callable[[Mapping[str, Any]], Partition]
    questions: Callable[[Ask], Sequence[Params]]
    since: Callable[[float], str]
    job_state: Callable[[Mapping[str, Any]], JobState]
    accounted: Callable[[Mapping[str, Any]], Job] = accounting.job
    association: Callable[[Mapping[str, Any]], Association] = accounting.association
    qos: Callable[[Mapping[str, Any]], Qos] = accounting.qos

    @property
    def qos_key(self) -> str:
        return "qos" if self.newer else "QOS"

    @property
    def newer(self) -> bool:
        """v0.0.40 and later: an answer says when it was made, a cancel answers for each job."""
        return self.version != old.VERSION


def newer(version: str) -> Dialect:
    return Dialect(
        version=version,
        submission=partial(new.submission, version=version),
        changes=new.changes,
        partition=new.partition,
        questions=new.questions,
        since=new.since,
        job_state=partial(rows.job_state, by_array=version == "v0.0.40"),
    )


# Newest first.  v0.0.39 was in no release that also had a later one.
DIALECTS = (
    *(newer(f"v0.0.{number}") for number in (44, 43, 42, 41, 40)),
    Dialect(
        version=old.VERSION,
        submission=old.submission,
        changes=old.changes,
        partition=old.partition,
        questions=old.questions,
        since=old.since,
        job_state=partial(rows.job_state, by_array=True),  # offered by none
    ),
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a slurmrestd was when it was asked last."""

    dialect: Dialect
    cluster: Cluster

    def slurm(self, path: str) -> str:
        return f"/slurm/{self.dialect.version}/{path}"

    def slurmdb(self, path: str) -> str:
        return f"/slurmdb/{self.dialect.version}/{path}"


def choose(document: Mapping[str, Any], known: Sequence[Dialect] = DIALECTS) -> tuple[Dialect, bool, bool]:
    """The dialect, and whether it offers the accounting database and the cheap listing of states."""
    paths = {path.rstrip("/") for path in document.get("paths") or ()}
    offered = {part for path in paths if path.startswith("/slurm/") for part in path.split("/")[2:3]}
    for dialect in known:
        if dialect.version in offered:
            accounting_too = any(path.startswith(f"/slurmdb/{dialect.version}/") for path in paths)
            return dialect, accounting_too, f"/slurm/{dialect.version}/jobs/state" in paths
    ours = ", ".join(dialect.version for dialect in known)
    theirs = ", ".join(sorted(offered)) or "no version of its API"
    raise NotReached(f"slurmrestd offers {theirs}; the broker speaks {ours}")


def described(meta: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Slurm's release and the cluster's name, as each answer says them."""
    said = meta.get("slurm") or meta.get("Slurm") or {}
    return said.get("release"), said.get("cluster") or None
