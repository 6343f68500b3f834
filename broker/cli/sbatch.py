"""An sbatch script as it is, read into a job specification.  Pure; it alone knows ``#SBATCH`` lines.

As sbatch does, directives are read up to the first command.  An option that has no place in a job is
refused by its name and line, never dropped; what is carried over is the table in ``sbatch_options``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePath

from api_spec.errors import Fault, InvalidSpec
from broker.cli.sbatch_options import HINTS, LONG_OF_SHORT, OPTIONS, CannotCarry, Draft, Spec, put_gpus


def looks_like_sbatch(text: str) -> bool:
    return text.startswith("#!")


def read_sbatch(
    text: str,
    source: str = "script.sbatch",
    *,
    environ: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
) -> Spec:
    """The specification of a ``batch`` job whose script is the whole text.

    ``ignore`` names options (without dashes) that the user lets go.  Raises ``InvalidSpec`` with one line
    for each directive that cannot be carried over.
    """
    if not looks_like_sbatch(text):
        raise InvalidSpec(f"{source}:1: a batch script begins with #! and its interpreter")
    draft = Draft({"kind": "batch", "name": PurePath(source).stem, "script": text}, environ or {})
    faults: list[tuple[int, str]] = []
    for line, name, value in directives(text, faults):
        if name in ignore:
            continue
        try:
            read_option(draft, name, value)
        except CannotCarry as error:
            faults.append((line, f"{'-' if len(name) == 1 else '--'}{name}: {error}"))
    if not faults:
        try:
            settle(draft)
        except CannotCarry as error:
            faults.append((1, str(error)))
    if faults:
        lines = [f"{source}:{line}: {message}" for line, message in sorted(faults)]
        raise InvalidSpec("\n".join(lines), faults=[Fault("/script", message) for message in lines])
    return draft.spec


def read_option(draft: Draft, name: str, value: str | None) -> None:
    option = OPTIONS.get(name)
    if option is None:
        raise CannotCarry(f"cannot be carried over ({HINTS.get(name, 'it has no counterpart in a job')})")
    if option.value and not value:
        raise CannotCarry("needs a value")
    if option.value is False and value:
        raise CannotCarry("takes no value")
    option.read(draft, value or "")


def directives(text: str, faults: list[tuple[int, str]]) -> Iterator[tuple[int, str, str | None]]:
    """Line, long name and value of each option before the first command."""
    for number_of_line, line in enumerate(text.split("\n"), start=1):  # no other line end is one to sbatch
        if line.strip() and not line.lstrip().startswith("#"):
            return
        if not re.match(r"#SBATCH([\s-]|$)", line):
            continue
        try:
            words = shlex.split(line.removeprefix("#SBATCH"), comments=True)
        except ValueError as error:
            faults.append((number_of_line, f"cannot be read: {error}"))
            continue
        yield from options_of(number_of_line, words, faults)


def options_of(
    line: int, words: list[str], faults: list[tuple[int, str]]
) -> Iterator[tuple[int, str, str | None]]:
    """``--name=value``, ``--name value``, ``-n value`` and ``-nvalue``, several on a line."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
        elif word.startswith("-") and len(word) > 1:
            name = LONG_OF_SHORT.get(word[1], word[1])
            value, equals = word[2:].removeprefix("="), word[2:]
        else:
            faults.append((line, f"{word!r} is not an option"))
            continue
        option = OPTIONS.get(name)
        takes_next = option.value is True if option else True
        if not equals and takes_next and rest and not rest[0].startswith("-"):
            value = rest.pop(0)
        yield line, name, value or None


MEMORY = {"--mem": "memory", "--mem-per-cpu": "memory_per_cpu", "--mem-per-gpu": "memory_per_gpu"}


def settle(draft: Draft) -> None:
    """Totals become figures for each node, as a job asks for them; exact, or refused."""
    totals = draft.totals
    if "tasks" in totals:
        share_tasks(draft, totals["tasks"])
    tasks = draft.resource("tasks_per_node")
    if "gpus" in totals:
        put_gpus(draft, shared(totals["gpus"], draft.resource("nodes"), "--gpus"))
    if "gpus_per_task" in totals:
        put_gpus(draft, totals["gpus_per_task"] * tasks)
    said = [option for option in MEMORY if MEMORY[option] in totals]
    if len(said) > 1:
        raise CannotCarry(f"{' and '.join(said)} exclude each other; say one of them")
    memory = totals.get("memory") or totals.get("memory_per_cpu", 0) * draft.resource("cpus_per_task") * tasks
    memory = memory or totals.get("memory_per_gpu", 0) * draft.resource("gpus_per_node", 0)
    if memory:
        whole = memory % 1024 == 0
        draft.put("resources.memory_per_node", f"{memory // 1024}GiB" if whole else f"{memory}MiB")


def share_tasks(draft: Draft, tasks: int) -> None:
    """A job always says its nodes; without ``--nodes`` it is one, or as many as the tasks a node need."""
    said = draft.spec.get("resources", {})
    if "tasks_per_node" not in said:
        draft.put("resources.tasks_per_node", shared(tasks, draft.resource("nodes"), "--ntasks"))
    elif "nodes" not in said:
        draft.put("resources.nodes", -(-tasks // draft.resource("tasks_per_node")))
    if draft.resource("nodes") * draft.resource("tasks_per_node") != tasks:
        raise CannotCarry(f"--ntasks={tasks} is not --nodes times --ntasks-per-node; leave one of them out")


def shared(amount: int, nodes: int, option: str) -> int:
    if amount % nodes:
        raise CannotCarry(f"{option}={amount} does not divide over {nodes} nodes; say it for each node")
    return amount // nodes
