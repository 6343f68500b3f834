"""Job ids, attempt markers and times on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_spec.ids import Marker, is_id, marker, new_id, parse_marker, time_of
from api_spec.times import from_rfc3339, to_rfc3339

ID = "01KAM7Z8RB" + "0123456789ABCDEF"


def test_an_id_is_26_letters_of_crockford_and_tells_when_it_was_made():
    """The example of the ULID specification."""
    job_id = new_id(1469918176.385, bytes(10))

    assert job_id == "01ARYZ6S41" + "0" * 16
    assert is_id(job_id)
    assert time_of(job_id) == 1469918176.385


@given(st.floats(0, 2**47 / 1000), st.binary(min_size=10, max_size=10))
def test_every_id_is_an_id_and_keeps_its_millisecond(now_s, randomness):
    job_id = new_id(now_s, randomness)

    assert is_id(job_id)
    assert abs(time_of(job_id) - now_s) <= 0.001


@given(st.integers(0, 2**40), st.integers(1, 10**9), st.binary(min_size=10, max_size=10))
def test_a_later_id_sorts_after_an_earlier_one(first_ms, gap_ms, randomness):
    assert new_id(first_ms / 1000, randomness) < new_id((first_ms + gap_ms) / 1000, bytes(10))


def test_all_random_bits_are_in_the_id():
    ids = {new_id(0, (1 << bit).to_bytes(10, "big")) for bit in range(80)}

    assert len(ids) == 80


@pytest.mark.parametrize(
    "text",
    ["", "train", ID.lower(), ID[:-1], ID + "0", ID[:-1] + "U", "8" + ID[1:], ID + "\n"],
    ids=["empty", "a name", "lower case", "short", "long", "no U", "too late", "a line"],
)
def test_what_is_no_id_is_told_apart(text):
    assert not is_id(text)


@pytest.mark.parametrize("randomness", [b"", bytes(9), bytes(11)], ids=len)
def test_an_id_is_not_made_of_too_little_randomness(randomness):
    with pytest.raises(ValueError, match="random"):
        new_id(0, randomness)


# ---- markers -----------------------------------------------------------------------------------------


def test_a_marker_names_instance_job_and_attempt_and_can_be_read_back():
    text = marker("lab1", ID, 3)

    assert text == f"wb-lab1-{ID.lower()}-3"
    assert parse_marker(text) == Marker("lab1", ID, 3)


@given(
    st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True), st.binary(min_size=10, max_size=10), st.integers(1, 999)
)
def test_every_marker_fits_into_40_characters_and_can_be_read_back(instance, randomness, attempt):
    job_id = new_id(1e9, randomness)

    text = marker(instance, job_id, attempt)

    assert len(text) <= 40
    assert parse_marker(text) == (instance, job_id, attempt)


@pytest.mark.parametrize(
    ("instance", "job_id", "attempt"),
    [
        ("", ID, 1),
        ("toolong", ID, 1),
        ("A", ID, 1),
        ("a-b", ID, 1),
        ("a", "train", 1),
        ("a", ID, 0),
        ("sixsix", ID, 1000),
    ],
)
def test_what_cannot_be_a_marker_is_refused(instance, job_id, attempt):
    with pytest.raises(ValueError):
        marker(instance, job_id, attempt)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "train",
        f"wb-a-{ID.lower()}",
        f"wb-a-{ID.lower()}-0",
        f"wb-a-{ID}-1",
        f"wb-a-{ID.lower()}-1-0",
        f"xwb-a-{ID.lower()}-1",
    ],
)
def test_a_name_that_is_not_ours_is_no_marker(text):
    assert parse_marker(text) is None


# ---- times -------------------------------------------------------------------------------------------


def test_a_time_is_written_in_utc_with_milliseconds():
    assert to_rfc3339(1795313934.1234) == "2026-11-22T02:18:54.123Z"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-22T02:18:54.123Z", 1795313934.123),
        ("2026-11-22T02:18:54Z", 1795313934.0),
        ("2026-11-22t02:18:54.5z", 1795313934.5),
        ("2026-11-22T04:18:54+02:00", 1795313934.0),
        ("0001-01-01T00:00:00+02:05", -62135604300.0),
        ("9999-12-31T23:59:59-02:05", 253402308299.0),
    ],
)
def test_a_time_is_read_with_its_zone(text, seconds):
    assert from_rfc3339(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-22",
        "2026-11-22T02:18:54",
        "2026-13-22T02:18:54Z",
        "2026-11-22T25:18:54Z",
        "1795313934",
    ],
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="is not a time"):
        from_rfc3339(text)


@given(st.integers(0, 4 * 10**12))
def test_every_millisecond_survives_the_wire(milliseconds):
    assert from_rfc3339(to_rfc3339(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, abs=1e-5)
    assert to_rfc3339(from_rfc3339(to_rfc3339(milliseconds / 1000))) == to_rfc3339(milliseconds / 1000)
