"""A specification as Slurm gets it: options, environment and script, before anything is sent.  Pure.

Secrets are references here; whoever sends the job puts them into the environment (``with_secrets``).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from adapters import carried
from adapters.base import AttemptRef
from adapters.errors import Rejected
from adapters.slurm import environment, native, waiting
from adapters.slurm.identity import slurm_user
from adapters.slurm.native_values import minutes
from adapters.slurm.options import Options
from adapters.slurm.paths import Paths, directory
from adapters.slurm.records import Changes, Submission
from adapters.slurm.script import script
from api_spec.jobs import JobSpec, SecretRef
from api_spec.quantities import compact_indices
from api_spec.reasons import Reason
from api_spec.times import to_rfc3339

ONE_STEP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Of a path, in which neither Slurm nor the file system sees anything else."""

ENDS_BY_ITSELF = frozenset({Reason.NODE_LOST, Reason.PREEMPTED})
"""A job that the broker tries again after these is not requeued by Slurm as well."""


def submission(spec: JobSpec, ref: AttemptRef, options: Options, backend: str) -> Submission:
    """Raises ``Rejected`` for an owner who is nobody here; everything else ``refusals`` has told before."""
    user = slurm_user(ref.owner, options.users)
    if user is None:
        raise Rejected(f"{ref.owner or 'a job without an owner'} is no user of {backend}", Reason.NOT_ALLOWED)
    if "{project}" in options.directory and not ONE_STEP.fullmatch(ref.project):
        raise Rejected(
            f"the project {ref.project[:60]!r} cannot be a directory of {backend}", Reason.NOT_ALLOWED
        )
    paths = paths_of(spec, ref, options, user)
    try:
        chosen = native.chosen(spec, options, backend)
        own = {name: value for name, value in chosen.items() if not name.startswith(("container_", "log_"))}
        return Submission(
            name=ref.marker,
            user=user,
            script=script(spec, ref, paths, options, chosen),
            environment=environment.of_job(spec, ref, options, user, paths),
            directory=paths.directory,
            stdout=paths.stdout,
            stderr=paths.stderr,
            comment=carried.text(ref),
            **own | resources(spec, options, own) | schedule(spec, ref, own),
        )
    except (ValueError, KeyError) as error:
        raise Rejected(f"{backend} cannot run this job: {error}", Reason.INVALID_SPEC) from error


def paths_of(spec: JobSpec, ref: AttemptRef, options: Options, user: str) -> Paths:
    return Paths(
        directory=directory(options.directory, user, ref.project),
        marker=ref.marker,
        array=spec.array is not None,
    )


def resources(spec: JobSpec, options: Options, own: Mapping[str, Any]) -> dict[str, Any]:
    wanted = spec.resources
    return {
        "nodes": wanted.nodes,
        "tasks_per_node": wanted.tasks_per_node,
        "cpus_per_task": wanted.cpus_per_task,
        "memory_per_node_mib": wanted.memory_per_node_mib,
        "gres": ",".join(filter(None, (gpus(spec, options), own.get("gres")))) or None,
    }


def gpus(spec: JobSpec, options: Options) -> str | None:
    """GRES of each node.  Raises ``KeyError`` for a MIG profile that the operator has not named."""
    wanted = spec.resources
    if not wanted.gpus_per_node:
        return None
    if wanted.mig_profile is not None:
        return f"{options.mig_profiles[wanted.mig_profile]}:{wanted.gpus_per_node}"
    if wanted.gpu_type is not None:
        return f"gpu:{options.gpu_types.get(wanted.gpu_type, wanted.gpu_type)}:{wanted.gpus_per_node}"
    return f"gpu:{wanted.gpus_per_node}"


def schedule(spec: JobSpec, ref: AttemptRef, own: Mapping[str, Any]) -> dict[str, Any]:
    """``singleton`` delays a second copy; it holds back neither the tasks of one array nor a requeue."""
    after = ("singleton", own.get("dependency"), waiting.dependency(ref.after))
    return {
        "time_limit_min": None if spec.time_limit_s is None else minutes(spec.time_limit_s),
        "array": array(spec, ref),
        "dependency": ",".join(filter(None, after)),
        "requeue": bool(own.get("requeue", True)) and not ENDS_BY_ITSELF.intersection(spec.retry.on),
        "hold": spec.hold,
    }


def array(spec: JobSpec, ref: AttemptRef) -> str | None:
    """The tasks of this attempt: a retry runs those that failed."""
    if spec.array is None:
        return None
    indices = compact_indices(ref.task_indices or spec.array.task_indices)
    return f"{indices}%{spec.array.max_running}" if spec.array.max_running else indices


def adjusted(spec: JobSpec, options: Options, backend: str) -> Changes:
    """Time limit and priority of a job that Slurm has.  Raises ``Rejected`` for what it cannot change."""
    here = options.priorities.get(spec.priority.value, {})
    if set(here) - {"nice"}:
        names = ", ".join(sorted(set(here) - {"nice"}))
        raise Rejected(f"{backend} cannot change the {names} of a job, which is its priority {spec.priority}")
    if spec.time_limit_s is None:
        raise Rejected(f"{backend} cannot take the time limit from a job", Reason.INVALID_SPEC)
    nice = native.chosen(spec, options, backend).get("nice")
    return Changes(time_limit_min=minutes(spec.time_limit_s), nice=nice or 0)


def with_secrets(job: Submission, values: Mapping[str, str]) -> Submission:
    """``values`` by the name of the variable."""
    return replace(job, environment={**job.environment, **values})


# ---- for people --------------------------------------------------------------------------------------

# fmt: off
WORDS: Mapping[str, str] = {      # fields of Submission in sbatch's words, in the order of showing
    "name": "job-name", "comment": "comment", "account": "account", "qos": "qos", "partition": "partition",
    "reservation": "reservation", "wckey": "wckey", "nodes": "nodes", "tasks_per_node": "ntasks-per-node",
    "cpus_per_task": "cpus-per-task", "memory_per_node_mib": "mem", "memory_per_cpu_mib": "mem-per-cpu",
    "gres": "gres", "cpus_per_gpu": "cpus-per-gpu", "tmp_disk_mib": "tmp", "constraint": "constraint",
    "switches": "switches", "licenses": "licenses", "required_nodes": "nodelist",
    "excluded_nodes": "exclude", "exclusive": "exclusive", "time_limit_min": "time",
    "time_min_min": "time-min", "begin_at": "begin", "deadline_at": "deadline", "nice": "nice",
    "array": "array", "dependency": "dependency",
    "requeue": "requeue", "hold": "hold", "warning_signal": "signal", "mail_types": "mail-type",
    "mail_user": "mail-user", "directory": "chdir", "stdout": "output", "stderr": "error",
}
TOLD_WITH_ANOTHER = frozenset({
    "user", "script", "environment", "switches_wait_s", "warning_s", "warning_to_batch",
})
# fmt: on


def text(job: Submission, secrets: Mapping[str, SecretRef] | None = None) -> str:
    """Options, user, environment and script; ``secrets`` are named and not shown."""
    lines = [f"# {job.name}: a job of Slurm that runs as {job.user}", *_options(job), "", "environment"]
    lines += [f"  {name}={shlex.quote(value)}" for name, value in sorted(job.environment.items())]
    lines += [
        f"  {name} from the secret {one.name}/{one.key}" for name, one in sorted((secrets or {}).items())
    ]
    return "\n".join([*lines, "", "script", job.script])


def _options(job: Submission) -> Iterator[str]:
    for field in WORDS:
        value = getattr(job, field)
        if field == "requeue":
            yield "--requeue" if value else "--no-requeue"
        elif value is True:
            yield f"--{WORDS[field]}"
        elif value not in (None, False, ()):
            yield f"--{WORDS[field]}={shlex.quote(_value(job, field, value))}"
    yield "--open-mode=append"


def _value(job: Submission, field: str, value: Any) -> str:
    if field in ("begin_at", "deadline_at"):
        return to_rfc3339(value)
    if field == "switches" and job.switches_wait_s is not None:
        return f"{value}@{minutes(job.switches_wait_s)}"
    if field == "warning_signal":
        return f"{'B:' if job.warning_to_batch else ''}{value}@{job.warning_s}"
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value}M" if field.endswith("_mib") else str(value)
