"""Which job is meant: a whole id, the beginning of one, or a name.

Names may be given again and again, so a name alone means less than an id.  What only reads takes the one live
job of that name, or else the newest that has ended, and says so.  What changes something takes a name only if
it fits one job: several are an error that lists them, and then nothing is done to any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import click

from api_spec.ids import ALPHABET, is_id, time_of
from api_spec.times import to_rfc3339
from broker.cli.session import Session

Json = Mapping[str, Any]

LIVE = ("ACCEPTED", "SUBMITTING", "QUEUED", "RUNNING")
ALL = (*LIVE, "COMPLETED", "FAILED", "CANCELLED")
SHORTEST_BEGINNING = 6  # of an id: a quarter of an hour of one broker's jobs
LONGEST_LIST = 10
LAST_MOMENT = 253402300799.0  # of the years that RFC 3339 can write
A_BEGINNING = re.compile(rf"[0-7][{ALPHABET}]{{{SHORTEST_BEGINNING - 1},24}}")


def ids_to_read(session: Session, words: Iterable[str]) -> list[str]:
    """In the order of ``words``, each once.  Raises ``UsageError`` where several jobs are meant."""
    return list(dict.fromkeys(word if is_id(word) else to_read(session, word) for word in words))


def ids_to_act_on(session: Session, words: Iterable[str], states: Sequence[str] = LIVE) -> list[str]:
    """As ``ids_to_read``, but a name means the one job of that name which is in one of ``states``."""
    return list(dict.fromkeys(word if is_id(word) else to_act_on(session, word, states) for word in words))


def to_read(session: Session, word: str) -> str:
    if job := by_beginning(session, word):
        return str(job["id"])
    if job := the_only(word, named(session, word, LIVE)):
        return str(job["id"])
    ended = next(named(session, word, ALL), None)
    if ended is None:
        raise nothing(word, "job")
    click.echo(f"{word} is {ended['id']}, the newest of that name; it is {ended['state']}", err=True)
    return str(ended["id"])


def to_act_on(session: Session, word: str, states: Sequence[str]) -> str:
    job = by_beginning(session, word) or the_only(word, named(session, word, states))
    if job is None:
        raise nothing(word, "live job" if tuple(states) == LIVE else "job")
    return str(job["id"])


def named(session: Session, name: str, states: Sequence[str]) -> Iterator[Json]:
    return session.client.list(name=name, state=states)


def by_beginning(session: Session, word: str) -> Json | None:
    """Ids begin with their time, so that the beginning of one is a span of time.  Names have no capitals."""
    if not (A_BEGINNING.fullmatch(word) and word.isupper()):
        return None
    span = {"created_after": moment(word, "0", -1), "created_before": moment(word, "Z", +1)}
    return the_only(word, (job for job in session.client.list(**span) if job["id"].startswith(word)))


def moment(beginning: str, filler: str, slack_s: int) -> str:
    return to_rfc3339(min(LAST_MOMENT, max(0.0, time_of(beginning.ljust(26, filler)) + slack_s)))


def the_only(word: str, jobs: Iterator[Json]) -> Json | None:
    """Raises ``UsageError`` with the first of them where there are several."""
    found = list(islice(jobs, LONGEST_LIST + 1))
    if len(found) < 2:
        return found[0] if found else None
    shown = [f"  {job['id']}  {job['name']}  {job['state']}  {job['owner']}" for job in found[:LONGEST_LIST]]
    more = ["  ..."] if len(found) > LONGEST_LIST else []
    lines = "\n".join([f"{word!r} means several jobs; name one by its ID:", *shown, *more])
    raise click.UsageError(lines)


def nothing(word: str, what: str) -> Exception:
    """The broker's own refusal for a job that is not there, so that scripts meet one exit code."""
    from broker.client.errors import Refused

    return Refused(404, {"code": "not_found", "detail": f"there is no {what} with the ID or name {word!r}"})
