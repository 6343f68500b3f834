"""``broker get`` and the choice of jobs that other commands share: by id, label, state, kind ..."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from time import sleep
from typing import Any, TypeVar

import click

from broker.cli.naming import ids_to_read
from broker.cli.output import age, columns, output_option, show, state_word
from broker.cli.session import Session, pass_session
from broker.cli.words import WORD

Json = Mapping[str, Any]
F = TypeVar("F", bound=Callable[..., Any])

STATES = ("ACCEPTED", "SUBMITTING", "QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")
KINDS = ("training", "batch", "inference")
HEAD = ("ID", "NAME", "KIND", "STATE", "REASON", "BACKEND", "AGE")
HEAD_WIDE = (*HEAD, "OWNER", "PROJECT", "LABELS", "MESSAGE")
WATCH_S = 2.0

FILTERS = [
    click.option(
        "-l",
        "--label",
        multiple=True,
        type=WORD,
        metavar="NAME=VALUE",
        help="All that are given must hold.",
    ),
    click.option(
        "--state", multiple=True, type=click.Choice(STATES, case_sensitive=False), help="Any of these."
    ),
    click.option("--kind", type=click.Choice(KINDS)),
    click.option("--backend", type=WORD, metavar="NAME"),
    click.option("--owner", type=WORD, metavar="PERSON"),
    click.option("--name", type=WORD, metavar="NAME", help="The exact name of the job."),
]


def filter_options(command: F) -> F:
    for option in reversed(FILTERS):
        command = option(command)
    return command


def chosen(options: Mapping[str, Any]) -> dict[str, Any]:
    """The filters that are set, as the API calls them."""
    names = ("label", "state", "kind", "backend", "owner", "name")
    return {name: options[name] for name in names if options.get(name)}


@click.command()
@click.argument("words", nargs=-1, metavar="[JOB]...", type=WORD)
@filter_options
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="At most so many.")
@click.option("-w", "--watch", is_flag=True, help="Go on, and print what changes.")
@output_option
@pass_session
def get(session: Session, /, words: tuple[str, ...], limit: int, watch: bool, **options: Any) -> None:
    """Show each JOB (an ID, its beginning, or a name), or all that the filters leave, newest first."""
    filters = chosen(options)
    if words and filters:
        raise click.UsageError("name the jobs or filter them, not both")
    ids = ids_to_read(session, words)

    def read() -> list[Json]:
        if ids:
            return [session.client.get(job_id) for job_id in ids]
        return list(islice(session.client.list(**filters), limit))

    def table(wide: bool) -> Iterable[str]:
        yield from job_lines(jobs, wide)
        if ids and not wide:
            yield from (line for job in jobs for line in notes(job))

    jobs = read()
    show(jobs, options["output"], table, single=len(ids) == 1)
    if not jobs and options["output"] in (None, "wide"):
        click.echo("no jobs" + (" match" if filters else " yet: broker submit FILE"), err=True)
    if watch:
        follow(read, jobs, options["output"])


def follow(read: Callable[[], list[Json]], jobs: Iterable[Json], output: str | None) -> None:
    """As kubectl does: a line for every change, for ever."""
    seen = {job["id"]: facts(job) for job in jobs}
    while True:
        sleep(WATCH_S)
        changed = [job for job in reversed(read()) if seen.get(job["id"]) != facts(job)]
        seen |= {job["id"]: facts(job) for job in changed}
        if changed:
            show(changed, output, lambda wide, now=changed: list(job_lines(now, wide))[1:])  # type: ignore[misc]


def facts(job: Json) -> tuple[Any, ...]:
    return job["state"], job["reason"], job["backend"], replicas(job)


def job_lines(jobs: Sequence[Json], wide: bool) -> Iterable[str]:
    return columns(HEAD_WIDE if wide else HEAD, [job_row(job, wide) for job in jobs])


def job_row(job: Json, wide: bool) -> tuple[str, ...]:
    """Of a summary or of a whole job, whose spec holds what a summary has itself."""
    spec = job.get("spec", job)
    row = (
        job["id"],
        spec["name"],
        spec["kind"],
        state_word(job["state"]) + replicas(job),
        job["reason"] or "-",
        job["backend"] or "-",
        age(job["created_at"]),
    )
    if not wide:
        return row
    labels = ",".join(f"{name}={value}" for name, value in spec.get("labels", {}).items())
    return (*row, job["owner"], job["project"], labels or "-", message(job) or "-")


def notes(job: Json) -> Iterator[str]:
    """What does not fit into the row of a job that was asked for by its name."""
    if said := message(job):
        service = job.get("service") or {}
        ready = (
            f"{service['ready']} of {service['wanted']} replicas ready: " if service.get("message") else ""
        )
        yield f"{job.get('spec', job)['name']}: {ready}{said}"


def message(job: Json) -> str | None:
    """A service that runs with fewer replicas than wanted says it of the service, not of the job."""
    said: str | None = (job.get("service") or {}).get("message") or job.get("message")
    return said


def replicas(job: Json) -> str:
    service = job.get("service")
    return f" {service['ready']}/{service['wanted']}" if service else ""


def select(
    session: Session,
    words: Sequence[str],
    options: Mapping[str, Any],
    default_states: Sequence[str],
    to_ids: Callable[[Session, Sequence[str]], list[str]] = ids_to_read,
) -> Iterator[str]:
    """The jobs meant by ``words``, or all that the filters leave (in ``default_states`` unless said)."""
    filters = chosen(options)
    if bool(words) == bool(filters):
        raise click.UsageError(
            "name the jobs by ID or name, or choose them with -l, --state, --kind ...; not both"
        )
    if words:
        yield from to_ids(session, words)
    else:
        filters.setdefault("state", default_states)
        yield from (job["id"] for job in session.client.list(**filters))
