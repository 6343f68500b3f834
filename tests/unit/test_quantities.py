"""Units as people write them: what is read, what is refused with which hint, and the canonical text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_spec.quantities import (
    MAX_DURATION_S,
    MAX_MEMORY_MIB,
    InvalidQuantity,
    compact_indices,
    expand_indices,
    format_duration,
    format_memory,
    parse_duration,
    parse_indices,
    parse_memory,
)

HOUR, DAY = 3600, 86400


# ---- memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("200GiB", 204800),
        ("512MiB", 512),
        ("1.5TiB", 1572864),
        ("200Gi", 204800),
        ("200 gib", 204800),
        ("1PiB", 1024**3),
        ("1KiB", 1),
        ("1B", 1),
        ("1048577B", 2),
        ("0.1GiB", 103),
    ],
)
def test_memory_is_read_with_its_unit_and_rounded_up_to_mib(text, mib):
    assert parse_memory(text) == mib


def test_a_gb_is_decimal_as_the_standards_say_and_never_rounded_down():
    """16 * 10**9 bytes are 15258.79 MiB."""
    assert parse_memory("16GB") == 15259


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        (16, '"16GiB"'),
        (1.5, '"1.5GiB"'),
        ("16", '"16GiB"'),
        ("200G", '"200GiB" (powers of 1024) or "200GB"'),
        ("200m", "200MiB"),
        ("20XB", "is not a unit of memory"),
        ("0GiB", "leave it out"),
        ("-1GiB", "write"),
        ("9999999PiB", "largest"),
        ("", "write"),
        ("1e3GiB", "write"),
        ("٣GiB", "write"),
        (None, "write"),
        (True, "write"),
        ([1], "write"),
        ("1" * 100_000, "write"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_memory_that_is_ambiguous_or_nothing_is_refused_with_what_would_be_right(written, hint):
    with pytest.raises(InvalidQuantity) as refused:
        parse_memory(written)

    assert hint in str(refused.value)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    ("mib", "text"), [(204800, "200GiB"), (1536, "1536MiB"), (1, "1MiB"), (2**20, "1TiB"), (2**40, "1024PiB")]
)
def test_memory_has_one_canonical_text(mib, text):
    assert format_memory(mib) == text


@given(st.integers(1, MAX_MEMORY_MIB))
def test_canonical_memory_is_read_as_what_it_was(mib):
    assert parse_memory(format_memory(mib)) == mib


@given(
    st.decimals(min_value="0.001", max_value="999999", places=3), st.sampled_from(["MB", "GB", "MiB", "TiB"])
)
def test_memory_is_never_less_than_what_was_asked_for(number, unit):
    size = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "TiB": 2**40}[unit]

    mib = parse_memory(f"{number}{unit}")

    assert mib * 2**20 >= number * size > (mib - 1) * 2**20


# ---- durations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4h", 4 * HOUR),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1.5h", 5400),
        ("90s", 90),
        ("90S", 90),
        ("2d12h", 60 * HOUR),
        ("1w", 7 * DAY),
        ("0.5s", 1),
        ("1-02:00:00", 26 * HOUR),
        ("1-2", 26 * HOUR),
        ("1-02:30", 26 * HOUR + 1800),
        ("2:30:00", 9000),
        ("100:00:00", 100 * HOUR),
        ("PT4H", 4 * HOUR),
        ("P1DT2H", 26 * HOUR),
        ("P1W", 7 * DAY),
        ("PT1.5H", 5400),
        ("PT0.2S", 1),
    ],
)
def test_a_duration_is_read_as_people_sbatch_and_iso_8601_write_it(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        (90, '"90s", "90m" or "90h"'),
        ("90", '"90s", "90m" or "90h"'),
        ("2:30", '"2h30m" or "2m30s"'),
        ("1:70:00", "59"),
        ("1-25:00:00", "23"),
        ("P1M", "P30D"),
        ("P1Y", "P30D"),
        ("infinite", "leave the time limit out"),
        ("0s", "leave it out"),
        ("99999d", "3650d"),
        ("P", "write"),
        ("PT", "write"),
        ("P1DT", "write"),
        ("30m1h", "write"),
        ("4 hours", "write"),
        ("", "write"),
        (" ", "write"),
        ("-4h", "write"),
        (None, "write"),
        (True, "write"),
        ("1" * 100_000, "write"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_duration_that_is_ambiguous_or_nothing_is_refused_with_what_would_be_right(written, hint):
    with pytest.raises(InvalidQuantity) as refused:
        parse_duration(written)

    assert hint in str(refused.value)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4 * HOUR, "4h"),
        (5400, "1h30m"),
        (90, "90s"),
        (60, "1m"),
        (150, "2m30s"),
        (2 * DAY, "2d"),
        (26 * HOUR, "26h"),
    ],
)
def test_a_duration_has_one_canonical_text(seconds, text):
    assert format_duration(seconds) == text


@given(st.integers(1, MAX_DURATION_S))
def test_a_canonical_duration_is_read_as_what_it_was(seconds):
    assert parse_duration(format_duration(seconds)) == seconds


# ---- index lists -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("3", (3,)),
        ("0-3", (0, 1, 2, 3)),
        ("0-9:4", (0, 4, 8)),
        ("5,1,3-4", (1, 3, 4, 5)),
        ("1,1,1-2", (1, 2)),
        (" 1 , 2 ", (1, 2)),
    ],
)
def test_an_index_list_names_each_index_once_and_ascending(text, indices):
    assert expand_indices(text) == indices


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("", "0-99"),
        ("a", "0-99"),
        ("1,,2", "0-99"),
        ("-1", "0-99"),
        ("5-1", "ascends"),
        ("1-5:0", "ascends"),
        ("0-9%2", "max_running"),
        ("0-3999999", "10000"),
        ("0-9999,0-9999", "10000"),
        ("5000000", "4000000"),
        (7, "as a string"),
        (None, "as a string"),
    ],
    ids=repr,
)
def test_an_index_list_that_is_wrong_or_too_long_is_refused_with_what_would_be_right(written, hint):
    with pytest.raises(InvalidQuantity, match=hint):
        parse_indices(written)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("0-99:2,7", "0-6:2,7,8-98:2"), ("3,4", "3,4"), ("4,3,5", "3-5"), ("0-99:2", "0-98:2"), ("1-1", "1")],
)
def test_an_index_list_has_one_canonical_text(text, canonical):
    assert parse_indices(text) == canonical
    assert parse_indices(canonical) == canonical


def test_no_index_at_all_is_an_empty_text():
    assert compact_indices([]) == ""


@given(st.sets(st.integers(0, 3000), min_size=1, max_size=300))
def test_indices_survive_being_made_compact(indices):
    assert expand_indices(compact_indices(indices)) == tuple(sorted(indices))
