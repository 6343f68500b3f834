"""What an expression remembers: nothing that changes its value, and nothing that changes a decision."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_spec.jobs import JobSpec, Kind, Resources
from broker.policy_files import policy_at
from policies.engine import decide
from policies.expressions import BOOLEAN, NUMBER
from policies.facts import BackendFacts, Facts, ShapeFacts
from policies.variables import VARIABLES, JobValues, Values, language

WORDS = st.sampled_from(["", "slurm", "training", "h100", "größe", "\ud800"])
OF_TYPE = {
    "bool": st.booleans(),
    "int": st.integers(-2, 3),
    "double": st.sampled_from([0.0, 0.5, 1.0, 1e300, float("nan"), float("inf")]),
    "string": WORDS,
    "duration": st.sampled_from([timedelta(0), timedelta(minutes=11), timedelta(days=3)]),
    "list<string>": st.lists(WORDS, max_size=2),
    "map<string, string>": st.dictionaries(WORDS, WORDS, max_size=2),
    "map<string, double>": st.dictionaries(WORDS, st.floats(), max_size=2),
}
TEXTS = (
    'job.kind in ["training", "batch"] && backend.type == "slurm"',
    "backend.room > 0",
    "-20.0 * backend.backlog / (1.0 + backend.backlog)",
    'backend.snapshot_age > duration("10m")',
    "backend.queued / backend.running",
    'job.labels.team == "h100" || job.resources.gpus > job.resources.gpus_per_node',
    '"h100" in backend.gpu_types && job.time_limit < duration("1d")',
    "job . preemptible",
    "job.preemptible ? backend.free_gpus : backend.free_cpus",
    "2 > 1",
)


def expression(text):
    return language().compile(text, BOOLEAN | NUMBER)


def values_for(texts):
    """Values for all that these texts name, or nothing where nobody knows."""
    names = {name for text in texts for name in expression(text).names}
    return st.fixed_dictionaries({name: st.none() | OF_TYPE[VARIABLES[name]] for name in sorted(names)})


@given(text=st.sampled_from(TEXTS), seen=st.lists(values_for(TEXTS), max_size=8))
def test_what_is_remembered_is_what_comes_out_anew(text, seen):
    for values in [*seen, *seen]:
        assert repr(expression(text).evaluate(values)) == repr(expression(text).evaluate_anew(values))


@pytest.mark.parametrize("text", ['job.kind == "batch"', 'job . kind == "batch"', 'job.\nkind == "batch"'])
def test_another_value_gives_another_result_however_its_name_is_spelled(text):
    for kind in ("batch", "training"):
        assert expression(text).evaluate(defaultdict(lambda: None, {"job.kind": kind})) is (kind == "batch")


def test_an_expression_depends_on_what_it_names_alone():
    assert expression("backend.room > 0").names == ("backend.room",)


def test_more_values_than_are_remembered_are_told_apart():
    doubled = expression("2 * backend.nodes")

    assert [doubled.evaluate({"backend.nodes": n % 700}) for n in range(2100)] == [
        2 * (n % 700) for n in range(2100)
    ]


def worlds():
    """A few hundred states of three backends; many values come again and again."""
    for n in range(300):
        shape = ShapeFacts(name="gpu", count=8, cpus=64, memory_mib=2**19, gpus=8, free_cpus=64 * (n % 9))
        seen = {"reachable": n % 7 > 0, "shapes": (shape,) if n % 5 else None, "queued_count": n % 4}
        backends = tuple(
            BackendFacts(name=kind, type=kind, snapshot_age_s=200.0 * (n % 5), **seen)
            for kind in ("slurm", "kubernetes", "local")
        )
        yield Facts(backends=backends, owner="ana", now=1e9)


def test_what_was_decided_before_does_not_change_a_decision():
    policy = policy_at(None)
    specs = [JobSpec(kind=kind, name="x", resources=Resources(cpus_per_task=32)) for kind in Kind]
    asked = [(spec, facts) for spec in specs if spec.service or not spec.is_service for facts in worlds()]

    forwards = [decide(spec, facts, policy, binding=False) for spec, facts in asked]
    backwards = [decide(spec, facts, policy, binding=False) for spec, facts in reversed(asked)]

    assert forwards == backwards[::-1]


def test_every_variable_has_a_source():
    """One that has none would be an error only when a rule asks for it."""
    shape = ShapeFacts(name="gpu", count=1, cpus=1, memory_mib=1)
    backend = BackendFacts(name="a", type="slurm", shapes=(shape,), queued_count=0, snapshot_age_s=1.0)
    spec = JobSpec(kind=Kind.TRAINING, name="x", time_limit_s=60, resources=Resources(memory_per_node_mib=1))
    values = Values(JobValues(spec, Facts(backends=(backend,), owner="ana")), backend)

    assert [name for name in VARIABLES if values[name] is None] == []
