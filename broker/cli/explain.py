"""``broker explain`` and ``broker render``: why a job is where it is, and what a backend would be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from broker.cli.jobs import notes
from broker.cli.naming import LIVE, ids_to_read
from broker.cli.output import output_option, show, state_word
from broker.cli.session import Session, pass_session
from broker.cli.words import WORD

if TYPE_CHECKING:
    from broker.cli.files import JobFile


@click.command()
@click.argument("job", metavar="JOB", type=WORD)
@click.option("--all", "all_decisions", is_flag=True, help="Every decision, oldest first.")
@output_option
@pass_session
def explain(session: Session, job: str, all_decisions: bool, output: str | None) -> None:
    """Every backend and why it won or lost, and why JOB (an ID, its beginning, or a name) still waits."""
    (job_id,) = ids_to_read(session, [job])
    client = session.client
    decisions = client.decisions(job_id) if all_decisions else [client.explain(job_id)]
    if output in ("json", "yaml"):
        show(decisions, output, lambda _: [], single=not all_decisions)
        return
    from broker.cli.decisions import decision_lines

    now = client.get(job_id)
    click.echo(headline(now))
    if (now.get("service") or {}).get("message"):
        click.echo("\n".join(notes(now)))
    for decision in decisions:
        attempt = f"attempt {decision['attempt']}: " if decision.get("attempt") else ""
        click.echo(attempt + "\n".join(decision_lines(decision)))
    waits = client.pending(job_id) if now["state"] in LIVE[:3] else []
    for refusal in waits:
        click.echo(f"waits: {refusal['code']}: {refusal['message']}")


def headline(job: dict[str, Any]) -> str:
    place = f" on {job['backend']}" if job.get("backend") else ""
    reason = f", {job['reason']}" if job.get("reason") else ""
    message = f": {job['message']}" if job.get("message") else ""
    return f"{job['id']} {job['spec']['name']} {state_word(job['state'])}{place}{reason}{message}"


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--backend", metavar="NAME", help="In the words of this backend; else of the one it would get.")
@click.option("--ignore", multiple=True, metavar="OPTION", help="As for submit.")
@pass_session
def render(session: Session, file: str, backend: str | None, ignore: tuple[str, ...]) -> None:
    """Print the exact script or manifest of each job in FILE; nothing is sent to the backend."""
    from broker.cli.files import read_specs

    texts = [rendered(session, job, backend) for job in read_specs([file], ignore)]
    click.echo("\n---\n".join(text.rstrip("\n") for text in texts))


def rendered(session: Session, job: JobFile, backend: str | None) -> str:
    from broker.cli.submit import with_places
    from broker.client.errors import Refused

    try:
        return session.client.render(job.spec, backend or would_get(session, job))
    except Refused as error:
        raise with_places(error, [job]) from error


def would_get(session: Session, job: JobFile) -> str:
    """The backend that the policy would choose now; ends the command where there is none."""
    # What it waits for may be in another file, and does not decide where it goes.
    alone = {name: value for name, value in job.spec.items() if name not in ("depends_on", "inputs")}
    decision = session.client.preview(alone)
    if decision["chosen"] is None:
        from broker.cli.decisions import decision_lines
        from broker.cli.failures import REFUSED

        click.echo("\n".join(decision_lines(decision)), err=True)
        click.get_current_context().exit(REFUSED)
    click.echo(
        f"{job.spec['name']}: for {decision['chosen']}, which would be chosen now; --backend names another",
        err=True,
    )
    return str(decision["chosen"])
