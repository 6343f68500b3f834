"""``broker backends``: where jobs can run, and whether they may."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from broker.cli.output import age, columns, output_option, show
from broker.cli.session import Session, pass_session
from broker.cli.words import WORD

Json = Mapping[str, Any]
HEAD = ("NAME", "TYPE", "ANSWERS", "TAKES", "LIVE", "SEEN", "MESSAGE")


@click.group(invoke_without_command=True)
@output_option
@click.pass_context
def backends(ctx: click.Context, output: str | None) -> None:
    """Show all backends, or act on one."""
    if ctx.invoked_subcommand is None:
        found = ctx.ensure_object(Session).client.backends()
        show(found, output, lambda wide: backend_lines(found, wide))


@backends.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", type=WORD)
@pass_session
def check(session: Session, names: tuple[str, ...]) -> None:
    """Exit code 1 unless all backends answer.

    Those that are named are asked by the server, and what it finds is told; then all of it has to be well.
    """
    from broker.cli.failures import FAILED_JOBS

    client = session.client
    found = [client.backend(name) for name in names] if names else client.backends()
    for line in backend_lines(found, wide=False):
        click.echo(line)
    well = all(backend["reachable"] for backend in found if backend["configured"])
    for name in names:
        told = client.check(name)
        click.echo()
        for line in finding_lines(name, told):
            click.echo(line)
        well = well and all(one["well"] for one in told)
    if not well:
        click.get_current_context().exit(FAILED_JOBS)


def finding_lines(name: str, told: Sequence[Json]) -> Iterable[str]:
    marks = {True: click.style("ok", fg="green"), False: click.style("NOT WELL", fg="red")}
    return columns((name, "", ""), [(one["subject"], marks[one["well"]], one["message"]) for one in told])


@backends.command()
@click.argument("name", type=WORD)
@pass_session
def drain(session: Session, name: str) -> None:
    """No new placements; what is there goes on."""
    say(session.client.drain(name))


@backends.command()
@click.argument("name", type=WORD)
@pass_session
def pause(session: Session, name: str) -> None:
    """No submissions; cancelling works."""
    say(session.client.pause(name))


@backends.command()
@click.argument("name", type=WORD)
@pass_session
def resume(session: Session, name: str) -> None:
    """Undo drain and pause."""
    say(session.client.resume(name))


def say(backend: Json) -> None:
    click.echo(f"{backend['name']}: {takes(backend)}")


def backend_lines(found: Sequence[Json], wide: bool) -> Iterable[str]:
    head = (*HEAD, "CAN", "AT MOST") if wide else HEAD
    return columns(head, [backend_row(backend, wide) for backend in found])


def backend_row(backend: Json, wide: bool) -> tuple[str, ...]:
    answers = {True: click.style("yes", fg="green"), False: click.style("no", fg="red"), None: "-"}
    row = (
        backend["name"],
        backend["type"],
        answers[backend["reachable"]],
        takes(backend),
        str(backend["live_jobs"]),
        age(backend["seen_at"]),
        backend["message"] or "-",
    )
    return (*row, ",".join(backend["capabilities"]), at_most(backend.get("caps"))) if wide else row


def at_most(caps: Json | None) -> str:
    """Of a backend that left the configuration, or from a server that does not tell: a dash."""
    if caps is None:
        return "-"
    return f"{caps['max_live_jobs']} live, {caps['max_submits_per_s']:g}/s, {caps['max_drains']} drains"


def takes(backend: Json) -> str:
    if not backend["configured"]:
        return "not configured any more"
    words = [word for word in ("drained", "paused") if backend[word]]
    return ", ".join(words) or "jobs"
