"""How things are printed: tables as wide as they must be, JSON, YAML, names; colours only on a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

Json = Mapping[str, Any]
FORMATS = ("json", "yaml", "wide", "name")
COLOURS = {"COMPLETED": "green", "RUNNING": "cyan", "FAILED": "red", "CANCELLED": "yellow"}
# What YAML 1.2 reads as a text without quotes; more is quoted than has to be.
PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./%+-]*( [A-Za-z0-9_./%+()-]+)*")
WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})

output_option = click.option(
    "-o", "--output", type=click.Choice(FORMATS), help="Instead of a table: json, yaml, wide or name."
)


def show(
    items: Sequence[Json], output: str | None, table: Callable[[bool], Iterable[str]], *, single: bool = False
) -> None:
    """``single``: one thing was asked for by its name, so it is printed without a list around it."""
    document: Any = items[0] if single else list(items)
    if output == "json":
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif output == "yaml":
        click.echo("\n".join(yaml_lines(document)))
    elif output == "name":
        for item in items:
            click.echo(item.get("id") or item["name"])
    else:
        for line in table(output == "wide"):
            click.echo(line)


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Nothing at all for no rows.  A styled cell is as wide as what is seen of it."""
    if not rows:
        return
    cells = [head, *rows]
    widths = [max(len(click.unstyle(row[at])) for row in cells) for at in range(len(head))]
    for row in cells:
        padded = (
            cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(row, widths, strict=True)
        )
        yield "  ".join(padded).rstrip()


def state_word(state: str) -> str:
    return click.style(state, fg=COLOURS[state]) if state in COLOURS else state


def age(moment: str | None) -> str:
    """How long ago, in the largest unit that says enough: 45s, 12m, 5h, 3d."""
    if not moment:
        return "-"
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()))
    for unit, size, least in (("d", 86400, 2), ("h", 3600, 2), ("m", 60, 2)):
        if seconds >= size * least:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def yaml_lines(value: Any, indent: str = "") -> list[str]:
    """Block style; texts that YAML could take for something else are quoted as in JSON."""
    if isinstance(value, Mapping) and value:
        lines = []
        for key, inner in value.items():
            lines += under(f"{indent}{scalar(key)}:", inner, indent)
        return lines
    if isinstance(value, list | tuple) and value:
        return [line for inner in value for line in listed(inner, indent)]
    return [indent + scalar(value)]


def under(start: str, inner: Any, indent: str) -> list[str]:
    if isinstance(inner, Mapping | list | tuple) and inner:
        return [start, *yaml_lines(inner, indent + "  ")]
    return [f"{start} {scalar(inner)}"]


def listed(inner: Any, indent: str) -> list[str]:
    first, *rest = yaml_lines(inner, indent + "  ")
    return [f"{indent}- {first[len(indent) + 2 :]}", *rest]


def scalar(value: Any) -> str:
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
