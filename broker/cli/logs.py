"""``broker logs`` and ``broker events``: what a job wrote, and what happened."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import click

from broker.cli.naming import ids_to_read
from broker.cli.output import output_option, yaml_lines
from broker.cli.session import Session, pass_session
from broker.cli.words import WORD

STREAMS = ("stdout", "stderr")


@click.command()
@click.argument("job", metavar="JOB", type=WORD)
@click.option("-f", "--follow", is_flag=True, help="Wait for the start, and go on to the end.")
@click.option("--stream", type=click.Choice(STREAMS), help="Only this one, on standard output.")
@click.option("--attempt", type=click.IntRange(1), help="Not the latest.")
@click.option("--task", type=click.IntRange(0), help="Of this task of an array.")
@click.option("--replica", type=click.IntRange(0), help="Of this replica of an inference job.")
@click.option("--node", type=click.IntRange(0), metavar="RANK", help="Of this node of a job on several.")
@click.option("--tail", "tail_bytes", type=click.IntRange(0), metavar="BYTES", help="Only the end.")
@pass_session
def logs(session: Session, /, job: str, stream: str | None, **where: Any) -> None:
    """Print what JOB (an ID, its beginning, or a name) wrote, byte for byte: its standard error on standard
    error."""
    (job_id,) = ids_to_read(session, [job])
    client = session.client
    if stream is None:
        pieces = client.output(job_id, told=note, **where)
    else:
        pieces = (("stdout", piece) for piece in client.logs(job_id, told=note, stream=stream, **where))
    nothing = True
    for written_to, piece in pieces:
        out = sys.stderr.buffer if written_to == "stderr" else sys.stdout.buffer
        out.write(piece)
        out.flush()
        nothing = False
    if nothing:
        click.echo("nothing there (yet); of an array look at one task with --task", err=True)


def note(said: str) -> None:
    click.echo(f"note: {said}", err=True)


@click.command()
@click.argument("job", required=False, type=WORD)
@click.option("-f", "--follow", is_flag=True, help="Only what happens from now on, until Ctrl-C.")
@click.option("--from-start", is_flag=True, help="With -f: all that is kept, and what happens next.")
@click.option("--after", metavar="EVENT", help="Only what came after the event with this id.")
@click.option("--operator", is_flag=True, help="What happens to the backends; needs backends:admin.")
@output_option
@pass_session
def events(session: Session, /, job: str | None, output: str | None, **where: Any) -> None:
    """Print the events of the project, or the history of JOB, oldest first; as JSON one a line."""
    if where.pop("from_start"):
        if where["after"]:
            raise click.UsageError("--from-start or --after, not both")
        where["after"] = "oldest"
    if job and any(where.values()):
        raise click.UsageError("the history of one job is short; leave out the other options")
    client = session.client
    of_one = ids_to_read(session, [job] if job else [])
    for event in client.job_events(of_one[0]) if of_one else client.events(**where):
        click.echo(event_text(event, output))


def event_text(event: Mapping[str, Any], output: str | None) -> str:
    if output == "json":
        return json.dumps(event, ensure_ascii=False)
    if output == "yaml":
        return "\n".join(["---", *yaml_lines(event)])
    if output == "name":
        return str(event["id"])
    data = " ".join(f"{name}={value}" for name, value in event["data"].items() if value is not None)
    identity = f"{event['id']}  " if output == "wide" else ""
    return f"{identity}{event['at']}  {event['job'] or '-'}  {event['type']}  {data}".rstrip()
