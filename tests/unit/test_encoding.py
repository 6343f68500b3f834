"""JSON as the server writes it, and what the usual library does not take."""

from __future__ import annotations

import json
from types import MappingProxyType

import pytest

from api_spec.encoding import decode_ours, encode, encode_sorted, encode_text
from api_spec.reasons import Reason
from tests.builders import spec

TAKEN = {
    "text": "größer",
    "an enumeration": Reason.LOST,
    "a tuple": (1, 2.5, None, True),
    "another mapping": MappingProxyType({"a": 1}),
    "more than 64 bits": 2**64,
    "a lone surrogate": "\ud800 and more",
    "both of them": {"name": "\udfff", "much": -(2**70)},
}


@pytest.mark.parametrize("value", TAKEN.values(), ids=TAKEN)
def test_what_is_written_reads_back(value):
    wanted = json.loads(json.dumps(value, default=dict))

    assert json.loads(encode({"it": value})) == {"it": wanted}
    assert json.loads(encode_text({"it": value})) == {"it": wanted}


@pytest.mark.parametrize("beside", [{}, {"so that the standard library writes it": 2**64}])
def test_what_is_not_finite_is_null_whoever_writes_it(beside):
    members = {"a": float("nan"), "b": [float("inf"), 1.5], "c": MappingProxyType({"d": float("-inf")})}
    wanted = {"a": None, "b": [None, 1.5], "c": {"d": None}, **beside}

    assert json.loads(encode({**members, **beside})) == wanted


@pytest.mark.parametrize("value", TAKEN.values(), ids=TAKEN)
def test_equal_documents_are_equal_bytes(value):
    one, other = {"b": value, "a": {"d": 1, "c": 2}}, {"a": {"c": 2, "d": 1}, "b": value}

    assert encode_sorted(one) == encode_sorted(other)
    assert json.loads(encode_sorted(one)) == json.loads(encode(one))


def test_there_is_no_blank_and_no_escape():
    assert encode({"ä": [1, "b"]}) == '{"ä":[1,"b"]}'.encode()


@pytest.mark.parametrize(
    "value", [spec(), object(), {1, 2}, b"bytes"], ids=["spec", "object", "set", "bytes"]
)
def test_what_is_no_json_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        encode({"it": value})


OURS = [b"{}", b"[]", b'{"a":[1,-2.5,true,null,"\xc3\xa4"]}', b'{"a":1,"b":{"a":1}}', b'"text"', b"1e+100"]


@pytest.mark.parametrize("raw", OURS)
def test_what_is_written_as_here_is_read_at_once(raw):
    assert decode_ours(raw) == json.loads(raw)


NOT_OURS = {
    "a member twice": b'{"a":1,"a":1}',
    "a member twice, deep down": b'{"x":[{"a":1,"b":2,"a":1}]}',
    "a blank": b'{"a": 1}',
    "a blank before the colon": b'{"a" :1}',
    "an escape": b'{"\\u0061":1}',
    "a number of more digits": b"123456789012345678901234567890",
    "a number that is not exact": b"0.10000000000000000555",
    "another way to write a number": b"1E2",
    "no JSON": b"{'a':1}",
    "not a number": b"NaN",
    "two documents": b"1 2",
    "not UTF-8": b'"\xff"',
    "a lone surrogate": b'"\\ud800"',
    "nothing": b"",
    "deeper than is written": b"[" * 300 + b"]" * 300,
    "very deep": b"[" * 100_000 + b"]" * 100_000,
}


@pytest.mark.parametrize("raw", NOT_OURS.values(), ids=NOT_OURS)
def test_what_is_written_otherwise_is_left_to_a_stricter_reader(raw):
    assert decode_ours(raw) is None
