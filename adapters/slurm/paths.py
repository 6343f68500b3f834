"""Where an attempt's files lie, below the operator's ``directory``.  Pure.

{marker}.out  .err            logs; of a task {marker}_3.out
{marker}/                     BROKER_OUTPUT_DIR; of a task {marker}/3
.{marker}.claim               who may run: a link whose text is a Slurm job's id; of a task .{marker}_3.claim
.{marker}.script  .step       the user's script, and what each process of a step runs
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

TASK = '"$SLURM_ARRAY_TASK_ID"'


def directory(pattern: str, user: str, project: str) -> str:
    return pattern.replace("{user}", user).replace("{project}", project)


@dataclass(frozen=True, kw_only=True)
class Paths:
    directory: str
    marker: str
    array: bool = False

    @property
    def stdout(self) -> str:
        """With ``%a``, which Slurm replaces, for an array."""
        return f"{self.directory}/{self.marker}{'_%a' if self.array else ''}.out"

    @property
    def stderr(self) -> str:
        return f"{self.directory}/{self.marker}{'_%a' if self.array else ''}.err"

    @property
    def outputs(self) -> str:
        """Of all tasks."""
        return f"{self.directory}/{self.marker}"

    @property
    def script(self) -> str:
        return f"{self.directory}/.{self.marker}.script"

    @property
    def step(self) -> str:
        return f"{self.directory}/.{self.marker}.step"

    @property
    def output_in_shell(self) -> str:
        """Quoted, of the task that the shell is in."""
        return shlex.quote(self.outputs) + (f"/{TASK}" if self.array else "")

    @property
    def claim_in_shell(self) -> str:
        if not self.array:
            return shlex.quote(f"{self.directory}/.{self.marker}.claim")
        return f"{shlex.quote(f'{self.directory}/.{self.marker}_')}{TASK}.claim"
