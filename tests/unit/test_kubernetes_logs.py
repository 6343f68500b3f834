"""A log by cursor, of a kubelet that knows no offsets: only seconds, and a time on each line."""

from __future__ import annotations

import random

import pytest

from adapters.base import LogQuery
from adapters.errors import BadLogQuery
from adapters.kubernetes import logs
from tests.unit.kubernetes_kubelet import SECOND, TEXT, Kubelet, pages, stamped


@pytest.mark.parametrize("limit", [1, 3, 7, 64, 65536])
def test_the_pages_joined_are_the_log(limit):
    read = pages(stamped(*TEXT), limit)

    assert b"".join(page.data for page in read) == b"".join(TEXT)
    assert all(len(page.data) <= limit for page in read)


def test_what_is_written_between_two_pages_comes_with_the_next():
    kubelet = Kubelet((f"{SECOND}1.5Z", b"one\n"))
    first = logs.page(kubelet, LogQuery(), over=False)

    kubelet.lines += [(f"{SECOND}1.5Z", b"two\n"), (f"{SECOND}1.500000001Z", b"three\n")]
    second = logs.page(kubelet, LogQuery(cursor=first.cursor), over=True)

    assert (first.data, first.at_end, first.complete) == (b"one\n", True, False)
    assert (second.data, second.complete) == (b"two\nthree\n", True)


def test_a_long_second_is_read_in_larger_pieces_until_something_new_is_in_it():
    kubelet = Kubelet(*((f"{SECOND}1.{number:09}Z", b"x" * 1000 + b"\n") for number in range(400)))
    read = pages(kubelet, 50_000)

    assert b"".join(page.data for page in read) == (b"x" * 1000 + b"\n") * 400


def test_times_are_compared_as_numbers():
    """0.5 and 0.50 are one moment, 0.12 is after 0.119."""
    kubelet = Kubelet(
        (f"{SECOND}1.119Z", b"a\n"),
        (f"{SECOND}1.12Z", b"b\n"),
        (f"{SECOND}1.9Z", b"c\n"),
        (f"{SECOND}2Z", b"d\n"),
    )
    assert b"".join(page.data for page in pages(kubelet, 2)) == b"a\nb\nc\nd\n"


def test_what_was_rotated_away_is_told():
    kubelet = stamped(*TEXT)
    first = logs.page(kubelet, LogQuery(limit_bytes=5), over=True)
    kubelet.lines = kubelet.lines[10:]

    second = logs.page(kubelet, LogQuery(cursor=first.cursor), over=True)

    assert second.note == logs.ROTATED
    assert second.data == b"".join(TEXT[10:])


@pytest.mark.parametrize("wanted", [0, 1, 5, 40, 100_000])
def test_the_tail_is_the_end_and_goes_on_from_there(wanted):
    kubelet, whole = stamped(*TEXT), b"".join(TEXT)

    tail = logs.page(kubelet, LogQuery(tail_bytes=wanted), over=False)
    kubelet.lines.append((f"{SECOND}9.99Z", b"more\n"))
    after = logs.page(kubelet, LogQuery(cursor=tail.cursor), over=True)

    assert tail.data == (whole[-wanted:] if wanted else b"")
    assert tail.at_end
    assert after.data == b"more\n"


def test_an_empty_log_is_at_its_end():
    page = logs.page(Kubelet(), LogQuery(), over=False)

    assert (page.data, page.at_end, page.complete) == (b"", True, False)
    assert logs.page(Kubelet(), LogQuery(cursor=page.cursor), over=True).complete


def test_the_other_stream_says_where_its_lines_are():
    page = logs.page(stamped(*TEXT), LogQuery(stream="stderr"), over=True)

    assert (page.data, page.complete, page.note) == (b"", True, logs.ONE_STREAM)


@pytest.mark.parametrize("cursor", ["", "-1", "nonsense", "٣", "1" * 400, "2026-11-22T10:00:00Z/-1/0"])
def test_a_cursor_of_somebody_else_is_refused(cursor):
    with pytest.raises(BadLogQuery):
        logs.page(stamped(*TEXT), LogQuery(cursor=cursor), over=True)


def test_a_thousand_random_cuts_lose_nothing():
    chance = random.Random(5)
    texts = [("🙂é数" * chance.randrange(20)).encode() + b"\n" for _ in range(200)]
    kubelet, whole, cursor, read = stamped(*texts, per_second=17), b"".join(texts), None, b""
    for _ in range(1000):
        page = logs.page(kubelet, LogQuery(cursor=cursor, limit_bytes=chance.randrange(1, 60)), over=True)
        cursor, read = page.cursor, read + page.data

    assert whole.startswith(read)
    assert len(read) > 10_000
