"""Builders for what the Slurm adapter's pure parts take, and a bash that runs its scripts as slurmd does."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any

from adapters.base import AttemptRef
from adapters.slurm import render
from adapters.slurm.loading import load
from adapters.slurm.options import Options
from adapters.slurm.records import Submission
from api_spec.jobs import JobSpec
from tests.builders import spec

MARKER = "wb-x-01j0000000000000000000000a-2"
OWNER = "ana"


def options(**changes: Any) -> Options:
    """Owners are users, over a slurmrestd that nobody calls, but for ``changes``."""
    given: dict[str, Any] = {
        "directory": "/home/{user}/.broker",
        "url": "http://127.0.0.1:6820",
        "token": {"key_file": "/etc/key"},
        "users": {"owner": True},
    }
    return load({key: value for key, value in {**given, **changes}.items() if value is not None}, "hpc")


def ref(**changes: Any) -> AttemptRef:
    members: dict[str, Any] = {
        "marker": MARKER,
        "job_id": "01J0000000000000000000000A",
        "number": 2,
        "project": "vision",
        "owner": OWNER,
        "kind": "training",
        "name": "train",
        "digest": "d" * 64,
    }
    return AttemptRef(**{**members, **changes})


def sent(wanted: JobSpec | None = None, attempt: AttemptRef | None = None, **changes: Any) -> Submission:
    """What Slurm gets for a job; ``changes`` are of the options."""
    return render.submission(wanted or spec(), attempt or ref(), options(**changes), "hpc")


@dataclass(frozen=True)
class Ran:
    code: int
    stdout: bytes
    stderr: bytes


def run(job: Submission, job_id: str = "12", **more: str) -> Ran:
    """The script in real bash, with the variables that slurmd would set."""
    finished = start(job, job_id, **more)
    out, err = finished.communicate(timeout=60)
    return Ran(finished.returncode, out, err)


def start(job: Submission, job_id: str = "12", **more: str) -> subprocess.Popen[bytes]:
    """As a file without a name, so that nothing is left where the job's directory cannot be written."""
    with tempfile.TemporaryFile() as script:
        script.write(job.script.encode())
        script.flush()
        return _bash(
            script.fileno(), {**job.environment, "SLURM_JOB_ID": job_id, "SLURM_NODEID": "0", **more}
        )


def _bash(script: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/bash", "-p", f"/dev/fd/{script}"],
        pass_fds=[script],
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
