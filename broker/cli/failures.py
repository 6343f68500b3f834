"""Errors as people read them, and the exit code of each."""

from __future__ import annotations

import click

from api_spec.errors import BrokerError, Conflict, Forbidden, NotFound, StoreUnavailable
from broker.client.errors import ClientError, NotReachable, Refused, WaitTimeout

FAILED_JOBS, USAGE, REFUSED, NOT_REACHABLE, TOO_LATE = 1, 2, 3, 4, 5
INTERRUPTED = 130  # 128 and the number of SIGINT, as a shell says it
REFUSALS = (Forbidden, NotFound, Conflict)  # of the commands that need no API
HINTS = {
    "unauthenticated": "set BROKER_TOKEN, or BROKER_DATA_DIR to the directory of a running `broker dev`",
    "forbidden": "an operator can make a token that may: broker token create --help",
}


def report(error: Exception) -> int | None:
    """Say it on stderr and give the exit code; None: not an error that we know."""
    if isinstance(error, Refused):
        say(str(error))
        for line in details(error):
            click.echo(f"  {line}", err=True)
        return REFUSED
    if isinstance(error, REFUSALS):
        say(str(error))
        return REFUSED
    if isinstance(error, NotReachable | StoreUnavailable):
        say(str(error))
        return NOT_REACHABLE
    if isinstance(error, WaitTimeout):
        say(str(error))
        return TOO_LATE
    if isinstance(error, ClientError | BrokerError):
        say(str(error))
        return USAGE
    return None


def say(message: str) -> None:
    click.echo(f"{click.style('Error:', fg='red')} {message}", err=True)


def details(error: Refused) -> list[str]:
    lines = [f"{fault.get('pointer', '')}: {fault.get('message', '')}" for fault in error.faults]
    if len(lines) == 1 and lines[0] in str(error):
        lines = []
    if error.decision:
        from broker.cli.decisions import decision_lines

        places = dict.fromkeys(fault.get("pointer", "") for fault in error.faults)  # the table has the rest
        lines = [*decision_lines(error.decision), *(f"see {place}" for place in places)]
    if error.code in HINTS:
        lines.append(HINTS[error.code])
    if str(error).startswith("there is no job"):
        lines.append("broker list shows the jobs of this project")
    return lines
