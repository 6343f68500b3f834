"""The pages about Slurm are what the code says."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from adapters.slurm import page
from adapters.slurm.loading import FABRIC, READERS, TOKEN, USERS, load
from api_spec.field_texts import texts
from broker.settings.page import HEAD as SETTINGS

DOCS = Path(__file__).parents[2] / "docs"
READ_BY = {"": READERS, "token.": TOKEN, "users.": USERS, "fabrics.NAME.": FABRIC}


def examples(text: str) -> list[str]:
    return re.findall(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_page_of_options_is_what_the_code_says():
    written = (DOCS / "slurm-options.md").read_text()

    assert written == "\n".join(page.page()), "run: python -m adapters.slurm.page > docs/slurm-options.md"


@pytest.mark.parametrize("prefix", page.TABLES)
def test_every_option_is_explained_and_read(prefix):
    names = {one.name for one in fields(page.TABLES[prefix])}

    assert set(texts(page.TABLES[prefix])) == names
    assert set(READ_BY[prefix]) == names


@pytest.mark.parametrize("text", [*examples((DOCS / "slurm.md").read_text()), *examples(SETTINGS)])
def test_every_example_of_a_backend_can_be_used(text):
    for backend in tomllib.loads(text)["backends"]:
        if backend["type"] == "slurm":
            assert load(backend["options"], backend["name"])
