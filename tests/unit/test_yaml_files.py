"""YAML as people write it: what it means, where it stands, and what is refused before it can do harm."""

from __future__ import annotations

import time

import pytest

from api_spec.errors import InvalidConfiguration, InvalidRequest
from broker import yaml_files
from broker.yaml_files import read_documents
from tests.helpers import PATIENCE


def only(text):
    (document,) = read_documents(text, "job.yaml")
    return document


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("4h", "4h"),
        ("1-02:00:00", "1-02:00:00"),
        ("12:30:45", "12:30:45"),
        ("2026-11-22", "2026-11-22"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("'null'", "null"),
        ('"90"', "90"),
        ("90", 90),
        ("-3", -3),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.4.2", "1.4.2"),
        ("[1, a, {b: c}]", [1, "a", {"b": "c"}]),
        ("|\n    two\n    lines\n", "two\nlines\n"),
        (">-\n    one\n    line\n", "one line"),
        ("über", "über"),
        ("9223372036854775807", 9223372036854775807),
        ("=", "="),
    ],
)
def test_a_value_means_what_yaml_1_2_says(written, value):
    read = only(f"a: {written}").data["a"]

    assert read == value
    assert type(read) is type(value)


def test_a_file_holds_several_documents_and_empty_ones_do_not_count():
    documents = read_documents("---\n---\na: 1\n---\n# nothing\n---\n- b\n", "jobs.yaml")

    assert [document.data for document in documents] == [{"a": 1}, ["b"]]
    assert documents[1].locate((0,)) == (7, 3)
    assert read_documents("", "jobs.yaml") == []


def test_json_is_read_as_well():
    assert only('{"a": [1, 2.5, null, true, "\\u00e9\\/"], "b": {}}').data == {
        "a": [1, 2.5, None, True, "é/"],
        "b": {},
    }


def test_line_ends_and_a_byte_order_mark_change_nothing():
    document = only("\ufeffa: 1\r\nb: |\r\n  x\r\n  y\r\n")

    assert document.data == {"a": 1, "b": "x\ny\n"}
    assert document.locate(("b",)) == (3, 3)


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        pytest.param("a: 1\na: 2", "2:1", "the key 'a' is there twice", id="duplicate key"),
        pytest.param('a: {"b": 1, b: 2}', "1:13", "the key 'b' is there twice", id="duplicate in flow"),
        pytest.param("1: a", "1:1", "a key must be a text; quote it: '1'", id="number as key"),
        pytest.param("true: a", "1:1", "a key must be a text; quote it: 'true'", id="boolean as key"),
        pytest.param("? [a]\n: 1", "1:3", "a key must be a text", id="list as key"),
        pytest.param("&x k: 1\n*x : 2", "2:1", "a key must be a text", id="alias as key"),
        pytest.param("b: 1\na: .nan", "2:4", ".nan is not a number", id="NaN"),
        pytest.param("a: [-.inf]", "1:5", "-.inf is not a number", id="infinity"),
        pytest.param("a: 1e999", "1:4", "1e999 is too large", id="overflow"),
        pytest.param("a: " + "9" * 5000, "1:4", "more than 64 bits", id="endless integer"),
        pytest.param("a: 1\nb: !foo 1", "2:4", "tags such as !foo", id="tag"),
        pytest.param("a: !!python/object:os.system x", "1:4", "tags such as", id="object tag"),
        pytest.param("a: !!binary aGk=", "1:4", "tags such as", id="standard tag"),
        pytest.param("!x a: 1", "1:1", "tags such as !x", id="tag on a key"),
        pytest.param("<<: {a: 1}", "1:1", "merge keys", id="merge key"),
        pytest.param("%YAML 1.1\n---\na: yes", "2:1", "YAML 1.2", id="another version"),
        pytest.param("a: [1, 2", "1:9", "expected ',' or ']'", id="not closed"),
        pytest.param("a: b: c", "1:5", "mapping values are not allowed", id="two colons"),
        pytest.param("a:\n\tb: 1", "2:1", "'\\t' that cannot start any token", id="tab"),
        pytest.param("a: 1\nb: x\x07", "2:5", "character that YAML does not allow", id="control character"),
        pytest.param("a: *x", "1:4", "no complete value has the anchor &x", id="unknown alias"),
        pytest.param("a: &x [*x]", "1:8", "no complete value has the anchor &x", id="value in itself"),
        pytest.param("a: " + "[" * 5000, "1:68", "nested more than 64 deep", id="depth bomb"),
        pytest.param("{a: " * 5000, "1:261", "nested more than 64 deep", id="depth bomb of mappings"),
    ],
)
def test_what_is_refused_is_refused_with_its_position(text, where, what):
    with pytest.raises(InvalidRequest) as refused:
        read_documents(text, "job.yaml")

    assert str(refused.value).startswith(f"job.yaml:{where}: ")
    assert what in str(refused.value)


def test_the_class_of_the_error_is_the_callers():
    with pytest.raises(InvalidConfiguration, match=r"policy.yaml:2:1: "):
        read_documents("a: 1\na: 2", "policy.yaml", InvalidConfiguration)


def test_aliases_are_read_and_located_where_they_stand():
    document = only("base: &r {cpus: 2}\none: *r\ntwo: [*r]\n")

    assert document.data == {"base": {"cpus": 2}, "one": {"cpus": 2}, "two": [{"cpus": 2}]}
    assert document.data["one"] is not document.data["base"]
    assert document.locate(("one", "cpus")) == (2, 6)


def test_a_billion_laughs_are_refused_before_they_are_many():
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )

    began = time.perf_counter()
    with pytest.raises(InvalidRequest, match=r"more than 200000 values, aliases counted in full"):
        read_documents(text, "job.yaml")

    assert time.perf_counter() - began < 2 * PATIENCE


def test_a_file_that_is_too_long_is_not_parsed():
    with pytest.raises(InvalidRequest, match=r"characters; 8388608 at most"):
        read_documents(" " * (yaml_files.MAX_CHARACTERS + 1), "job.yaml")


LOCATED = """\
name: "x"
list:
  - {a: 1, b: two}
folded: >-
  some words that
    are folded
literal: |  # a comment
    first line
    second line
single: 'it''s here'
plain: several words
  over two lines
"""


@pytest.mark.parametrize(
    ("path", "offset", "where"),
    [
        ((), 0, (1, 1)),
        (("name",), 0, (1, 8)),
        (("list",), 0, (3, 3)),
        (("list", 0, "b"), 0, (3, 15)),
        (("list", 0, "nothing", "here"), 0, (3, 5)),
        (("list", 7), 3, (3, 3)),
        (("folded",), 11, (5, 14)),
        (("folded",), 16, (6, 5)),
        (("literal",), 0, (8, 5)),
        (("literal",), 11, (9, 5)),
        (("literal",), 18, (9, 12)),
        (("single",), 0, (10, 10)),
        (("single",), 3, (10, 13)),
        (("plain",), 8, (11, 16)),
        (("plain",), 14, (12, 3)),
    ],
)
def test_a_place_in_a_value_is_found_through_folds_and_quotes(path, offset, where):
    assert only(LOCATED).locate(path, offset) == where


def test_a_key_has_a_place_of_its_own():
    document = only(LOCATED)

    assert document.locate(("list", 0, "b"), key=True) == (3, 12)
    assert document.locate(("list", 0), key=True) == (3, 5)
