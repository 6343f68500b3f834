"""``broker dev``: the state, the API, a worker and the controller on one machine, with one command.

    <data dir>/
        dev.lock        held while it runs
        dev.json        url, token and pid for the command line, while it runs (mode 0600)
        token           the token, kept from one run to the next (mode 0600)
        logs/           one file for each process
        redis/          the embedded server's (see ``server``)
        backends/       the local backend's

It holds nothing that matters: after a ``kill -9`` of anything, the same command on the same directory goes
on.  The processes die with it; jobs of the local backend do not, nor the agent that minds them: that ends
with the last of them when it was asked to stop, and stays when it was killed.
"""

from __future__ import annotations

import getpass
import http.client
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from api_spec.errors import Fault, InvalidConfiguration, StoreUnavailable, Unauthenticated
from broker.access import Scope
from broker.auth import NewToken, Tokens
from broker.client.contexts import DEV_FILE, read_private, write_private
from broker.client.errors import NotConfigured
from broker.embedded.lock import DirectoryLock
from broker.embedded.server import EmbeddedServer, private
from broker.embedded.supervisor import Supervisor, say
from broker.settings import Settings, load_settings

ROLES = ("api", "worker", "controller")
KEPT_FILE = "token"  # from one run to the next
LOCAL_BACKEND = [{"name": "local", "type": "local"}]
READY_WITHIN_S = 60.0  # Python's imports on a slow, busy machine
ROUND_S = 0.2
# Not jobs:act-as: the local backend runs all jobs as one user.
SCOPES = frozenset(Scope) - {Scope.JOBS_ACT_AS}
PROJECT = "default"

SAID = ("BROKER_CONFIG", "BROKER_ALLOW_SHARED_LOCAL")
"""What ``broker dev`` may have been told and other commands on the same state have to know."""


def run_dev(
    data_dir: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    config: Path | None = None,
    allow_shared_local: bool = False,
) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code.  ``port`` 0: any free one.

    ``config`` is a settings file; its ``redis_url``, ``data_dir`` and address are replaced by dev's own.
    Raises ``Conflict`` when one runs in ``data_dir``, ``InvalidConfiguration`` and ``NotConfigured`` (a kept
    token that cannot be read) before anything is started.
    """
    data_dir = data_dir.expanduser().absolute()
    private(data_dir)
    server = EmbeddedServer(data_dir / "redis")
    address = {"BROKER_LISTEN_HOST": host, "BROKER_LISTEN_PORT": str(port or free_port(host))}
    if allow_shared_local:
        address["BROKER_ALLOW_SHARED_LOCAL"] = "true"
    environment = environment_for(data_dir, server.url, config, address)
    settings = load_settings(environ=environment)
    lock = DirectoryLock(data_dir / "dev.lock", "broker dev")
    lock.acquire()
    try:
        refuse_a_used_port(settings)
        return Dev(settings, server, environment).run()
    finally:
        lock.release()


def environment_for(
    data_dir: Path, redis_url: str, config: Path | None, address: Mapping[str, str]
) -> dict[str, str]:
    """What the processes read their settings from; without a configured backend there is the local one."""
    environment = {
        **os.environ,
        **({"BROKER_CONFIG": str(config.absolute())} if config else {}),
        **address,
        "BROKER_REDIS_URL": redis_url,
        "BROKER_DATA_DIR": str(data_dir),
    }
    environment.pop("BROKER_REDIS_URL_FILE", None)
    if load_settings(environ=environment).backends:
        return environment
    return {**environment, "BROKER_BACKENDS": json.dumps(LOCAL_BACKEND)}


def refuse_a_used_port(settings: Settings) -> None:
    """The API itself could say so only in its log, while another broker answers there."""
    host, port = settings.listen_host, settings.listen_port
    try:
        with socket.create_server((host, port), family=family_of(host)):
            pass
    except OSError as error:
        message = f"the API cannot listen on {host}, port {port}: {error.strerror}"
        raise InvalidConfiguration(message, faults=[Fault("/listen_port", message)]) from error


def family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def free_port(host: str) -> int:
    """Nobody keeps it for us, but the system gives the same one again last of all."""
    with socket.create_server((host, 0)) as probe:
        return int(probe.getsockname()[1])


class Dev:
    def __init__(self, settings: Settings, server: EmbeddedServer, environment: Mapping[str, str]) -> None:
        self.settings = settings
        self.server = server
        self.stop_asked = threading.Event()
        self.said = {name: environment[name] for name in SAID if name in environment}
        commands = {role: [sys.executable, "-m", "broker.cli.main", role] for role in ROLES}
        self.supervisor = Supervisor(commands, environment, settings.data_dir / "logs")

    @property
    def url(self) -> str:
        host = self.settings.listen_host
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
        return f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{self.settings.listen_port}"

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self.stop_asked.set())
        dev_file = self.settings.data_dir / DEV_FILE
        dev_file.unlink(missing_ok=True)  # of a run that was killed
        kept = kept_secret(self.settings.data_dir / KEPT_FILE)
        try:
            self.server.start()
            self.supervisor.start()
            token = good_token(self.settings, kept)  # while they start: it takes as long as they do
            if not self.wait_ready():
                return 0 if self.stop_asked.is_set() else 1
            about = {"url": self.url, "token": token, "pid": os.getpid(), "settings": self.said}
            write_private(dev_file, about)
            self.announce()
            self.tend()
            return 0
        finally:
            say("Stopping ...")
            dev_file.unlink(missing_ok=True)
            self.supervisor.stop()
            self.server.stop()
            leave_when_idle(self.settings)  # now that nobody is left who would submit

    def announce(self) -> None:
        if self.settings.allow_shared_local:
            say(
                "WARNING: the local backend may be shared. Whoever can submit a job can read, change and stop"
            )
            say(f"WARNING: everything on this machine that {this_user()} can.")
        say(f"The broker is ready at {self.url}; Ctrl-C stops it.")
        say(f"Its state and logs are in {self.settings.data_dir}; local jobs go on when it stops.")

    def wait_ready(self) -> bool:
        give_up_at = time.monotonic() + READY_WITHIN_S
        while not self.stop_asked.wait(ROUND_S):
            if answers(self.settings, "/readyz"):
                return True
            self.supervisor.tend()
            if time.monotonic() > give_up_at:
                logs = self.settings.data_dir / "logs"
                say(f"the broker was not ready after {READY_WITHIN_S:g} s; see {logs}")
                break
        return False

    def tend(self) -> None:
        while not self.stop_asked.wait(ROUND_S):
            self.supervisor.tend()
            if not self.server.is_running():
                say("the embedded server ended and is started again")
                self.restart_server()

    def restart_server(self) -> None:
        try:
            self.server.start()
        except StoreUnavailable as error:  # a full disk, say; the next round tries again
            say(str(error))


def leave_when_idle(settings: Settings) -> None:
    from broker.wiring import leave_when_idle as ask  # here, as in ``kept_token``

    ask(settings)


def answers(settings: Settings, path: str) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.listen_host, settings.listen_host)  # noqa: S104
    connection = http.client.HTTPConnection(host, settings.listen_port, timeout=5.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def kept_secret(file: Path) -> str | None:
    """Of the last run; None: there was none.  Raises ``NotConfigured`` for a file of another form."""
    found = read_private(file)
    if found is None:
        return None
    secret = found.get("token")
    if not isinstance(secret, str):
        raise NotConfigured(
            f'{file} must hold {{"token": "wb_..."}}; without the file `broker dev` makes a new token'
        )
    return secret


def good_token(settings: Settings, secret: str | None) -> str:
    """``secret`` while it is good, else a new one for the user who runs this, which is kept."""
    from broker.wiring import build  # here, so that a settings fault is shown without importing everything

    tokens: Tokens = build(settings, publish=lambda hint: None).tokens  # nothing is hinted, so no Celery
    with suppress(Unauthenticated):
        if secret is not None:
            tokens.check(secret)
            return secret
    secret, _ = tokens.create(NewToken(subject=this_user(), project=PROJECT, scopes=SCOPES))
    write_private(settings.data_dir / KEPT_FILE, {"token": secret})
    return secret


def this_user() -> str:
    """A user without a name (a container) or with an odd one is "me"."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        return "me"
    return name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) else "me"
