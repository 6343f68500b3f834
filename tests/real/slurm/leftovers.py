"""What a cluster leaves when it ends: processes, accounts and its directory."""

from __future__ import annotations

from pathlib import Path

from tests.real.daemons import end_processes_of, remove_directory
from tests.real.slurm import accounts


def remove(directory: Path | str, *users: str) -> None:
    """All of it; again: does nothing."""
    end_processes_of(Path(directory))
    accounts.remove(users)
    if Path(directory).exists():
        remove_directory(Path(directory))
