"""JSON as the server writes it, and what the usual library does not take."""

from __future__ import annotations

import json
from types import MappingProxyType

import pytest

from api_spec.encoding import encode, encode_sorted, encode_text
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
