"""Bodies: what is refused, and where the answer points."""

import json

import pytest

from api_spec.errors import InvalidRequest
from broker.web.bodies import MAX_DEPTH, digest_of, parse

DEEP = 100_000


@pytest.mark.parametrize(
    "raw, pointer, says",
    [
        (b"", "", "not JSON"),
        (b"{", "", "line 1"),
        (b'{"a": 1} x', "", "not JSON"),
        (b"\xef\xbb\xbf{}", "", "not JSON"),
        (b'{"a": "\xff"}', "", "not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "", "not UTF-8"),
        (b'{"a": 1, "a": 2}', "/a", "twice"),
        (b'{"b": [{}, {"c/d": 1, "c/d": 1}]}', "/b/1/c~1d", "twice"),
        (b'{"a": [NaN]}', "/a/0", "NaN"),
        (b'{"a": Infinity}', "/a", "infinities"),
        (b'{"a": -Infinity}', "/a", "infinities"),
        (b'{"a": {"b": 1e999}}', "/a/b", "beyond"),
        (b'{"a": ' + b"9" * 5000 + b"}", "", "too long"),
        (b'{"a": "\\ud800"}', "/a", "surrogate"),
        (b'{"\\udfff": 1}', "", "surrogate"),
        (b'{"a": 1, "a": NaN}', "/a", "twice"),
        (b"[" * DEEP, "", "levels"),
        (b'{"a":' * DEEP, "", "levels"),
        (b"[" * 40 + b"]" * 40, "", "levels"),
    ],
    ids=lambda case: case[:20] if isinstance(case, bytes) else case,
)
def test_what_could_be_read_in_two_ways_is_refused_and_pointed_at(raw, pointer, says):
    with pytest.raises(InvalidRequest) as refused:
        parse(raw)

    assert says in str(refused.value)
    assert [fault.pointer for fault in refused.value.faults] == [pointer]


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {"a": [1, -2.5e10, True, None, "é😀"]}, "\U0001f600", {"n": 10**300}],
    ids=repr,
)
def test_what_is_json_is_read_as_it_is(document):
    assert parse(json.dumps(document).encode()) == document
    assert parse(json.dumps(document, ensure_ascii=False).encode()) == document


def test_as_deep_as_allowed_is_not_too_deep():
    raw = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH

    assert parse(raw) is not None
    with pytest.raises(InvalidRequest):
        parse(b"[" + raw + b"]")


def test_many_brackets_side_by_side_are_not_deep():
    assert parse(b"[" + b"[]," * 1000 + b"[]]") == [[]] * 1001


def test_the_digest_is_that_of_the_meaning_not_of_the_bytes():
    one, other = parse(b'{"a":1,"b":[1,2]}'), parse(b'{ "b" : [1, 2],\n"a": 1 }')

    assert digest_of(one) == digest_of(other)
    assert digest_of(one) != digest_of(parse(b'{"a":1,"b":[2,1]}'))
