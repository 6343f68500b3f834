"""``broker submit``: files to jobs, with each decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from broker.cli.output import output_option, show
from broker.cli.session import Session, pass_session

if TYPE_CHECKING:
    from broker.cli.files import JobFile
    from broker.client.errors import Refused

Json = Mapping[str, Any]


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(allow_dash=True))
@click.option("--dry-run", is_flag=True, help="Show the decisions; store nothing.")
@click.option("--wait", "wait_for_end", is_flag=True, help="Wait until all have ended, as broker wait does.")
@click.option("--as", "owner", metavar="OWNER", help="Submit for this person (scope jobs:act-as).")
@click.option("--key", help="Idempotency-Key: the same key and files give the same jobs.")
@click.option(
    "--ignore",
    multiple=True,
    metavar="OPTION",
    help="An option of sbatch that may be left out, such as comment.",
)
@output_option
@pass_session
def submit(session: Session, /, files: tuple[str, ...], owner: str | None, **options: Any) -> None:
    """Submit every job in FILES ('-' is standard input), together: all are taken, or none.

    A file is YAML (several jobs with --- between them), JSON, or an sbatch script as it is.  A
    working_directory that begins with a dot counts from the directory of its file.
    """
    from broker.cli.files import read_specs

    session.owner = owner
    ignored = [name.lstrip("-") for several in options["ignore"] for name in several.split(",")]
    jobs = read_specs(files, ignored)
    if options["dry_run"]:
        preview(session, jobs, options["output"])
        return
    accepted = send(session, jobs, options["key"])
    show_accepted(accepted, options["output"])
    if options["wait_for_end"]:
        from broker.cli.wait import wait_for

        wait_for(session, [item["job"]["id"] for item in accepted])


def send(session: Session, jobs: Sequence[JobFile], key: str | None) -> list[dict[str, Any]]:
    from broker.client.errors import Refused

    try:
        return session.client.submit([job.spec for job in jobs], key=key)
    except Refused as error:
        raise with_places(error, jobs) from error


def with_places(error: Refused, jobs: Sequence[JobFile]) -> Refused:
    """The same refusal; what it points at is a line of a file instead of a part of the request.

    Where a decision says what is wrong, backend by backend, only the places are added to it.
    """
    faults = [{**fault, "pointer": place(fault.get("pointer", ""), jobs)} for fault in error.faults]
    changes: dict[str, Any] = {"errors": faults}
    if error.decision:
        return type(error)(error.status, {**error.problem, **changes})
    if len(faults) == 1:
        changes["detail"] = f"{faults[0]['pointer']}: {faults[0]['message']}"
    elif faults:
        changes["detail"] = f"{len(faults)} faults in what was sent, and nothing was done"
    return type(error)(error.status, {**error.problem, **changes})


def place(pointer: str, jobs: Sequence[JobFile]) -> str:
    job, inner = jobs[0], pointer
    if pointer.startswith("/jobs/"):
        index, _, rest = pointer.removeprefix("/jobs/").partition("/")
        if not (index.isdecimal() and int(index) < len(jobs)):
            return pointer
        job, inner = jobs[int(index)], f"/{rest}"
    return f"{job.place(inner)} ({inner})" if inner.strip("/") else job.place("")


def show_accepted(accepted: Sequence[Json], output: str | None) -> None:
    if output == "json" or output == "yaml":
        show(accepted, output, lambda _: [], single=len(accepted) == 1)
        return
    if output == "name":
        show([item["job"] for item in accepted], output, lambda _: [])
        return
    from broker.cli.decisions import decision_lines

    for item in accepted:
        click.echo(f"job {item['job']['id']} {click.style(item['job']['spec']['name'], bold=True)}")
        lines = decision_lines(item["decision"])
        for line in lines if output == "wide" else lines[:1]:
            click.echo(f"  {line}")


def preview(session: Session, jobs: Sequence[JobFile], output: str | None) -> None:
    from broker.client.errors import Refused

    if output == "name":
        raise click.UsageError("a dry run has decisions, which have no name; take -o json, yaml or wide")
    try:
        decisions = session.client.preview_all([job.spec for job in jobs])
    except Refused as error:
        raise with_places(error, jobs) from error

    from broker.cli.decisions import decision_lines

    def table(_: bool) -> list[str]:
        named = zip(jobs, decisions, strict=True)
        return [
            line for job, decision in named for line in [f"{job.spec['name']}:", *decision_lines(decision)]
        ]

    show(decisions, output, table, single=len(decisions) == 1)
    if any(decision["outcome"] == "nothing_fits" for decision in decisions):
        from broker.cli.failures import REFUSED

        click.get_current_context().exit(REFUSED)
