"""``broker usage``: what each attempt of a job was given and has used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from broker.cli.naming import ids_to_read
from broker.cli.output import columns, output_option, show
from broker.cli.session import Session, pass_session
from broker.cli.words import WORD

Json = Mapping[str, Any]
HEAD = ("ATTEMPT", "BACKEND", "ELAPSED", "CPU-HOURS", "GPU-HOURS", "PEAK CPUS", "PEAK MEMORY", "ENERGY")
NOT_MEASURED = "-"


@click.command()
@click.argument("job", metavar="JOB", type=WORD)
@output_option
@pass_session
def usage(session: Session, /, job: str, output: str | None) -> None:
    """Show what each attempt of JOB (an ID, its beginning, or a name) was given and has used; "-" is what
    nobody has measured."""
    (job_id,) = ids_to_read(session, [job])
    found = session.client.usage(job_id)

    def table(_: bool) -> Iterable[str]:
        return columns(HEAD, [row(one) for one in found])

    named = [{**one, "name": str(one["attempt"])} for one in found] if output == "name" else found
    show(named, output, table)
    if not found and output in (None, "wide"):
        click.echo("it has not been sent anywhere yet", err=True)


def row(one: Json) -> tuple[str, ...]:
    return (
        str(one["attempt"]),
        one["backend"],
        shown(one["elapsed_s"], 1, " s", 0),
        shown(one["cpu_s"], 3600, "", 2),
        shown(one["gpu_s"], 3600, "", 2),
        shown(one["peak_cpus"], 1, "", 2),
        shown(one["peak_memory_mib"], 1, " MiB", 0),
        shown(one["energy_j"], 1000, " kJ", 1),
    )


def shown(value: float | None, divisor: float, unit: str, digits: int) -> str:
    return NOT_MEASURED if value is None else f"{value / divisor:.{digits}f}{unit}"
