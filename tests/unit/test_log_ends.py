"""The ends of logs as one text of bounded size."""

from __future__ import annotations

import pytest

from adapters.extras import LogEnd, LogEnds
from broker.lifecycle.log_ends import MOST_SOURCES, merged, pack, shared_out, unpack


def end(source="a", data=b"1 one\n", **changes):
    return LogEnd(source=source, data=data, **changes)


def lines(count, size=10):
    return b"".join(b"%0*d\n" % (size - 1, number) for number in range(count))


def test_what_was_packed_comes_back():
    kept = LogEnds(ends=(end("a", b"1 \xff\n\n", index=3, began_at=1.5, cut=True), end("b", b"")), missed="c")

    assert unpack(pack(kept)) == kept


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]\n", b'{"v": 2}\n', b"\x00", pack(LogEnds(ends=(end(),)))[:-1], pack(LogEnds()) + b"x"],
    ids=["empty", "no version", "a list", "newer", "noise", "cut", "longer"],
)
def test_what_is_not_whole_is_not_taken_for_a_log(text):
    with pytest.raises(ValueError):
        unpack(text)


def test_what_is_short_leaves_room_for_what_is_long():
    long, short = end("a", lines(100)), end("b", lines(2))

    first, second = shared_out([long, short], 500)

    assert (second.data, second.cut) == (short.data, False)
    assert (first.data, first.cut) == (lines(100)[-480:], True)


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_all_together_are_never_more_than_may_be_kept(count):
    kept = shared_out([end(str(number), lines(number % 50)) for number in range(count)], 5000)

    assert sum(len(one.data) for one in kept) <= 5000
    assert all(one.cut or one.data == lines(number % 50) for number, one in enumerate(kept))
    assert all(lines(50).find(one.data) % 10 == 0 for one in kept), "a line was cut"


def test_none_is_cut_where_there_is_room_for_all():
    some = [end("a", lines(10)), end("b", lines(40))]

    assert list(shared_out(some, 500)) == some


def test_who_has_gone_since_stays_and_who_is_there_is_as_now():
    before = LogEnds(ends=(end("gone"), end("there", b"1 one\n")), missed="then")

    found = merged(before, LogEnds(ends=(end("there", b"1 one\n2 two\n"),)))

    assert {one.source: one.data for one in found.ends} == {"gone": b"1 one\n", "there": b"1 one\n2 two\n"}
    assert found.missed == "then"


def test_too_many_are_told():
    found = merged(None, LogEnds(ends=tuple(end(str(number)) for number in range(MOST_SOURCES + 1))))

    assert len(found.ends) == MOST_SOURCES
    assert found.missed == "of 1025 logs 1024 were kept"
