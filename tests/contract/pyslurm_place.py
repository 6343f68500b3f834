"""The real pyslurm and a cluster of the site's, as a place of the contract; Slurm's commands tell the truth.

Only with ``BROKER_TEST_PYSLURM=1``, where pyslurm can be imported and its cluster answers; ``SLURM_CONF``
names the cluster as everywhere.  Jobs run as whoever runs the tests, below their home, which nodes share.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from adapters.base import Adapter, AttemptRef, BackendConfig, Capability
from adapters.slurm import loading
from adapters.slurm.adapter import SlurmAdapter
from adapters.slurm.transport import Transport
from adapters.slurm.transports import open_transport
from api_spec.jobs import Placement
from api_spec.states import AttemptState
from tests.contract.places import Fault, Place
from tests.contract.slurm_place import SETTLE_S, SlurmPlace
from tests.fakes import INSTANCE
from tests.helpers import wait_until

SWITCH = "BROKER_TEST_PYSLURM"
PROBE = "import pyslurm; pyslurm.slurmctld.diag()"
PROBE_S = 60.0
# A cluster that nobody is: its port is refused.
DEAD = (
    "ClusterName=dead\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=1\nMessageTimeout=2\nNodeName=n1\n"
)


@cache
def missing() -> str | None:
    """What this machine lacks for it, as a sentence."""
    if os.environ.get(SWITCH) != "1":
        return f"the real pyslurm is tested with {SWITCH}=1"
    if importlib.util.find_spec("pyslurm") is None:
        return "pyslurm is not installed"
    try:
        probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_S)
    except subprocess.TimeoutExpired:
        return f"pyslurm's cluster does not answer within {PROBE_S:g} s"
    return f"pyslurm's cluster does not answer: {probe.stderr[-200:]}" if probe.returncode else None


@dataclass(frozen=True)
class Site:
    """What of a cluster the tests of a cluster of ours use."""

    user: str = pwd.getpwuid(os.getuid()).pw_name

    def run(self, *command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    def calm(self) -> None: ...


class Counted:
    """A transport that counts its calls."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        self.count += 1
        return getattr(self._transport, name)


class PyslurmPlace(SlurmPlace):
    name = kind = "pyslurm"
    shows = frozenset({*SlurmAdapter.capabilities, Fault.REQUEUE} - {Capability.CANCEL_TASKS})
    breakages = ("dead", "no slurm.conf")
    # The listing, which the database's rows are joined with for each 100 names, and what the cluster is.
    trips_per_pass = 2 + 2 * 5

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        Place.__init__(self)  # nothing goes over a wire that could be cut
        self.cluster = Site()
        self._folder = folder
        self._jobs = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=Path.home())))
        self._stack = stack
        self.adapter = self._adapter()
        self.adapter.find("nobody", 0.0)
        began = time.time()
        wait_until(lambda: time.time() > began + SETTLE_S)

    def _adapter(self, **changes: Any) -> SlurmAdapter:
        options = {
            "transport": "pyslurm",
            "users": {"service": self.cluster.user},
            "directory": str(self._jobs),
            "settle_s": SETTLE_S,
            **({"slurm_conf": os.environ["SLURM_CONF"]} if "SLURM_CONF" in os.environ else {}),
            **changes,
        }
        config = BackendConfig(name="slurm", type="slurm", instance=INSTANCE, data_dir="", options=options)
        self.transport = Counted(open_transport(loading.load(options, "slurm")))
        adapter = SlurmAdapter(config, transport=self.transport)
        self._stack.callback(adapter.close)
        return adapter

    def submit_waiting(self) -> tuple[AttemptRef, Callable[[], None]]:
        """It waits for another job; a site's cluster is not for filling."""
        other = self.submit(self.job(runs=True))
        self.until(other, AttemptState.RUNNING)
        assert other.handle is not None
        after = Placement(slurm={"dependency": f"afterany:{other.handle['id']}"})
        waiting = self.submit(replace(self.job(runs=True), placement=after))
        return waiting, lambda: self.adapter.cancel(other)

    def starts(self, marker: str) -> int:
        rows = self.cluster.run("squeue", "-h", "-t", "all", "-n", marker, "-o", "%i %T %S").splitlines()
        return sum(1 for row in rows if row.split()[1] != "PENDING" and row.split()[2] != "N/A")

    def round_trips(self) -> int:
        return self.transport.count

    @contextmanager
    def broken(self, breakage: str) -> Iterator[Adapter]:
        conf = self._folder / f"{breakage}.conf"
        if breakage == "dead":
            conf.write_text(DEAD)
        counted = self.transport
        yield self._adapter(slurm_conf=str(conf), answer_s=10)
        self.transport = counted

    def calm(self) -> None:
        Place.calm(self)


PYSLURM_PLACES = () if missing() else (PyslurmPlace,)
