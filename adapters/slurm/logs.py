"""The logs of an attempt, read through a file system that the nodes share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import PurePosixPath

from adapters import log_files
from adapters.base import AttemptRef, LogPage, LogQuery
from adapters.errors import BackendError, BadLogQuery
from adapters.slurm import folders, observations
from adapters.slurm.options import Options
from adapters.slurm.records import Job


def page(rows: Sequence[Job], ref: AttemptRef, query: LogQuery, options: Options) -> LogPage:
    """``rows``: what Slurm knows of the attempt, asked for before this call; none: it has forgotten it.

    Raises ``BackendError`` with the reason where the file cannot be reached.
    """
    if not options.logs:
        raise BackendError("the logs of this backend are not mounted where the broker runs (option logs)")
    if query.stream not in ("stdout", "stderr"):
        raise BackendError(f"there is no stream {query.stream}; there are stdout and stderr")
    index = _task(ref, query)
    mine = [row for row in rows if index is None or row.task == index]
    path = folders.here(_path(mine, ref, query.stream, index, options), options)
    root, steps = _below_a_root(path, options)
    if not os.path.isdir(os.path.dirname(path)) and any(row.started_at for row in mine):
        raise BackendError(f"the folder of the log, {os.path.dirname(path)}, is not to be seen from here")
    over = all(observations.is_over(row) for row in mine) and (bool(mine) or not rows)
    try:
        return log_files.page(root, steps, query, over)
    except OSError as error:
        raise BackendError(f"the log {path} cannot be read: {error.strerror or error}") from error


def _task(ref: AttemptRef, query: LogQuery) -> int | None:
    """Of an array; unasked the first task."""
    if query.node:
        raise BadLogQuery("all nodes of a job at Slurm write into one log; ask for it without a node", "node")
    if not ref.task_indices:
        return None
    if query.task_index is None:
        return ref.task_indices[0]
    if query.task_index not in ref.task_indices:
        raise BackendError(f"this attempt has no task {query.task_index}")
    return query.task_index


def _path(rows: Sequence[Job], ref: AttemptRef, stream: str, index: int | None, options: Options) -> str:
    """As the controller says, where it has expanded the pattern; else as it was submitted.

    While a job waits its user may name any file to the controller; the broker may read more than the user.
    """
    where = folders.paths(ref, options)
    if where is None:
        raise BackendError("nobody knows as whom this attempt ran, so its log is not to be found")
    path = (where.stdout if stream == "stdout" else where.stderr).replace("%a", str(index))
    told = [row.stdout if stream == "stdout" else row.stderr for row in rows]
    ours = (one for one in told if one and one.startswith("/") and _file(one) == _file(path))
    return next(ours, path)


def _file(path: str) -> str:
    return PurePosixPath(path).name


def _below_a_root(path: str, options: Options) -> tuple[str, tuple[str, ...]]:
    """A root is trusted; below it no link is followed, since users own what is there."""
    if ".." in PurePosixPath(path).parts:
        raise BackendError(f"the log {path} is not named by a plain path")
    for root in roots(options):
        if path.startswith(root.rstrip("/") + "/"):
            return root, PurePosixPath(path).relative_to(root).parts
    raise BackendError(f"the log {path} is outside of what may be read here ({', '.join(roots(options))})")


def roots(options: Options) -> Sequence[str]:
    """As this machine sees them: ``log_roots``, or the folder up to its first placeholder."""
    if options.log_roots:
        return options.log_roots
    fixed = options.directory.partition("{")[0]
    return (
        folders.here(fixed if fixed.endswith("/") else os.path.dirname(fixed) + "/", options).rstrip("/"),
    )
