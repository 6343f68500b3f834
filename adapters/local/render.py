"""The start of a job as text for people: exactly what is executed, where, with which limits.  Pure.

Secrets are shown as references.
"""

from __future__ import annotations

import shlex

from adapters.base import AttemptRef
from adapters.local import attempts, launch
from adapters.local.environment import Seat
from adapters.local.options import Options
from api_spec.jobs import JobSpec


def render(spec: JobSpec, ref: AttemptRef, data_dir: str, options: Options) -> str:
    """Of the first task or replica; the others differ in index, port and directory."""
    indices = (ref.task_indices or spec.array.task_indices) if spec.array else (0,)
    seat = Seat(index=indices[0], revision=ref.revision, gpus=range(spec.resources.gpus_per_node))
    planned = launch.plan(spec, ref, seat, data_dir, options)
    lines = [
        f"# {ref.marker}: a process of this machine, started without a shell",
        f"exec       {shlex.join(planned.argv)}",
        f"directory  {planned.cwd}",
        f"stdout     {planned.stdout}",
        f"stderr     {planned.stderr}",
        f"limits     {_limits(spec, planned)}",
    ]
    if spec.array is not None:
        at_once = f", {spec.array.max_running} at once" if spec.array.max_running else ""
        lines.append(f"array      {attempts.pack(indices)}{at_once}")
    if spec.service is not None:
        lines.append(f"replicas   {spec.service.replicas.min if ref.replicas is None else ref.replicas}")
    lines += ["environment"]
    lines += [f"  {name} passed on from the agent" for name in options.environment_passed]
    lines += [f"  {name}={shlex.quote(value)}" for name, value in sorted(planned.env.items())]
    lines += [f"  {name} from the secret {one.name}/{one.key}" for name, one in sorted(spec.secrets.items())]
    if spec.script is not None:
        lines += ["script", spec.script]
    return "\n".join(lines) + "\n"


def _limits(spec: JobSpec, planned: launch.Plan) -> str:
    wanted = spec.resources
    parts = [f"{wanted.cpus_per_node} CPUs (a slot, not enforced)"]
    if planned.memory_limit_mib is not None:
        parts.append(f"{planned.memory_limit_mib} MiB of memory")
    if wanted.gpus_per_node:
        parts.append(f"{wanted.gpus_per_node} GPUs")
    if spec.time_limit_s is not None:
        parts.append(f"{spec.time_limit_s} s, then SIGTERM and {planned.grace_s:g} s later SIGKILL")
    return ", ".join(parts)
