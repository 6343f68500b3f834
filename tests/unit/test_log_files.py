"""Pages of a log file, cut anywhere: together they are the source, whatever happens to the file."""

from __future__ import annotations

import os
import random
import resource
import tracemalloc

import pytest

from adapters import log_files
from adapters.base import LogQuery
from adapters.errors import BadLogQuery

TEXT = "Zeile {}: größer, 你好, 👩‍🔬 done\n"


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def page(folder, cursor=None, over=False, **query):
    return log_files.page(str(folder), ("stdout",), LogQuery(cursor=cursor, **query), over)


def read_all(folder, over=True, cursor=None, limits=None):
    """Every page to the end: the data, the last page, and the notes on the way."""
    data, notes = b"", []
    while True:
        found = page(folder, cursor, over, limit_bytes=next(limits) if limits else 65536)
        data, cursor = data + found.data, found.cursor
        notes += [found.note] if found.note else []
        if found.at_end:
            return data, found, notes


def test_a_thousand_random_cuts_together_are_the_source(folder):
    source = "".join(TEXT.format(number) for number in range(2000)).encode()
    (folder / "stdout").write_bytes(source)
    chance = random.Random(7)
    sizes = [chance.randrange(1, 2 * len(source) // 1000) for _ in range(10_000)]

    data, last, _ = read_all(folder, limits=iter(sizes))

    assert data == source
    assert last.complete


def test_no_page_ends_inside_a_character(folder):
    (folder / "stdout").write_bytes("äöü€👩‍🔬".encode() * 50)
    cursor, ended = None, False

    while not ended:
        found = page(folder, cursor, limit_bytes=5)
        found.data.decode()  # raises inside a character
        cursor, ended = found.cursor, found.at_end


def test_a_limit_smaller_than_a_character_still_goes_on(folder):
    (folder / "stdout").write_bytes("👩‍🔬€".encode())

    data, _, _ = read_all(folder, limits=iter([1] * 100))

    assert data == "👩‍🔬€".encode()


def test_bytes_that_are_no_text_come_as_they_are(folder):
    source = bytes(range(256)) * 20
    (folder / "stdout").write_bytes(source)

    data, _, _ = read_all(folder, limits=iter([7] * 1000))

    assert data == source


def test_a_character_that_is_half_written_waits_for_its_rest(folder):
    whole = "€".encode()
    (folder / "stdout").write_bytes(b"ab" + whole[:2])
    first = page(folder)

    (folder / "stdout").write_bytes(b"ab" + whole)
    second = page(folder, first.cursor)

    assert (first.data, second.data) == (b"ab", whole)


def test_a_reader_that_keeps_pace_with_a_writer_misses_and_repeats_nothing(folder):
    chance = random.Random(3)
    source = "".join(TEXT.format(number) for number in range(500)).encode()
    path, data, cursor, written = folder / "stdout", b"", None, 0
    path.touch()

    while written < len(source):
        step = chance.randrange(1, 200)
        with path.open("ab") as file:
            file.write(source[written : written + step])
        written += step
        found = page(folder, cursor, limit_bytes=chance.randrange(1, 300))
        data, cursor = data + found.data, found.cursor
        assert not found.complete

    rest, last, _ = read_all(folder, cursor=cursor)
    assert data + rest == source
    assert last.complete


def test_a_rotated_file_is_read_to_its_end_and_then_the_next(folder):
    source = "".join(TEXT.format(number) for number in range(300)).encode()
    (folder / "stdout").write_bytes(source[:5000])
    first = page(folder, limit_bytes=1000)

    os.rename(folder / "stdout", folder / "stdout.2")
    (folder / "stdout.1").write_bytes(source[5000:9000])
    (folder / "stdout").write_bytes(source[9000:])
    rest, _, notes = read_all(folder, cursor=first.cursor)

    assert first.data + rest == source
    assert notes == ["the log was rotated", "the log was rotated"]


def test_a_reader_who_comes_after_a_rotation_gets_all_that_is_kept(folder):
    for name, text in (("stdout.10", b"1\n"), ("stdout.9", b"2\n"), ("stdout", b"3\n")):
        (folder / name).write_bytes(text)

    data, _, _ = read_all(folder)

    assert data == b"1\n2\n3\n"


def test_a_replaced_file_is_noticed_and_read_from_its_start(folder):
    (folder / "stdout").write_bytes(b"old\n")
    first = page(folder)

    (folder / "new").write_bytes(b"new\n")
    os.replace(folder / "new", folder / "stdout")
    second = page(folder, first.cursor)

    assert second.data == b"new\n"
    assert "replaced" in second.note


@pytest.mark.parametrize(
    "text", [b"ne", b"something much longer than before\n"], ids=["shorter", "longer again"]
)
def test_a_truncated_file_is_noticed_and_read_from_its_start(folder, text):
    """Also when it has grown beyond the place where the reader was."""
    (folder / "stdout").write_bytes(b"first text\n")
    first = page(folder)

    with (folder / "stdout").open("r+b") as file:  # the same inode
        file.truncate(0)
        file.write(text)
    second = page(folder, first.cursor)

    assert second.data == text
    assert "truncated" in second.note


def test_a_file_of_one_gib_is_read_with_memory_for_one_page(folder):
    size, end = 1 << 30, "\nlast line €\n".encode()
    with (folder / "stdout").open("wb") as file:
        file.write(b"first line\n")
        file.seek(size - len(end))  # a hole, so that it takes no disk
        file.write(end)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()

    first = page(folder, limit_bytes=11)
    tail = page(folder, tail_bytes=len(end), over=True)
    cursor, total = None, 0
    for _ in range(200):
        found = page(folder, cursor, limit_bytes=1 << 20)
        cursor, total = found.cursor, total + len(found.data)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (first.data, first.at_end) == (b"first line\n", False)
    assert (tail.data, tail.complete) == (end, True)
    assert total == 200 << 20
    assert peak < 8 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_all_of_one_gib_passes_through_pages(folder):
    """Only counted, since comparing it would take longer than reading it."""
    size = 1 << 30
    with (folder / "stdout").open("wb") as file:
        file.truncate(size)
    cursor, total, ended = None, 0, False

    while not ended:
        found = page(folder, cursor, over=True, limit_bytes=8 << 20)
        cursor, total, ended = found.cursor, total + len(found.data), found.complete

    assert total == size


def test_the_end_and_the_last_end_are_two_things(folder):
    (folder / "stdout").write_bytes(b"abc")

    now, later = page(folder), page(folder, over=True)

    assert (now.at_end, now.complete) == (True, False)
    assert (later.at_end, later.complete) == (True, True)


def test_a_tail_longer_than_the_file_is_the_file(folder):
    (folder / "stdout").write_bytes(b"abc")

    assert page(folder, tail_bytes=100).data == b"abc"


def test_what_does_not_exist_says_why(folder):
    assert page(folder).note == "it has not started yet"
    assert page(folder, over=True).note == "nothing was written"


@pytest.mark.parametrize(
    "cursor", ["", "x", "1-2", "1-2-3-4", "-1-0-0", "../../etc", "1-2-3\n", "f" * 100, "0-ffffffffffffffff-0"]
)
def test_a_cursor_that_is_not_ours_is_refused(folder, cursor):
    (folder / "stdout").write_bytes(b"abc")

    with pytest.raises(BadLogQuery):
        page(folder, cursor)


def test_a_link_that_a_job_made_is_not_followed(folder):
    (folder / "outside").mkdir()
    (folder / "outside" / "stdout").write_bytes(b"secret")
    (folder / "task").mkdir()
    (folder / "task" / "stdout").symlink_to(folder / "outside" / "stdout")
    (folder / "linked").symlink_to(folder / "outside")

    with pytest.raises(OSError):
        log_files.page(str(folder), ("task", "stdout"), LogQuery(), False)
    with pytest.raises(OSError):
        log_files.page(str(folder), ("linked", "stdout"), LogQuery(), False)


def test_a_pipe_in_place_of_a_log_does_not_block(folder):
    os.mkfifo(folder / "stdout")

    with pytest.raises(OSError, match="not a plain file"):
        page(folder)
