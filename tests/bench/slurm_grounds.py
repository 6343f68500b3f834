"""A broker whose only backend is a real cluster, and that cluster asked directly.

The bare side is the cheapest client there is: ``http.client`` over one connection, a body made beforehand.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

from adapters.base import AttemptRef, BackendConfig
from adapters.slurm import loading, render
from adapters.slurm.rest.dialects import DIALECTS
from api_spec.schemas import load_spec
from tests.bench.figures import Size
from tests.bench.grounds import PROJECT, Grounds, tree_cpu_s
from tests.fakes import INSTANCE
from tests.real.slurm.cluster import Cluster, boot
from tests.real.slurm.installs import Install, debian, newer

BACKEND = "hpc"
SLEEPER: Mapping[str, Any] = {
    "kind": "batch",
    "name": "job",
    "project": PROJECT,
    "command": ["sleep", "1000"],
    "resources": {"cpus_per_task": 1, "memory_per_node": "100MiB"},
    "time_limit": "1h",
}
BODY = json.dumps(SLEEPER, separators=(",", ":")).encode()
IDS_AT_ONCE = 500  # on one command line of scontrol


def releases() -> list[Install]:
    """Those that are installed here."""
    return [one for one in (debian(), newer()) if not one.missing(accounting=False)]


class SlurmGrounds(Grounds):
    """Rests on a cluster without a database, whose jobs run as whoever measures."""

    document = SLEEPER

    def __init__(self, cluster: Cluster, **settings: Any) -> None:
        self.cluster = cluster
        jobs = cluster.shared / "jobs"
        jobs.mkdir(exist_ok=True)
        self.options = {
            "url": cluster.rest_url,
            "token": {"key_file": str(cluster.jwt_key_file)},
            "users": {"service": cluster.user},
            "directory": str(jobs),
        }
        backend = {"name": BACKEND, "type": "slurm", "options": self.options}
        super().__init__(real=[backend], max_submits_per_s=10**6, max_live_jobs=10**6, **settings)

    def _pid(self, name: str) -> int:
        known = self.cluster.daemons.get(name)
        return known.pid if known else super()._pid(name)

    def slurm_cpu_s(self) -> dict[str, float]:
        """Of the two daemons that a call goes through."""
        return {name: tree_cpu_s(self._pid(name)) for name in ("slurmrestd", "slurmctld")}

    def job_ids(self, state: str = "all") -> list[str]:
        said = self.cluster.run("squeue", "--noheader", "--all", f"--states={state}", "--format=%i")
        return sorted(said.split(), key=int)

    def tell(self, *words: str, ids: Sequence[str]) -> None:
        """``scontrol hold``, ``scontrol release``, ``scancel`` for many jobs."""
        for start in range(0, len(ids), IDS_AT_ONCE):
            some = ids[start : start + IDS_AT_ONCE]
            self.cluster.run(*words, *(some if words == ("scancel",) else [",".join(some)]))

    def partition(self, state: str) -> None:
        """``down``: jobs are taken and none starts."""
        self.cluster.run("scontrol", "update", "partitionname=train", f"state={state}")

    @property
    def dialect(self) -> str:
        return "v0.0.42" if self.cluster.install.newer else "v0.0.38"


@contextmanager
def slurm_grounds(install: Install, **settings: Any) -> Iterator[SlurmGrounds]:
    if os.geteuid() == 0:
        raise SystemExit("the broker runs no jobs as root: measure as an ordinary user")
    with boot(install=install) as cluster, SlurmGrounds(cluster, **settings) as grounds:
        yield grounds


class Bare:
    """What a client needs at least."""

    def __init__(self, grounds: SlurmGrounds) -> None:
        cluster = grounds.cluster
        self.root = f"/slurm/{grounds.dialect}"
        self.headers = {
            "X-SLURM-USER-NAME": cluster.user,
            "X-SLURM-USER-TOKEN": cluster.token(),
            "Content-Type": "application/json",
        }
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", cluster.layout.ports.slurmrestd, timeout=120
        )
        self._body = body_of(grounds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def jobs(self) -> int:
        """How many the listing has; it is parsed, as there is no other use for it."""
        return len(self._call("GET", "/jobs")["jobs"])

    def submit(self, number: int) -> int:
        """The same job as the broker's, under a name of its own."""
        answer = self._call("POST", "/job/submit", self._body.replace("bare-1", f"bare-{number}"))
        return int(answer["job_id"])

    def _call(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        self._connection.request(method, self.root + path, body=body, headers=self.headers)
        response = self._connection.getresponse()
        content: dict[str, Any] = json.loads(response.read())
        assert response.status == 200, content
        return content


def body_of(grounds: SlurmGrounds) -> str:
    config = BackendConfig(
        name=BACKEND, type="slurm", instance=INSTANCE, data_dir="", options=grounds.options
    )
    options = loading.load(config.options, config.name)
    ref = AttemptRef(marker="wb-test-bare-1", job_id="bare", owner="ana", project=PROJECT, kind="batch")
    job = render.submission(load_spec(dict(SLEEPER)), ref, options, BACKEND)
    (dialect,) = (one for one in DIALECTS if one.version == grounds.dialect)
    return json.dumps(dialect.submission(job))


def rounds(size: Size) -> int:
    """Each takes minutes."""
    return min(size.rounds, 3)
