"""Logs: one JSON object a line, whoever logged, with what it belongs to."""

from __future__ import annotations

import json
import logging
import warnings

import pytest

from broker.logs import bound, set_up_logs

log = logging.getLogger("broker.somewhere")


@pytest.fixture(autouse=True)
def as_it_was():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    costly = logging._srcfile, logging.logThreads, logging.logProcesses, logging.logMultiprocessing
    yield
    root.handlers[:], root.level = handlers, level
    logging._srcfile, logging.logThreads, logging.logProcesses, logging.logMultiprocessing = costly
    logging.captureWarnings(False)


@pytest.fixture
def lines(capsys):
    """What was logged since the last call."""
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_says_when_where_and_what(lines):
    set_up_logs("worker")

    log.info("took %s", "it", extra={"backend": "hpc"})

    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "took it",
        "level": "info",
        "logger": "broker.somewhere",
        "backend": "hpc",
        "process": "worker",
    }


def test_what_is_bound_is_on_each_line_until_the_end_of_the_block(lines):
    set_up_logs("api")

    with bound(request_id="r1", job="01J", attempt=2):
        logging.getLogger("gunicorn.error").warning("from a library")
    log.warning("after it")

    inside, after = lines()
    assert (inside["request_id"], inside["job"], inside["attempt"]) == ("r1", "01J", 2)
    assert "job" not in after


def test_an_inner_block_adds_to_the_outer_one_and_gives_it_back(lines):
    set_up_logs("worker")

    with bound(job="01J", attempt=1):
        with bound(attempt=2):
            log.warning("inner")
        log.warning("outer")

    assert [(line["job"], line["attempt"]) for line in lines()] == [("01J", 2), ("01J", 1)]


def test_an_exception_stays_on_its_line(lines):
    set_up_logs("api")

    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("failed")

    (line,) = lines()
    assert "ValueError: two\nlines" in line["exception"]


def test_a_line_never_fails_for_what_is_in_it(lines):
    set_up_logs("api")

    log.info("odd", extra={"thing": object()})

    assert "object object" in lines()[0]["thing"]


def test_half_a_character_is_a_line_too(lines):
    """File names and what programs print may hold anything."""
    set_up_logs("worker")

    log.warning("wrote %s", "a\udcff.txt")

    assert lines()[0]["event"].startswith("wrote a")


def test_the_level_is_kept(lines):
    set_up_logs("api", level="warning")

    log.info("too quiet")

    assert lines() == []


def test_the_form_for_people_shows_no_local_variables(capsys):
    """They hold tokens and passwords."""
    set_up_logs("api", log_format="console")
    secret = "hunter2"

    try:
        raise ValueError(len(secret))
    except ValueError:
        log.exception("failed")

    said = capsys.readouterr().err
    assert "failed" in said
    assert "ValueError: 7" in said
    assert secret not in said


def test_a_warning_of_a_library_is_a_line_like_others(lines):
    set_up_logs("worker")

    warnings.simplefilter("always")  # pytest puts the filters back
    warnings.warn("old", DeprecationWarning, stacklevel=1)

    (line,) = lines()
    assert line["logger"] == "py.warnings"
    assert "DeprecationWarning: old" in line["event"]
