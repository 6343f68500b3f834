"""The pages about Kubernetes are what the code says."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from adapters.kubernetes import native, page
from adapters.kubernetes.loading import FABRIC, IMPERSONATE, NODE_GROUP, READERS, TOLERATION, load
from api_spec.field_texts import texts

DOCS = Path(__file__).parents[2] / "docs"
READ_BY = {
    "": READERS,
    "tolerations[].": TOLERATION,
    "node_groups[].": NODE_GROUP,
    "fabrics.NAME.": FABRIC,
    "impersonate.": IMPERSONATE,
}


def examples(text: str) -> list[str]:
    return re.findall(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_page_of_options_is_what_the_code_says():
    written = (DOCS / "kubernetes-options.md").read_text()

    told = "run: python -m adapters.kubernetes.page > docs/kubernetes-options.md"
    assert written == "\n".join(page.page()), told


@pytest.mark.parametrize("prefix", page.TABLES)
def test_every_option_is_explained_and_read(prefix):
    names = {one.name for one in fields(page.TABLES[prefix])}

    assert set(texts(page.TABLES[prefix])) == names
    assert set(READ_BY[prefix]) == names


def test_every_native_option_is_explained():
    assert set(native.MEANINGS) == set(native.OPTIONS)


def test_every_example_of_a_backend_can_be_used():
    backends = [
        one
        for name in ("kubernetes.md", "kubernetes-jobs.md", "kubernetes-more.md")
        for text in examples((DOCS / name).read_text())
        for one in tomllib.loads(text)["backends"]
    ]

    assert backends
    assert all(load(one["options"], one["name"]) for one in backends)
