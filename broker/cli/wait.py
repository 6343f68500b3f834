"""``broker wait``: a set of jobs, with their progress; the exit code is their failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from broker.cli.jobs import filter_options, select
from broker.cli.naming import LIVE
from broker.cli.output import state_word
from broker.cli.session import Session, pass_session
from broker.cli.words import WORD

Json = Mapping[str, Any]
CONDITIONS = ("started", "succeeded", "failed", "ended", "ready")


@click.command()
@click.argument("words", nargs=-1, metavar="[JOB]...", type=WORD)
@filter_options
@click.option("--for", "until", type=click.Choice(CONDITIONS), default="ended", show_default=True)
@click.option("--max", "seconds", type=float, help="Give up after so many seconds, with exit code 5.")
@click.option("--timeout", "seconds", type=float, help="The same as --max.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@pass_session
def wait(session: Session, /, words: tuple[str, ...], until: str, **options: Any) -> None:
    """Wait for each JOB (an ID, its beginning, or a name), or all live ones that the filters leave now.

    Exit code 1 if one of them failed or was cancelled, or will never be what --for says; 3 if the filters
    leave none.
    """
    from api_spec.errors import NotFound

    chosen = list(select(session, words, options, LIVE))
    if not chosen:  # they may all have failed by now: success would be a guess
        raise NotFound("no live job is left by the filters; --state chooses among those that have ended")
    wait_for(session, chosen, until, options["seconds"], quiet=options["quiet"])


def wait_for(
    session: Session,
    ids: Sequence[str],
    until: str = "ended",
    timeout: float | None = None,
    *,
    quiet: bool = False,
) -> None:
    """Ends the command with exit code 1 when a job is not what was waited for."""
    from broker.cli.failures import FAILED_JOBS
    from broker.client.waiting import holds

    progress = None if quiet else Progress(len(set(ids)))
    jobs = session.client.wait(ids, timeout, progress, until)
    wanted = "succeeded" if until == "ended" else until
    if not all(holds(job, wanted) for job in jobs):
        click.get_current_context().exit(FAILED_JOBS)


class Progress:
    """One line for each change, on stderr, so that it is the same for people and in a log."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.states: dict[str, str] = {}

    def __call__(self, job: Json) -> None:
        self.states[job["id"]] = job["state"]
        line = f"{job['id']} {job['spec']['name']} {state_word(job['state'])}"
        if job.get("reason") and job["reason"] != "Completed":
            line += f" {job['reason']}" + (f": {job['message']}" if job.get("message") else "")
        ended = sum(state in ("COMPLETED", "FAILED", "CANCELLED") for state in self.states.values())
        click.echo(f"[{ended}/{self.count}] {line}" if self.count > 1 else line, err=True)
