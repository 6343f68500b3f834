"""The page about the command line says what the command line does."""

import re
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from broker.cli import failures
from broker.cli.main import COMMANDS, main

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "command-line.md").read_text()
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def rows(head):
    """The first two cells of each row of the table below ``head``."""
    table = PAGE.partition(head)[2].partition("\n\n")[0]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")[:2]) for line in table.splitlines()[2:]]


def test_the_page_lists_every_command_with_the_text_of_its_help():
    assert rows("| command | does |") == [(f"`{name}`", text) for name, (_, text) in COMMANDS.items()]


def test_the_page_has_every_exit_code():
    codes = {0, *(value for value in vars(failures).values() if type(value) is int)}

    assert {int(code) for code, _ in rows("| code | means |")} == codes


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_a_command_that_a_page_names_exists(page):
    named = set(re.findall(r"(?:`|\$ |\n    )broker ([a-z]+)", page.read_text()))

    assert named <= set(COMMANDS)


def test_the_help_of_all_says_the_exit_codes():
    said = {int(code) for code in re.findall(r"\d+", main.epilog)}

    assert said == {int(code) for code, _ in rows("| code | means |")}


def test_a_shell_completes_commands_and_options():
    shell = ShellComplete(main, {}, "broker", "_BROKER_COMPLETE")

    assert [found.value for found in shell.get_completions([], "su")] == ["submit"]
    assert [found.value for found in shell.get_completions(["get"], "--st")] == ["--state"]
