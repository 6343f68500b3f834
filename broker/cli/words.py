"""What stands for a job or a backend on the command line."""

from __future__ import annotations

from typing import Any

import click


class Word(click.types.StringParamType):
    """Not empty.  To the API no name is every name, and in a shell it is a variable that is not set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "":
            self.fail("is empty: is a variable not set?", param, ctx)
        return super().convert(value, param, ctx)


WORD = Word()
