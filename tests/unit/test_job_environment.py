"""What every backend writes into a job's environment in the same way."""

from __future__ import annotations

import pytest

from adapters.job_environment import as_text, local_path_or_uri, variable_name


@pytest.mark.parametrize(
    "uri, found",
    [
        ("file:///data/a%20b", "/data/a b"),
        ("file:/data/a", "/data/a"),
        ("file://localhost/data/a", "/data/a"),
        ("file:///data/a?version=1#top", "/data/a"),
        ("file://other/data/a", "file://other/data/a"),
        ("file:relative", "file:relative"),
        ("/data/a", "/data/a"),
        ("s3://bucket/key?versionId=1", "s3://bucket/key?versionId=1"),
        ("https://[not-an-address/x", "https://[not-an-address/x"),
        ("", ""),
    ],
)
def test_what_lies_on_this_machine_is_a_path_and_everything_else_stays_as_it_is(uri, found):
    """A library's parser raised for a bracket that opens no address."""
    assert local_path_or_uri(uri) == found


@pytest.mark.parametrize("name, found", [("imagenet", "IMAGENET"), ("a-b.c", "A_B_C"), ("ü", "_")])
def test_names_are_upper_case_letters_digits_and_underscores(name, found):
    assert variable_name(name) == found


@pytest.mark.parametrize(
    "value, found", [(True, "true"), (False, "false"), (0.1, "0.1"), ("x", "x"), (7, "7")]
)
def test_parameters_are_written_as_json_writes_them(value, found):
    assert as_text(value) == found
