"""The text in which a job is handed to the fake: one directive a line, an empty line, the command.

    #!/bin/fake
    #FAKE --name="wb-home-01j...-1"          the marker; not unique at the fake, as at Slurm
    #FAKE --environment={"FAKE_RUN_S": "5"}  values are JSON, so no value can add a line

    python train.py

How a job behaves is read from its environment:

    FAKE_START_S   waits so long before it starts      FAKE_EXIT    exit code, 0
    FAKE_RUN_S     runs so long; "forever"             FAKE_SIGNAL  ends by this signal
    FAKE_READY_S   a replica is ready after so long    FAKE_WORD    ends with this native word
    FAKE_TASKS     {"3": 1}: exit codes of tasks       FAKE_LOG     what its log says

Knows nothing of the broker: the server reads with it what ``render`` wrote.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HEAD = "#!/bin/fake"
PREFIX = "#FAKE --"


def write_script(directives: Mapping[str, Any], body: str) -> str:
    lines = [f"{PREFIX}{key}={json.dumps(value)}" for key, value in directives.items()]
    return "\n".join([HEAD, *lines, "", body, ""])


def read_script(text: str) -> dict[str, Any]:
    """The directives.  Raises ValueError for a text that ``write_script`` did not write."""
    lines = text.split("\n")
    if lines[0] != HEAD:
        raise ValueError("the script does not begin as a script of the fake does")
    directives: dict[str, Any] = {}
    for line in lines[1:]:
        if not line.startswith(PREFIX):
            break
        key, _, value = line.removeprefix(PREFIX).partition("=")
        directives[key] = json.loads(value)
    if not isinstance(directives.get("name"), str):
        raise ValueError("the script has no name")
    return directives


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a job is going to do.  Raises ValueError when it is read from words that are no numbers."""

    start_s: float = 0.0
    run_s: float = 0.0
    ready_s: float = 0.0
    exit_code: int = 0
    signal: int | None = None
    word: str | None = None
    task_exits: Mapping[int, int] = field(default_factory=dict)
    log: str | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str], start_s: float = 0.0, run_s: float = 0.0) -> Plan:
        get = environment.get
        return cls(
            start_s=seconds(get("FAKE_START_S"), start_s),
            run_s=seconds(get("FAKE_RUN_S"), run_s),
            ready_s=seconds(get("FAKE_READY_S"), 0.0),
            exit_code=int(get("FAKE_EXIT", "0")),
            signal=int(environment["FAKE_SIGNAL"]) if "FAKE_SIGNAL" in environment else None,
            word=get("FAKE_WORD"),
            task_exits={int(index): int(code) for index, code in json.loads(get("FAKE_TASKS", "{}")).items()},
            log=get("FAKE_LOG"),
        )

    @property
    def ending(self) -> tuple[str, int | None, int | None]:
        """Native word, exit code and signal with which it will end."""
        if self.signal is not None:
            return self.word or "KILLED", None, self.signal
        return self.word or word_of(self.exit_code), self.exit_code, None


def seconds(text: str | None, default: float) -> float:
    if text is None:
        return default
    return math.inf if text == "forever" else float(text)


def word_of(exit_code: int) -> str:
    return "DONE" if exit_code == 0 else "BROKE"
