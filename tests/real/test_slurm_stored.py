"""Hostile text on a real cluster: the script that Slurm stores holds no directive, and what it starts gets
each text as it was.
"""

from __future__ import annotations

import subprocess

import pytest

from adapters.errors import Rejected
from api_spec.states import JobState
from broker.cli.sbatch import directives
from tests.contract.places import new_ref
from tests.hostile import HOSTILE
from tests.real.slurm_kit import BOTH, job, native_id, on

pytestmark = pytest.mark.process

SHOWS = r"""printf '%s\0' "$A" "$@" """


def hostile(text):
    return job(command=("/bin/sh", "-c", SHOWS, "sh", text, "last"), script=None, environment={"A": text})


def submitted(bench):
    """Each text that is not refused, with its attempt."""
    for name, text in HOSTILE.items():
        spec = hostile(text)
        ref = new_ref(spec)
        try:
            yield name, text, bench.submit(spec, ref)
        except Rejected as error:
            assert name in REFUSED, error


REFUSED = {"NUL", "half a character"}


@on(*BOTH)
def test_what_slurm_stores_is_what_was_sent_and_every_text_arrives(bench):
    taken = list(submitted(bench))
    stored = {
        name: bench.cluster.run("scontrol", "write", "batch_script", native_id(ref), "-")
        for name, _, ref in taken
    }

    assert {name for name, _, _ in taken} == HOSTILE.keys() - REFUSED
    for name, text, ref in taken:
        script = stored[name]
        assert list(directives(script, [])) == [], name
        assert script.startswith(f"#!/bin/bash -p\n# {ref.marker}: "), name
        assert subprocess.run(["/bin/bash", "-n"], input=script.encode(), check=False).returncode == 0, name
        assert bench.ended(ref).outcome is JobState.COMPLETED, name
        (log,) = bench.cluster.shared.rglob(f"{ref.marker}.out")
        assert log.read_bytes().decode().split("\0") == [text, text, "last", ""], name
