"""What only this machine can tell: is a job's surrounding here, and is the backend well?"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence

from adapters import secret_files
from adapters.base import Finding
from adapters.local import daemon, ledger
from adapters.local.options import Options
from adapters.local.paths import Home
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec
from api_spec.reasons import Reason


def of_this_machine(spec: JobSpec, options: Options) -> Iterator[Refusal]:
    """Before it is taken: secrets, volumes and inputs that are not there would only fail later."""
    try:
        secret_files.values(spec.secrets, options.secrets_dir)
    except secret_files.Missing as error:
        yield Refusal(Reason.REJECTED, str(error), "/secrets")
    for volume in spec.volumes:
        if not os.path.isdir(volume.source):
            yield Refusal(
                Reason.REJECTED, f"the volume {volume.source} is not a directory of this machine", "/volumes"
            )
    for given in spec.inputs:
        if given.uri is None:
            yield Refusal(Reason.INVALID_SPEC, f"the input {given.name} is not resolved", "/inputs")


def findings(home: Home, options: Options) -> Sequence[Finding]:
    return [_ledger(home), _agent(home), _secrets(options)]


def _ledger(home: Home) -> Finding:
    try:
        with ledger.opened(home.ledger) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        return Finding(subject="ledger", well=False, message=f"{home.ledger} cannot be used: {error}")
    well = version == ledger.VERSION
    python = ".".join(map(str, sys.version_info[:3]))
    return Finding(
        subject="ledger",
        well=well,
        message=f"{home.ledger} has version {version}, this program {ledger.VERSION}"
        f" (SQLite {sqlite3.sqlite_version}, Python {python})",
    )


def _agent(home: Home) -> Finding:
    pid = daemon.agent_pid(home.root)
    if pid is None:
        return Finding(subject="agent", well=True, message="does not run; it is started with the next job")
    return Finding(subject="agent", well=True, message=f"runs as process {pid}")


def _secrets(options: Options) -> Finding:
    try:
        mode = os.stat(options.secrets_dir).st_mode & 0o777
    except OSError:
        return Finding(
            subject="secrets", well=True, message=f"there are none: no directory {options.secrets_dir}"
        )
    if mode & 0o077:
        return Finding(
            subject="secrets", well=False, message=f"{options.secrets_dir} has mode {mode:o}; it needs 0700"
        )
    return Finding(subject="secrets", well=True, message=f"come from {options.secrets_dir}")
