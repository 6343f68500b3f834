"""Where the files of an attempt are, on the nodes and as this machine sees them."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from contextlib import suppress
from pathlib import PurePosixPath

from adapters.base import AttemptRef
from adapters.slurm import identity
from adapters.slurm.options import Options
from adapters.slurm.paths import Paths, directory
from api_spec.jobs import JobSpec


def paths(ref: AttemptRef, options: Options) -> Paths | None:
    """None: nobody knows as whom it ran."""
    told = (ref.handle or {}).get("user")
    user = told if isinstance(told, str) else identity.slurm_user(ref.owner, options.users)
    if user is None:
        return None
    where = directory(options.directory, user, ref.project)
    return Paths(directory=where, marker=ref.marker, array=bool(ref.task_indices))


def outputs(spec: JobSpec, ref: AttemptRef, options: Options) -> Mapping[str, str]:
    """The URI of each output.  A relative path is below the output directory; of an array below the one
    that holds a directory for each task."""
    where = paths(ref, options)
    if where is None:
        return {}
    return {one.name: PurePosixPath(where.outputs, one.path).as_uri() for one in spec.outputs}


def of_secrets(project: str, options: Options) -> str:
    """Each project has its own: nobody else's jobs may name them."""
    return os.path.join(options.secrets_directory or "", project)


# ---- as this machine sees them -----------------------------------------------------------------------


def here(path: str, options: Options) -> str:
    """The longest of ``log_paths`` that the path is below says where that is mounted on this machine."""
    for there in sorted(options.log_paths, key=len, reverse=True):
        prefix = there.rstrip("/")
        if path == prefix or path.startswith(prefix + "/"):
            return options.log_paths[there].rstrip("/") + path[len(prefix) :]
    return path


def make(stdout: str, user: str, options: Options) -> None:
    """Slurm makes no folder for a log.  We do where the job runs as ourselves; as anybody else, and above
    all as root, we would follow links that the user has laid.  Elsewhere it is the administrator's."""
    if not options.logs or pwd.getpwuid(os.geteuid()).pw_name != user:
        return
    with suppress(OSError):  # Slurm then says that it cannot open the file
        os.makedirs(os.path.dirname(here(stdout, options)), mode=0o700, exist_ok=True)


def forget(ref: AttemptRef, options: Options) -> None:
    """What the broker alone needed: claims and scripts, if this machine sees them.  Logs and outputs are the
    user's."""
    where = paths(ref, options)
    if not options.logs or where is None:
        return
    names = [f".{ref.marker}.claim", f".{ref.marker}.script", f".{ref.marker}.step"]
    names += [f".{ref.marker}_{index}.claim" for index in ref.task_indices]
    for name in names:
        with suppress(OSError):  # not there, not mounted here, not ours to remove
            os.unlink(os.path.join(here(where.directory, options), name))
