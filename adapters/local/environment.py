"""The environment of a job: the contract that every backend keeps, for processes of this machine.  Pure.

Later rows win: passed from the agent, the backend's own ``environment``, the spec's, the contract.
Secrets are added by whoever starts the job (``adapters/secret_files.py``); here they are known by name only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.base import AttemptRef
from adapters.job_environment import as_text, local_path_or_uri, variable_name
from adapters.local.options import Options
from api_spec.jobs import JobSpec


@dataclass(frozen=True, kw_only=True)
class Seat:
    """What the agent assigns to one task or replica when it starts it."""

    index: int = 0
    revision: int = 1
    port: int | None = None
    gpus: Sequence[int] = ()


def of_job(spec: JobSpec, ref: AttemptRef, seat: Seat, output_dir: str, options: Options) -> dict[str, str]:
    """Without what is passed from the agent and without secrets."""
    found = {**options.environment, **spec.environment}
    found |= {
        "BROKER_JOB_ID": ref.job_id,
        "BROKER_ATTEMPT": str(ref.number),
        "BROKER_TASK_INDEX": str(seat.index if spec.array else 0),
        "BROKER_NODES": "1",
        "BROKER_NODE_RANK": "0",
        "BROKER_OUTPUT_DIR": output_dir,
    }
    for given in spec.inputs:
        if given.uri is not None:
            found[f"BROKER_INPUT_{variable_name(given.name)}"] = local_path_or_uri(given.uri)
    if spec.array and spec.array.parameters:
        for name, value in spec.array.parameters[seat.index].items():
            found[f"BROKER_PARAM_{variable_name(name)}"] = as_text(value)
    if spec.service is not None:
        found["BROKER_REPLICA"] = str(seat.index)
        found["BROKER_PORT"] = str(seat.port or "")
        if spec.service.model is not None:
            found["BROKER_MODEL_URI"] = local_path_or_uri(spec.service.model.uri)
    if options.gpus:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, seat.gpus))
    return found


def passed(options: Options, environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in options.environment_passed if name in environment}
