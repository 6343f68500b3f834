"""From a specification to one start: the plan (pure), what it needs on disk, and the supervisor's process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from adapters import secret_files
from adapters.base import AttemptRef
from adapters.local import crash, environment
from adapters.local.environment import Seat
from adapters.local.options import Options
from adapters.local.paths import Home
from adapters.local.processes import LAUNCH_VARIABLE
from api_spec.jobs import JobSpec

IMPORT_ROOT = str(Path(__file__).resolve().parents[2])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a supervisor needs to know."""

    launch: str
    data_dir: str
    task_dir: str
    argv: list[str]
    env: dict[str, str]
    cwd: str
    stdout: str
    stderr: str
    grace_s: float
    time_limit_s: int | None
    memory_limit_mib: int | None


def argv_of(spec: JobSpec, home: Home, ref: AttemptRef, revision: int) -> list[str]:
    """What is executed.  No shell sees arguments; a script without an interpreter line gets /bin/sh."""
    if spec.script is None:
        return [*spec.command, *spec.arguments]
    path = home.script(ref.marker, revision)
    interpreter = [] if spec.script.startswith("#!") else ["/bin/sh"]
    return [*interpreter, path, *spec.arguments]


def grace_s(spec: JobSpec, options: Options) -> float:
    return float(spec.placement.local.get("grace_s", options.grace_s))


def plan(spec: JobSpec, ref: AttemptRef, seat: Seat, data_dir: str, options: Options) -> Plan:
    """Pure.  Neither ``launch`` nor secrets nor the passed environment are in it yet."""
    home = Home(data_dir)
    task_dir = home.task(ref.marker, seat.index)
    return Plan(
        launch="",
        data_dir=home.root,
        task_dir=task_dir,
        argv=argv_of(spec, home, ref, seat.revision),
        env=environment.of_job(spec, ref, seat, home.outputs(ref.marker), options),
        cwd=os.path.normpath(os.path.join(home.work(ref.marker), spec.working_directory or ".")),
        stdout=os.path.join(task_dir, "stdout"),
        stderr=os.path.join(task_dir, "stderr"),
        grace_s=grace_s(spec, options),
        time_limit_s=None if spec.is_service else spec.time_limit_s,
        memory_limit_mib=spec.resources.memory_per_node_mib,
    )


def prepare(spec: JobSpec, ref: AttemptRef, planned: Plan, revision: int) -> None:
    """Directories and the script; repeated, it does nothing.  Raises ``OSError``."""
    home = Home(planned.data_dir)
    for path in (home.work(ref.marker), planned.task_dir, home.outputs(ref.marker)):
        os.makedirs(path, mode=0o700, exist_ok=True)
    if spec.script is not None:
        script = home.script(ref.marker, revision)
        draft = f"{script}.new"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700), "w") as file:
            file.write(spec.script)
        os.replace(draft, script)


def complete(planned: Plan, spec: JobSpec, options: Options, launch: str) -> Plan:
    """With secrets and what the agent passes on.  Raises ``secret_files.Missing``."""
    env = environment.passed(options, os.environ) | planned.env
    env |= secret_files.values(spec.secrets, options.secrets_dir) | {LAUNCH_VARIABLE: launch}
    return Plan(**asdict(planned) | {"env": env, "launch": launch})


def own_environment(launch: str | None = None) -> dict[str, str]:
    """Of our own processes: no more than they need to find Python and our modules."""
    names = ("PATH", "HOME", "LANG", "LC_ALL", *crash.VARIABLES)
    found = {name: os.environ[name] for name in names if name in os.environ}
    found |= {
        "PYTHONPATH": IMPORT_ROOT,
        "PYTHONDONTWRITEBYTECODE": os.environ.get("PYTHONDONTWRITEBYTECODE", ""),
    }
    if launch is not None:
        found[LAUNCH_VARIABLE] = launch
    return found


def spawn(planned: Plan) -> int:
    """Start the supervisor in a session of its own; its pid.

    The plan may hold secrets, so it travels in a file that has no name.  Raises ``OSError``.
    """
    with tempfile.TemporaryFile("w+", dir=planned.task_dir) as file:
        json.dump(asdict(planned), file)
        file.seek(0)
        return spawn_module("adapters.local.supervisor", [], planned.launch, stdin=file.fileno())


def spawn_module(
    module: str, arguments: list[str], launch: str | None, stdin: int = subprocess.DEVNULL
) -> int:
    """A child of ours that nobody waits for by name: the agent reaps whatever ends."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-m", module, *arguments],
        stdin=stdin,
        env=own_environment(launch),
        start_new_session=True,
        cwd="/",
    )
    process.returncode = 0  # or Popen warns that it still runs
    return process.pid
