"""The accounting database: an own mariadbd, and what sacctmgr is told when the cluster is new.

accounts  vision, speech
QOS       normal; high, which preempts low; low; capped: one job and two GPUs a user, refused beyond
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable

from tests.real.daemons import as_user
from tests.real.slurm import conf
from tests.real.slurm.conf import Layout
from tests.real.slurm.installs import Install
from tests.real.slurm.parts import hand_over

ACCOUNTS = ("vision", "speech")
QOS = ("normal", "high", "low", "capped")

# A database for a minute: small, and without waiting for the disk; the defaults take three times as long.
SMALL = [
    "--innodb-log-file-size=8M",
    "--innodb-buffer-pool-size=64M",
    "--debug-no-sync",
    "--innodb-flush-method=nosync",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-lock-wait-timeout=900",
    "--skip-log-bin",
    "--skip-name-resolve",
]


def prepare(at: Layout, install: Install) -> None:
    """An empty database, a password of its own, and slurmdbd's configuration."""
    password = secrets.token_hex(16)
    for path, text in (
        (at.database / "first.sql", first_statements(password)),
        (at.slurm_conf.with_name("slurmdbd.conf"), conf.slurmdbd_conf(at, password)),
    ):
        path.touch(0o600)
        path.write_text(text)
        hand_over(at.controller_user, path)
    temporary = at.database / "tmp"
    temporary.mkdir()
    hand_over(at.controller_user, temporary)
    options = ["--auth-root-authentication-method=socket", "--skip-test-db", *_files(at), *SMALL]
    command = [install.program("mariadb-install-db"), "--no-defaults", *options]
    done = subprocess.run(command, capture_output=True, cwd="/", text=True, **as_user(at.controller_user))
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def _files(at: Layout) -> list[str]:
    """A mariadbd that starts removes what temporary tables it finds, as if left by itself."""
    return [f"--datadir={at.database}/data", f"--tmpdir={at.database}/tmp"]


def first_statements(password: str) -> str:
    """Each on one line, as mariadbd wants them."""
    return (
        "CREATE DATABASE IF NOT EXISTS slurm;\n"
        f"CREATE USER IF NOT EXISTS slurm@127.0.0.1 IDENTIFIED BY '{password}';\n"
        "GRANT ALL ON slurm.* TO slurm@127.0.0.1;\n"
    )


def mariadbd(at: Layout, install: Install) -> list[str]:
    return [
        install.program("mariadbd"),
        "--no-defaults",
        *SMALL,
        *_files(at),
        f"--socket={at.database}/socket",
        f"--pid-file={at.database}/pid",
        f"--init-file={at.database}/first.sql",
        "--bind-address=127.0.0.1",
        f"--port={at.ports.mariadbd}",
    ]


def seed(run: Callable[..., str], users: tuple[str, ...]) -> None:
    """After slurmctld has registered: before it the database knows no GPUs to limit.

    Few commands, because each takes half a second: 22.05 and Nagle's algorithm wait for each other.
    """

    def sacctmgr(*words: str) -> None:
        run("sacctmgr", "--immediate", "--quiet", *words)

    sacctmgr("add", "qos", "low", "set", "priority=1", "preemptmode=requeue")
    sacctmgr("add", "qos", "high", "set", "priority=1000", "preempt=low")
    limits = ("MaxJobsPerUser=1", "MaxTRESPerUser=gres/gpu=2", "Flags=DenyOnLimit")
    sacctmgr("add", "qos", "capped", "set", *limits)
    sacctmgr("add", "account", ",".join(ACCOUNTS), "description=lab", "organization=lab")
    first, *others = users
    allowed = (f"qos={','.join(QOS)}", "defaultqos=normal")
    for account, other in zip(ACCOUNTS, others or [first, first], strict=True):
        theirs = dict.fromkeys((first, other))  # the account that is first told is a user's default
        sacctmgr("add", "user", ",".join(theirs), f"account={account}", *allowed)
