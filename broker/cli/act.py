"""The commands that change jobs: one, or all that are chosen, after saying how many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import click

from broker.cli.jobs import filter_options, select
from broker.cli.naming import ALL, LIVE, ids_to_act_on
from broker.cli.session import Session, pass_session
from broker.cli.words import WORD

Json = Mapping[str, Any]

ENDED = ("COMPLETED", "FAILED", "CANCELLED")
yes_option = click.option(
    "-y", "--yes", is_flag=True, help="Do not ask before acting on jobs that are chosen."
)


def on_many(
    session: Session,
    words: Sequence[str],
    options: Mapping[str, Any],
    states: Sequence[str],
    act: Callable[[str], Json],
) -> None:
    """Go on after a refusal; the exit code tells that there was one.  Nothing is done before all names are
    known to mean one job each."""
    from broker.cli.failures import REFUSED, report
    from broker.client.errors import Refused

    context = click.get_current_context()
    meant = ALL if states is ENDED else LIVE
    chosen = list(select(session, words, options, states, partial(ids_to_act_on, states=meant)))
    if not chosen:
        click.echo("no jobs match", err=True)
        return
    if not words and not options["yes"]:
        count = f"{len(chosen)} job" + ("s" if len(chosen) > 1 else "")
        click.confirm(f"{context.info_name} {count}?", abort=True, err=True)
    refused = False
    for job_id in chosen:
        try:
            job = act(job_id)
        except Refused as error:
            refused = True
            report(error)
        else:
            click.echo(said(job_id, job))
    if refused:
        context.exit(REFUSED)


def said(job_id: str, job: Json) -> str:
    if "decision" in job:  # a new job in place of the old one
        return f"{job['job']['id']} {job['job']['state']} (from {job_id}): {job['decision']['summary']}"
    asked = ", cancel requested" if job.get("cancel_requested") and job["state"] in LIVE else ""
    held = ", held" if job.get("held") else ""
    return f"{job_id} {job['state']}{asked}{of_tasks(job.get('task_cancel') or {})}{held}"


def of_tasks(done: Json) -> str:
    requested = f", cancel of tasks {done['requested']} requested" if done.get("requested") else ""
    before = f", tasks {done['ended_before']} had ended before" if done.get("ended_before") else ""
    return requested + before


@click.command()
@click.argument("words", nargs=-1, metavar="[JOB]...", type=WORD)
@click.option("--tasks", metavar="LIST", help="Only these tasks of one array JOB: 3,5-9 or 0-98:2.")
@filter_options
@yes_option
@pass_session
def cancel(session: Session, /, words: tuple[str, ...], tasks: str | None, **options: Any) -> None:
    """Cancel each JOB (an ID, its beginning, or a name that one live job has), or all live ones that the
    filters leave."""
    if tasks is not None and len(words) != 1:
        raise click.UsageError("--tasks are of one JOB, which has to be named")
    on_many(session, words, options, LIVE, lambda job_id: session.client.cancel(job_id, tasks=tasks))


@click.command()
@click.argument("words", nargs=-1, metavar="[JOB]...", type=WORD)
@filter_options
@yes_option
@pass_session
def hold(session: Session, /, words: tuple[str, ...], **options: Any) -> None:
    """Keep jobs that have not started from being started."""
    on_many(session, words, options, LIVE[:3], lambda job_id: session.client.hold(job_id))


@click.command()
@click.argument("words", nargs=-1, metavar="[JOB]...", type=WORD)
@filter_options
@yes_option
@pass_session
def release(session: Session, /, words: tuple[str, ...], **options: Any) -> None:
    """Let held jobs go on."""
    on_many(session, words, options, LIVE[:3], lambda job_id: session.client.release(job_id))


@click.command()
@click.argument("words", nargs=-1, metavar="[JOB]...", type=WORD)
@filter_options
@yes_option
@pass_session
def resubmit(session: Session, /, words: tuple[str, ...], **options: Any) -> None:
    """Submit the specs of jobs again, as new jobs; with filters, those that have ended.

    A JOB is an ID, its beginning, or a name that one job has.
    """
    on_many(session, words, options, ENDED, lambda job_id: session.client.resubmit(job_id))


@click.command()
@click.argument("job", metavar="JOB", type=WORD)
@click.argument("replicas", type=click.IntRange(0))
@pass_session
def scale(session: Session, job: str, replicas: int) -> None:
    """Change how many replicas the inference job JOB (an ID, or the name of one live job) has."""
    (job_id,) = ids_to_act_on(session, [job])
    scaled = session.client.scale(job_id, replicas)
    click.echo(f"{job_id} {scaled['state']}, {scaled['replicas_wanted']} replicas wanted")


@click.command()
@click.argument("job", metavar="JOB", type=WORD)
@click.argument("file", type=click.Path(exists=True, dir_okay=False), required=False)
@click.option("--time-limit", metavar="TIME", help="With a unit, as in a spec: 8h.")
@click.option("--priority", type=click.Choice(["low", "normal", "high"]))
@pass_session
def update(session: Session, /, job: str, file: str | None, **options: str | None) -> None:
    """Change JOB, by the options or by what FILE (a part of a spec, YAML or JSON) holds.

    An inference job rolls it out as a new revision; of other jobs time limit and priority can change.
    JOB is an ID, or the name of one live job.
    """
    changes = (_changes_in(file) if file else {}) | {key: one for key, one in options.items() if one}
    if not changes:
        raise click.UsageError("say what to change: a FILE, --time-limit or --priority")
    (job_id,) = ids_to_act_on(session, [job])
    updated = session.client.update(job_id, changes)
    click.echo(f"{job_id} {updated['state']}, revision {updated['revision']}")


def _changes_in(file: str) -> dict[str, Any]:
    from broker.cli.files import read_text
    from broker.yaml_files import read_documents

    documents = read_documents(read_text(file), file)
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        raise click.UsageError(f"{file} must hold one mapping with the fields that change")
    return documents[0].data
