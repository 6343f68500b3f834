"""What an operator can set: one field is one knob, in the file, in the environment and on the page.

``python -m broker.settings.page`` writes ``docs/settings.md`` from the texts below the fields.  How they are
read is ``reading``'s; everybody else takes both from ``broker.settings``.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from marshmallow import ValidationError, validate

from adapters.base import BackendConfig
from api_spec.views import Caps

DATA_DIR = Path("~/.local/share/workload-broker")
POSITIVE = validate.Range(min=0, min_inclusive=False, error="must be more than 0")
AT_LEAST_ONE = validate.Range(min=1, error="must be at least 1")
INSTANCE = validate.Regexp(
    r"[a-z0-9]{1,6}\Z", error="must be 1 to 6 of a-z and 0-9: it is part of every marker"
)
BACKEND_NAME = validate.Regexp(
    r"[a-z][a-z0-9-]{0,30}\Z", error="must start with a letter and hold at most 31 of a-z, 0-9 and -"
)
WORKER_NAME = validate.Regexp(
    r"[a-z0-9][a-z0-9.-]{0,62}\Z",
    error="must start with a letter or digit and hold at most 63 of a-z, 0-9, . and -",
)
RATE = validate.Regexp(
    r"\d+ per (\d+ )?(second|minute|hour|day)s?\Z",
    error="must read like '600 per minute' or '20 per 5 seconds'",
)


def one_redis(url: str) -> None:
    """Celery has no transport for a cluster, and the scripts touch keys of several slots."""
    parts = urlsplit(url)
    if "cluster" in parts.scheme or "cluster" in parts.query or "," in parts.netloc:
        raise ValidationError("names a Redis cluster, which is not supported; give the URL of one server")
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValidationError("must start with redis://, rediss:// (TLS) or unix:// (a socket)")
    if not (parts.hostname or parts.scheme == "unix"):
        raise ValidationError("names no host")


def knob(default: Any = dataclasses.MISSING, check: Callable[[Any], Any] | None = None) -> Any:
    """A field of ``Settings`` with what its value must be; without a default it is required."""
    return dataclasses.field(default=default, metadata={"check": check})


@dataclass(frozen=True, kw_only=True)
class ConfiguredBackend(BackendConfig):
    """A table of ``backends``.  A cap that is None is that of the settings; see ``Settings.caps_of``."""

    max_drains: int | None = None
    max_submits_per_s: float | None = None
    max_live_jobs: int | None = None
    log_reader: str | None = None  # None: the API reads the logs itself


CAPS = tuple(field.name for field in dataclasses.fields(Caps))


@dataclass(frozen=True, kw_only=True)
class Settings:
    # The text below a field is its documentation: the page is generated from it.

    redis_url: str = dataclasses.field(repr=False, metadata={"check": one_redis})
    """Where the state is: `redis://:password@host:6379/0`, `rediss://` for TLS, `unix:///path` for a
    socket. Not a cluster. It holds a password, so it is best given by `BROKER_REDIS_URL_FILE`. `broker
    dev` sets it itself."""

    instance: str = knob("main", INSTANCE)
    """The name of this broker in every marker. Two brokers that use the same cluster need different ones;
    it cannot be changed while jobs are live."""

    data_dir: Path = knob(DATA_DIR)
    """A directory of this machine for what is not in Redis: the local backend's ledger and logs, and the
    embedded server's files. Created with mode 0700."""

    blob_dir: Path | None = knob(None)
    """A directory for what is kept beside Redis: the ends of logs that go with what wrote them, as on
    Kubernetes, 1 MiB an attempt at most, for `retention_s`. API processes and workers have to see the same
    one, over a shared file system where they are on several machines, or the API finds nothing there; a
    backend with a `log_reader` needs it only where that runs. By default `blobs` in the data directory."""

    backends: tuple[ConfiguredBackend, ...] = knob(())
    """Where jobs can run: a list of tables with `name`, `type` (`local`, `slurm`, `kubernetes`) and
    `options`, which are the adapter's own. A table may also have `max_drains`, `max_submits_per_s` and
    `max_live_jobs`, which go before the settings of these names, and `log_reader`, the name of the workers
    that read its logs where API processes cannot see the files. In the environment it is a JSON list."""

    policy_file: Path | None = knob(None)
    """The placement rules; without it the default policy that ships with the broker."""

    listen_host: str = knob("127.0.0.1", validate.Length(min=1))
    """The address that the API listens on. `0.0.0.0` for all; a proxy that speaks TLS belongs in
    front."""

    listen_port: int = knob(8080, validate.Range(min=0, max=65535))
    """The port of the API; 0 lets the system choose one."""

    api_processes: int = knob(2, AT_LEAST_ONE)
    """Processes that serve the API."""

    api_threads: int = knob(64, AT_LEAST_ONE)
    """Threads in each of them. An open event or log stream, or a `Prefer: wait`, holds one."""

    worker_threads: int = knob(8, AT_LEAST_ONE)
    """Threads of a worker: backend calls that run at the same time."""

    worker_name: str | None = knob(None, WORKER_NAME)
    """The name of this worker; `broker worker --name` goes before it. A worker reads the logs of the backends
    whose `log_reader` it is, beside its other work. Several may have one name: each reads for all."""

    allow_volatile: bool = knob(False)
    """Start with a Redis that does not persist what it holds (`--allow-volatile`). Accepted jobs can be
    lost; for tests."""

    allow_shared_local: bool = knob(False)
    """Let the local backend run with an API that listens beyond loopback, or for several owners. It
    isolates nobody from nobody: whoever can submit can read and stop everything that the broker's user
    can."""

    lease_s: float = knob(30.0, POSITIVE)
    """How long a worker or controller that went silent keeps what it has claimed."""

    sweep_s: float = knob(5.0, POSITIVE)
    """The period of the sweeper, and so what the loss of every Celery message costs."""

    poll_s: float = knob(1.0, POSITIVE)
    """The period at which a backend that is not watched is observed."""

    watched_poll_s: float = knob(30.0, POSITIVE)
    """The same while a watch tells what changes there. Then a pass proves what is absent, and finds what the
    watch has missed; where the watch breaks, the period is `poll_s` again within seconds."""

    drain_batch: int = knob(50, AT_LEAST_ONE)
    """Due jobs of one backend that a worker claims at once."""

    max_drains: int = knob(2, AT_LEAST_ONE)
    """Drains of one backend at the same time, over all workers; each holds a thread. A backend that hangs
    then holds at most so many. The table of a backend can say it for that one."""

    max_submits_per_s: float = knob(50.0, POSITIVE)
    """Submissions a second to one backend, over all workers. The table of a backend can say it for that
    one."""

    max_live_jobs: int = knob(10_000, AT_LEAST_ONE)
    """Live jobs at one backend; more wait in the broker. Slurm's own default limit is 10,000. The table of
    a backend can say it for that one."""

    pack_after_s: float = knob(3600.0, POSITIVE)
    """How long after its end a job's record is packed: it is read as before and takes less memory."""

    retention_s: float = knob(30 * 86400.0, POSITIVE)
    """How long after its end a job can be read."""

    events_kept: int = knob(100_000, AT_LEAST_ONE)
    """Events in a project's stream; older ones are answered with 410."""

    max_body_bytes: int = knob(1024**2, validate.Range(min=1024, error="must be at least 1024"))
    """The largest request."""

    max_bundle_bytes: int = knob(8 * 1024**2, validate.Range(min=1024, error="must be at least 1024"))
    """The largest request to `jobs:batch`."""

    rate_limit: str = knob("1200 per minute", RATE)
    """Requests of one token."""

    log_format: str = knob("json", validate.OneOf(["json", "console"]))
    """`json`, one object a line, or `console`, for people."""

    log_level: str = knob("info", validate.OneOf(["debug", "info", "warning", "error"]))
    """The least severe message that is logged."""

    def caps_of(self, backend: str) -> Caps:
        """Its own where its table has them.  The settings', too, for one that left the configuration."""
        table = next((one for one in self.backends if one.name == backend), None)
        own = {name: getattr(table, name, None) for name in CAPS}
        return Caps(**{name: getattr(self, name) if cap is None else cap for name, cap in own.items()})

    def log_reader_of(self, backend: str) -> str | None:
        """The name of the workers that alone see its logs; None: the API does."""
        return next((one.log_reader for one in self.backends if one.name == backend), None)

    def logs_read_by(self, worker_name: str | None) -> tuple[str, ...]:
        """The backends whose log reader is called so."""
        return tuple(
            one.name for one in self.backends if one.log_reader is not None and one.log_reader == worker_name
        )

    @property
    def blobs_at(self) -> Path:
        return self.blob_dir or self.data_dir / "blobs"

    @property
    def listens_on_loopback(self) -> bool:
        return is_loopback(self.listen_host)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
