"""The environment of a job: the contract that every backend keeps.  Pure.

Later rows win: what any job needs, the backend's own ``environment``, the fabric's, the spec's, the
contract.  Slurm adds its ``SLURM_*``; what only a node knows is set by the script.  Secrets are added when
the job is sent; here they are known by name only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from adapters.base import AttemptRef
from adapters.job_environment import as_text, local_path_or_uri, variable_name
from adapters.slurm.native import fabric_of
from adapters.slurm.options import Options
from adapters.slurm.paths import Paths
from api_spec.jobs import JobSpec

PATH = "/usr/local/bin:/usr/bin:/bin"
"""slurmd hands on none of its own; an operator sets another one in ``environment``."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
RESERVED = ("SLURM_", "SBATCH_", "SPANK_", "_SLURM_", "PYXIS_", "BROKER_")
"""Names that Slurm, its plug-ins and the broker read: a job could change by them what was decided."""

# fmt: off
# What bash makes itself when it starts or runs, whatever it was given: such a value would not arrive.
OF_THE_SHELL = frozenset({
    "_", "BASH", "BASHOPTS", "BASHPID", "BASH_ARGC", "BASH_ARGV", "BASH_ARGV0", "BASH_CMDS",
    "BASH_COMMAND", "BASH_EXECUTION_STRING", "BASH_LINENO", "BASH_SOURCE", "BASH_SUBSHELL",
    "BASH_VERSINFO", "BASH_VERSION", "COMP_WORDBREAKS", "DIRSTACK", "EPOCHREALTIME", "EPOCHSECONDS",
    "EUID", "FUNCNAME", "GROUPS", "HISTCMD", "IFS", "LINENO", "OLDPWD", "OPTERR", "OPTIND",
    "PIPESTATUS", "PPID", "PS1", "PS2", "PS4", "PWD", "RANDOM", "SECONDS", "SHELLOPTS", "SHLVL",
    "SRANDOM", "UID",
})
# fmt: on


def of_job(spec: JobSpec, ref: AttemptRef, options: Options, user: str, paths: Paths) -> dict[str, str]:
    """All that is known before the job starts, without secrets."""
    found = {"PATH": PATH, "USER": user, "LOGNAME": user}
    found |= {name: value.replace("{user}", user) for name, value in options.environment.items()}
    found |= {**fabric_of(spec, options).environment, **spec.environment}
    found |= {
        "BROKER_JOB_ID": ref.job_id,
        "BROKER_ATTEMPT": str(ref.number),
        "BROKER_NODES": str(spec.resources.nodes),
        "BROKER_NODE_RANK": "0",  # of the script; a step sets its own
    }
    if not spec.array:
        found |= {"BROKER_TASK_INDEX": "0", "BROKER_OUTPUT_DIR": paths.outputs}
    return found | inputs(spec)


def inputs(spec: JobSpec) -> dict[str, str]:
    return {
        f"BROKER_INPUT_{variable_name(given.name)}": local_path_or_uri(given.uri)
        for given in spec.inputs
        if given.uri is not None
    }


def parameters(given: Mapping[str, object]) -> dict[str, str]:
    """Of one task."""
    return {f"BROKER_PARAM_{variable_name(name)}": as_text(value) for name, value in given.items()}


def carried_into_containers(spec: JobSpec, options: Options) -> list[str]:
    """Names whose values here win over those of the image."""
    names = {*spec.environment, *spec.secrets, *fabric_of(spec, options).environment, *inputs(spec)}
    names |= {f"BROKER_{word}" for word in ("JOB_ID", "ATTEMPT", "NODES", "TASK_INDEX", "OUTPUT_DIR")}
    if spec.array and spec.array.parameters:
        names |= _names_of(spec.array.parameters)
    if spec.resources.nodes == 1:
        names.add("BROKER_NODE_RANK")
    return sorted(names)


def _names_of(tasks: Iterable[Mapping[str, object]]) -> set[str]:
    return {name for task in tasks for name in parameters(task)}
