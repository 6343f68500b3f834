"""Whom a job runs as: from its owner by the operator's word, and never as root."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.slurm.identity import slurm_user
from adapters.slurm.options import Users

TABLE = Users(table={"ana@example.org": "ana", "Bo": "bo", "eve": "root", "mal": "a b"})
DOMAIN = Users(owner=True, strip_domain="example.org")


@pytest.mark.parametrize(
    "users, owner, user",
    [
        (TABLE, "ana@example.org", "ana"),
        (TABLE, "Bo", "bo"),
        (TABLE, "bo", None),
        (TABLE, "eve", None),
        (TABLE, "mal", None),
        (TABLE, "", None),
        (Users(service="broker"), "ana@example.org", "broker"),
        (Users(service="broker"), "", "broker"),
        (Users(service="root"), "ana", None),
        (Users(owner=True), "ana", "ana"),
        (Users(owner=True), "ana_b.c-9", "ana_b.c-9"),
        (Users(owner=True), "root", None),
        (Users(owner=True), "Ana", None),
        (Users(owner=True), "ana@example.org", None),
        (Users(owner=True), "../etc", None),
        (Users(owner=True), "-rf", None),
        (Users(owner=True), "ana\n", None),
        (Users(owner=True), "a" * 33, None),
        (Users(owner=True), "", None),
        (DOMAIN, "ana@example.org", "ana"),
        (DOMAIN, "ana@EXAMPLE.org", "ana"),
        (DOMAIN, "root@example.org", None),
        (DOMAIN, "ana@evil.org", None),
        (DOMAIN, "ana@example.org@evil.org", None),
        (DOMAIN, "ana", None),
        (DOMAIN, "@example.org", None),
    ],
)
def test_an_owner_becomes_a_user_or_nobody(users, owner, user):
    assert slurm_user(owner, users) == user


@given(st.text(), st.sampled_from([Users(owner=True), DOMAIN, TABLE]))
def test_whatever_an_owner_is_called_the_user_is_an_ordinary_name(owner, users):
    found = slurm_user(owner, users)

    assert found is None or (found.isascii() and found != "root" and not set(found) & set("/ :%\n\t@{}"))
