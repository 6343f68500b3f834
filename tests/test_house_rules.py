"""The rules of this house that a program can check; ``script/check`` runs the linters beside them.

A rule that bites is a reason to split something, not to raise the number.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from http import HTTPStatus
from pathlib import Path

import pytest

from api_spec.errors import Unauthenticated, all_errors
from api_spec.schemas import load_spec
from api_spec.states import ATTEMPT_MOVES, MOVES, AttemptState, JobState
from broker.cli.files import read_specs
from broker.settings import Settings
from broker.web.app import create_app
from broker.web.openapi import document
from tests import house
from tests.house import ROOT

pytestmark = pytest.mark.xdist_group("house")  # they read every file, which one process does once

LONGEST_FUNCTION, LONGEST_VIEW, LONGEST_TASK = 40, 15, 8
LONGEST_MODULE, LONGEST_CLASS = 350, 250
MOST_FOR_PYSLURM = 300  # lines of code
MOST_PARAMETERS = 6  # complexity: ruff's C901, in pyproject.toml

# Whoever runs the broker may ask these without a token.
OPEN_ROUTES = {
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/",
    "/docs",
    "/docs/",
    "/docs/errors",
    "/docs/<asset>",
}


# ---- sizes -------------------------------------------------------------------------------------------


def test_functions_are_short():
    too_much = [
        f"{source.at(function)}: {found} {what}, at most {limit}"
        for source in house.ours()
        for function in source.functions()
        for what, found, limit in (
            ("lines", house.length(function), LONGEST_FUNCTION),
            ("parameters", house.parameters(function), MOST_PARAMETERS),
        )
        if found > limit
    ]

    assert not too_much, "\n".join(too_much)


def test_views_and_tasks_are_only_doors():
    too_long = [
        f"{source.at(function)}: {house.length(function)} lines, at most {limit}"
        for names, marks, limit in (
            (["broker/web"], house.HTTP_VERBS, LONGEST_VIEW),
            (["broker"], {"task", "shared_task"}, LONGEST_TASK),
        )
        for source in house.sources(*names)
        for function in source.functions()
        if marks.intersection(house.decorators(function)) and house.length(function) > limit
    ]

    assert not too_long, "\n".join(too_long)


def test_modules_and_classes_fit_in_a_head():
    modules = {source.name: len(source.text.splitlines()) for source in house.ours()}
    classes = {source.at(node): house.length(node) for source in house.ours() for node in source.classes()}

    too_long = [f"{name}: {lines} lines" for name, lines in modules.items() if lines > LONGEST_MODULE]
    too_long += [f"{name}: {lines} lines" for name, lines in classes.items() if lines > LONGEST_CLASS]

    assert not too_long, "\n".join(too_long)


def test_what_no_test_exercises_for_real_stays_small():
    """pyslurm runs nowhere in CI.  What puts it into a process of its own knows nothing of it."""
    written_for_it = [source for source in house.ours() if source.path.stem.startswith("pyslurm_")]

    assert len(written_for_it) == 2
    assert sum(map(house.lines_of_code, written_for_it)) < MOST_FOR_PYSLURM


# ---- how it reads ------------------------------------------------------------------------------------


def test_every_module_says_what_it_is_for():
    silent = [source.name for source in house.ours() if source.text.strip() and not docstring(source)]

    assert not silent, "\n".join(silent)


def docstring(source):
    return house.ast.get_docstring(source.tree)


def test_no_two_files_of_tests_have_the_same_name():
    """Those of one name cannot be collected together, and only whoever runs everything finds out."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))

    assert [name for name, count in names.items() if count > 1] == []


def test_tests_wait_for_something_and_never_just_sleep():
    """A sleep is too short on a busy machine and too long on any other; ``wait_until`` is neither."""
    sleeps = [
        source.at(call)
        for source in house.sources("tests")
        if source.name != "tests/helpers.py"
        for call in house.calls(source, "sleep")
    ]

    assert not sleeps, "\n".join(sleeps)


def test_only_an_outermost_loop_catches_everything():
    """Each such place logs what it caught, with the sentence why it goes on."""
    silent = [
        source.at(handler)
        for source in house.ours()
        for handler in source.nodes
        if isinstance(handler, house.ast.ExceptHandler)
        and getattr(handler.type, "id", "BaseException" if handler.type is None else "") == "Exception"
        and not any(word in house.ast.unparse(handler) for word in ("log.exception", "raise"))
    ]

    assert not silent, "\n".join(silent)


def test_no_file_knows_the_machine_it_was_written_on():
    """Nor where packages come from: a site may have a registry of its own."""
    places = [f"{ROOT}/", f"{Path.home()}/", "pypi" + ".org", "python" + "hosted"]

    found = [f"{name}: {place}" for name, text in house.text_files() for place in places if place in text]

    assert not found, "\n".join(found)


# ---- tables ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moves, states", [(MOVES, JobState), (ATTEMPT_MOVES, AttemptState)], ids=["job", "attempt"]
)
def test_every_state_has_its_moves_and_can_end(moves, states):
    def can_reach(state):
        reached, pending = set(), [state]
        while pending:
            for after in moves[pending.pop()] - reached:
                reached.add(after)
                pending.append(after)
        return reached

    final = {state for state in states if not moves[state]}

    assert set(moves) == set(states)
    assert all(can_reach(state) & final for state in states if state not in final)


def test_every_error_code_is_unique_and_in_the_openapi_document():
    codes = [error.code for error in all_errors()]

    assert len(codes) == len(set(codes))
    text = str(document())
    assert [code for code in codes if code not in text] == []


def test_every_adapter_is_in_the_import_contracts():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    by_name = {contract["name"]: contract for contract in contracts}
    folders = {f"adapters.{path.parent.name}" for path in (ROOT / "adapters").glob("*/__init__.py")}

    assert set(by_name["Adapters do not know each other"]["modules"]) == folders
    assert set(by_name["Concrete adapters: the wiring alone names them"]["protected_modules"]) == folders


# ---- doors -------------------------------------------------------------------------------------------


class KnowsNobody:
    """A broker that refuses every token and is otherwise well."""

    tokens = property(lambda self: self)

    def check(self, bearer):
        raise Unauthenticated("nobody")

    def ready(self): ...

    def figures(self): ...

    def events(self, who, after, limit): ...


def test_every_route_needs_a_token_but_a_short_list():
    app = create_app(KnowsNobody(), Settings(redis_url="redis://127.0.0.1"), limits_url="memory://")
    client = app.test_client()

    def answers_without_a_token(rule):
        path = re.sub("<[^>]*>", "x", rule.rule)
        method = next(iter(rule.methods - {"HEAD", "OPTIONS"}))
        headers = {"Authorization": "Bearer wrong"}
        return client.open(path, method=method, headers=headers).status_code != HTTPStatus.UNAUTHORIZED

    open_routes = {rule.rule for rule in app.url_map.iter_rules() if answers_without_a_token(rule)}

    assert open_routes == OPEN_ROUTES


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").rglob("*.yaml")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_example_loads(path):
    jobs = read_specs([str(path)])

    assert [load_spec(job.spec) for job in jobs]
