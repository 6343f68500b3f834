"""Records what real servers of Slurm answer: ``python -m tests.recorded.slurm.record``.

Needs a complete installation (``tests/real/slurm/installs.py``); writes one file an answer, below the folder
of the dialect, as ``{"status": 200, "body": {...}}``.  Names of this machine are replaced.
"""

from __future__ import annotations

import json
import re
import socket
import sys
from pathlib import Path

import httpx2

from tests.helpers import wait_until
from tests.real.slurm import installs
from tests.real.slurm.cluster import Cluster, boot

HERE = Path(__file__).parent
DIALECTS = {"22.05": ("v0.0.38",), "24.11": ("v0.0.40", "v0.0.41", "v0.0.42")}
MOST_PATHS = re.compile(r"^/slurm(db)?/v0\.0\.\d+/(ping|jobs|jobs/state|job/submit)/?$")


class Recorder:
    def __init__(self, cluster: Cluster, dialect: str, *, accounting: bool = False) -> None:
        self.cluster, self.dialect, self.accounting = cluster, dialect, accounting
        self.folder = HERE / dialect
        self.folder.mkdir(exist_ok=True)
        self.http = httpx2.Client(base_url=cluster.rest_url, timeout=60, trust_env=False)

    def __call__(self, name: str | None, method: str, path: str, **changes: object) -> dict[str, object]:
        """``name`` None: not kept."""
        headers = {"X-SLURM-USER-NAME": self.cluster.user, "X-SLURM-USER-TOKEN": self.cluster.token()}
        headers |= changes.pop("headers", {})
        answer = self.http.request(method, path.format(v=self.dialect), headers=headers, **changes)
        try:
            body = answer.json()
        except ValueError:
            body = answer.text
        if name:
            kept = {"status": answer.status_code, "body": trimmed(body)}
            text = self.scrubbed(json.dumps(kept, indent=1, sort_keys=True))
            (self.folder / f"{name}.json").write_text(text + "\n")
        return body

    def scrubbed(self, text: str) -> str:
        people = dict(zip(self.cluster.users, ("ana", "bo", "cy"), strict=False)) if self.accounting else {}
        for found, instead in (
            *people.items(),
            (str(self.cluster.directory), "/cluster"),
            (f'"{socket.gethostname()}"', '"head"'),
            (str(Path.home()), "/home/user"),
        ):
            text = text.replace(found, instead)
        text = re.sub(r'"operating_system": "[^"]*"', '"operating_system": "Linux"', text)
        return re.sub(r"127\.0\.0\.1(:\d+)?|\[localhost\]:\d+", "192.0.2.1", text)


def trimmed(body: object) -> object:
    """Of the OpenAPI document the paths that a dialect is chosen by."""
    if isinstance(body, dict) and "paths" in body:
        return {"paths": {path: {} for path in body["paths"] if MOST_PATHS.match(path)}}
    return body


def job(record: Recorder, script: str, /, **more: object) -> dict[str, object]:
    old = record.dialect == "v0.0.38"
    text = f"#!/bin/sh\n{script}\n"
    environment = {"PATH": "/usr/bin:/bin"}
    body = {
        "name": "wb-test-1",
        "current_working_directory": "/tmp",
        "comment": "a comment",
        "standard_output": f"{record.cluster.shared}/%j.out",
        "environment": environment if old else [f"{name}={value}" for name, value in environment.items()],
        **more,
    }
    return {"script": text, "job": body} if old else {"job": {**body, "script": text}}


def submit(record: Recorder, kept_as: str | None, script: str, /, **more: object) -> int:
    said = record(kept_as, "POST", "/slurm/{v}/job/submit", json=job(record, script, **more))
    return int(said.get("job_id") or 0) if isinstance(said, dict) else 0


def controller(record: Recorder) -> None:
    cluster, gpus = record.cluster, {"gres": "gpu:h100:1"}
    if record.dialect != "v0.0.38":
        gpus = {"tres_per_node": "gres/gpu:h100:1"}
    for name in ("ping", "diag", "partitions", "nodes", "licenses", "reservations"):
        record(name, "GET", f"/slurm/{{v}}/{name}")
    record("openapi", "GET", "/openapi/v3")
    record("no_jobs", "GET", "/slurm/{v}/jobs")
    running = submit(record, "submit", "sleep 600", **gpus)
    submit(record, "submit_held", "true", hold=True)
    failed = submit(record, None, "exit 3")
    killed = submit(record, None, "kill -9 $$")
    unstarted = submit(record, None, "true", standard_output="/dev/null/out")
    cancelled = submit(record, None, "sleep 600")
    submit(record, None, "sleep 600", array="0-5%2")
    submit(record, None, "true", dependency=f"afterok:{running}")
    cluster.wait_state(cancelled, "RUNNING")
    record("cancel", "DELETE", f"/slurm/{{v}}/job/{cancelled}")
    for ended in (failed, killed, unstarted, cancelled):
        cluster.wait_state(ended, "FAILED", "CANCELLED")
    cluster.wait_state(running, "RUNNING")
    record("nodes_busy", "GET", "/slurm/{v}/nodes")
    record("jobs", "GET", "/slurm/{v}/jobs")
    later = "4000000000" if record.dialect == "v0.0.38" else "uts4000000000"
    record("jobs_unchanged", "GET", f"/slurm/{{v}}/jobs?update_time={later}")
    record("job", "GET", f"/slurm/{{v}}/job/{running}")
    record("cancel_ended", "DELETE", f"/slurm/{{v}}/job/{failed}")
    record("change", "POST", f"/slurm/{{v}}/job/{running}", json={"comment": "other"})
    refusals(record)
    if record.dialect != "v0.0.38":
        record("states", "GET", "/slurm/{v}/jobs/state")


def refusals(record: Recorder) -> None:
    record("unknown_job", "GET", "/slurm/{v}/job/99999")
    record("cancel_unknown", "DELETE", "/slurm/{v}/job/99999")
    record("change_unknown", "POST", "/slurm/{v}/job/99999", json={"comment": "other"})
    record("unknown_path", "GET", "/slurm/{v}/nowhere")
    submit(record, "submit_bad_partition", "true", partition="nowhere")
    submit(record, "submit_unknown_key", "true", no_such_key="x", hold=True)
    submit(record, "submit_wrong_type", "true", tasks="abc", hold=True)
    wrong = {"headers": {"X-SLURM-USER-TOKEN": "a.b.c"}}
    record("wrong_token", "GET", "/slurm/{v}/jobs", **wrong)
    record("wrong_token_ping", "GET", "/slurm/{v}/ping", **wrong)
    record("wrong_token_submit", "POST", "/slurm/{v}/job/submit", json=job(record, "true"), **wrong)


def database(record: Recorder) -> None:
    """The bodies below /slurmdb, of three jobs and of what the cluster is seeded with."""
    cluster, old = record.cluster, record.dialect == "v0.0.38"
    path = {"PATH": cluster.environment["PATH"]}
    environment = path if old else [f"PATH={path['PATH']}"]
    gpus = {"gres": "gpu:h100:1"} if old else {"tres_per_node": "gres/gpu:h100:1"}
    fill = "x=$(head -c 50000000 /dev/zero | tr '\\0' a); sleep 3; exit 3"
    used = submit(record, None, fill, environment=environment, **gpus)
    never = submit(record, None, "true", name="wb-never-1", hold=True)
    submit(record, None, "sleep 600", name="wb-array-1", array="0-5%2")
    cluster.wait_state(used, "FAILED")
    record(None, "DELETE", f"/slurm/{{v}}/job/{never}")
    since = "submit_time=uts1000000000" if old else "start_time=uts1000000000&usage_time_as_submit_time=true"
    names = f"/slurmdb/{{v}}/jobs?{since}&job_name=wb-test-1%2Cwb-never-1%2Cwb-array-1"

    def arrived() -> bool:
        rows = {row["job_id"]: row["state"]["current"] for row in record(None, "GET", names)["jobs"]}
        return "FAILED" in str(rows.get(used)) and "CANCELLED" in str(rows.get(never))

    wait_until(arrived, 30)
    record("past_names", "GET", names if old else f"{names}&skip_steps=true&show_duplicates=true")
    record("past_ids", "GET", f"/slurmdb/{{v}}/jobs?step={used}")
    record("past_nothing", "GET", f"/slurmdb/{{v}}/jobs?{since}&job_name=nobodys")
    for name in ("associations", "qos", "clusters"):
        record(name, "GET", f"/slurmdb/{{v}}/{name}")
    if not old:
        record("past_unknown_user", "GET", f"/slurmdb/{{v}}/jobs?{since}&users=no-such-user")


def main() -> None:
    for install in (installs.debian(), installs.newer()):
        if missing := install.missing(accounting=True):
            sys.exit(missing)
        for dialect in DIALECTS[install.label]:
            with boot(install=install) as cluster:
                controller(Recorder(cluster, dialect))
            with boot(install=install, accounting=True) as cluster:
                database(Recorder(cluster, dialect, accounting=True))


if __name__ == "__main__":
    main()
