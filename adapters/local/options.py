"""What an operator may set for a ``local`` backend, and the defaults that the machine gives.

The adapter writes them to ``options.json``, since the agent may be started by any process of the broker.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from adapters.local.paths import Home

PASSED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")


@dataclass(frozen=True, kw_only=True)
class Options:
    cpus: int
    memory_mib: int
    gpus: int = 0
    gpu_type: str | None = None
    environment_passed: tuple[str, ...] = PASSED
    """Variables of the agent's own environment that a job gets."""
    environment: Mapping[str, str]
    """Variables that every job gets."""
    secrets_dir: str
    """``NAME/KEY`` below it are the secrets; neither may be open to other users."""
    grace_s: float = 10.0
    """Between the warning signal and the one that kills; a job may ask for less or more."""
    settle_s: float = 2.0
    """How long after a submission its absence is not yet proven: longer than one INSERT can wait."""
    service_host: str = "127.0.0.1"
    """Where the endpoints of services listen."""
    node: str
    """What the machine is called in inventory and observations."""


def load(data_dir: str, given: Mapping[str, Any]) -> Options:
    """Raises ``ValueError`` for what is not known or has the wrong type."""
    if sys.platform != "linux":
        raise ValueError("the local backend needs Linux")
    known = {one.name for one in fields(Options)}
    if strange := sorted(set(given) - known):
        raise ValueError(
            f"the local backend has no option {', '.join(strange)}; it has {', '.join(sorted(known))}"
        )
    values: dict[str, Any] = {
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mib": memory_of_this_machine_mib(),
        "gpus": gpus_of_this_machine(),
        "environment": {},
        "secrets_dir": Home(data_dir).secrets,
        "node": socket.gethostname(),
    } | dict(given)
    values["environment_passed"] = tuple(values.get("environment_passed", PASSED))
    return _checked(Options(**values))


def _checked(options: Options) -> Options:
    for name in ("cpus", "memory_mib", "gpus"):
        value = getattr(options, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(f"{name} is a whole number, not {value!r}")
    for name in ("grace_s", "settle_s"):
        value = getattr(options, name)
        if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
            raise ValueError(f"{name} is a number of seconds, not {value!r}")
    return options


def memory_of_this_machine_mib() -> int:
    """What the machine has, or the limit of the container that we are in."""
    limits = []
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            limits.append(int(line.split()[1]) >> 10)
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # "max" is not a number, and no limit
            limits.append(int(Path(path).read_text()) >> 20)
    return min(limits)


def gpus_of_this_machine() -> int:
    try:
        return len(os.listdir("/proc/driver/nvidia/gpus"))
    except OSError:
        return 0


def to_json(options: Options) -> str:
    return json.dumps(asdict(options), sort_keys=True)


def from_json(text: str) -> Options:
    values = json.loads(text)
    return Options(**values | {"environment_passed": tuple(values["environment_passed"])})
