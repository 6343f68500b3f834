"""Decisions as the store keeps them: small, whole, and readable by every later release."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace

import pytest

from api_spec.decisions import Decision, Outcome, Refusal, ScorePart, Verdict
from api_spec.jobs import JobSpec, Kind
from api_spec.reasons import Reason
from broker.policy_files import policy_at
from policies.engine import decide
from policies.facts import BackendFacts, Facts, ShapeFacts
from policies.records import UnreadableRecord, pack, unpack

# One sentence each, as adapters write them: long, with numbers, and few of them alike.
SENTENCES = [
    "asks for {n} GPUs a node; the largest node (gpu-node-{n:03}) has 4 of type a100, and {n} have none",
    "asks for 7{n}0 GiB of memory a node; the largest of the {n} nodes has 51{n} GiB, of which 2 are kept",
    "cannot honour fabric 'gpudirect': none of the {n} nodes of partition part-{n} lists the feature ib{n}",
    "the time limit of {n} d 4 h is longer than the 2 d that partition 'long-{n}' of this cluster allows",
    "does not answer: connection to https://api-{n}.cluster-{n}.example:6443 timed out after 10 s (3 times)",
    "has {n}98 live jobs of this broker; {n}00 are allowed by the operator of the site in the last review",
]
CODES = [Reason.NEVER_FITS, Reason.NEVER_FITS, Reason.UNSUPPORTED, Reason.NEVER_FITS, Reason.BACKEND_DOWN,
         Reason.QUOTA_EXCEEDED]  # fmt: skip
FIELDS = [
    "/resources/gpus_per_node",
    "/resources/memory_per_node",
    "/resources/fabric",
    "/time_limit",
    None,
    None,
]


def refusals_of(number):
    return tuple(
        Refusal(CODES[which], SENTENCES[which].format(n=number * 7 + which), FIELDS[which])
        for which in {number % 6, (number + 1) % 6}
    )


def realistic(count):
    """Of ``count`` backends about half hold the job; the others lose for two long reasons each."""
    backends = [
        BackendFacts(
            name=f"cluster-{'abcdefghij'[number % 10]}{number}",
            type=("slurm", "kubernetes", "local")[number % 3],
            reachable=True,
            shapes=(
                ShapeFacts(
                    name="n", count=10 + number * 3, cpus=64, memory_mib=512_000, free_cpus=number * 37 % 160
                ),
            ),
            queued_count=number * 13 % 29,
            snapshot_age_s=0.5 + number * 1.618033,
            refusals=refusals_of(number) if number % 2 else (),
        )
        for number in range(count)
    ]
    facts = Facts(backends=tuple(backends), owner="someone", now=1_795_314_734.123456)
    return decide(JobSpec(kind=Kind.TRAINING, name="x"), facts, policy_at(None), binding=True, attempt=1)


@pytest.mark.parametrize(("count", "limit"), [(1, 512), (5, 1024), (20, 4096)])
def test_a_decision_is_small(count, limit):
    decision = realistic(count)

    assert len(decision.verdicts) == count
    assert len(pack(decision)) <= limit
    assert unpack(pack(decision)) == decision


def test_a_decision_in_which_every_backend_lost_for_two_long_reasons_is_small_as_well():
    decision = realistic(20)
    lost = tuple(
        replace(verdict, parts=(), score=0.0, refusals=refusals_of(number))
        for number, verdict in enumerate(decision.verdicts)
    )
    decision = replace(decision, verdicts=lost, outcome=Outcome.NOTHING_FITS, chosen=None)

    assert len(pack(decision)) <= 4096
    assert len(pack(replace(decision, verdicts=lost[:5]))) <= 1024


FULL = Decision(
    outcome=Outcome.PLACED,
    chosen="größe",
    summary="a 'quoted' \"sentence\" with ünïcode, \ud800 and a\nline",
    verdicts=(
        Verdict(
            backend="größe",
            type="slurm",
            score=-0.1 + 0.3,
            parts=(
                ScorePart(rule="r", points=1.5, message="m"),
                ScorePart(rule="s", points=-1e-6, message=""),
            ),
            snapshot_age_s=0.0,
        ),
        Verdict(
            backend="b",
            type="x",
            refusals=(Refusal(Reason.POLICY, "no", "/a~1b/0"), Refusal(Reason.LOST, "")),
        ),
    ),
    binding=True,
    policy="site",
    policy_digest="ab" * 32,
    decided_at=1_795_314_734.123456,
    attempt=3,
    warnings=("one", "two"),
    options={"partition": "gpu", "nice": 3, "list": [1, {"a": None}], "share": 0.5, "on": True},
)  # fmt: skip


@pytest.mark.parametrize(
    "decision",
    [
        FULL,
        replace(FULL, attempt=None, binding=False, options={}, warnings=()),
        replace(FULL, outcome=Outcome.NOTHING_REACHABLE, chosen=None, verdicts=()),
        *(replace(FULL, verdicts=(Verdict(backend="a", type="t", refusals=(Refusal(code, "x"),)),))
          for code in Reason),
    ],
)  # fmt: skip
def test_what_is_unpacked_is_what_was_packed(decision):
    assert unpack(pack(decision)) == decision
    assert pack(unpack(pack(decision))) == pack(decision)


# ``pack(FULL)`` of the first release.  It must be readable for ever: change the code, never this.
OF_RELEASE_0_1 = (
    "MaVVOw7CMAy9SuWFpZSG9ENzBm5AGQpUgFSlogSBhEDcBG7AxsTW83AHntOKwkwiZUns2M/Pz5OuZMuqftTXnHnp9DYYlvmi"
    "56RARhtukJQa6tVPXd/nYKXrvG4X25dZqguLggCQa2NdzP7b8BUnoRRBLANPDGUQRq5ETiV/Q2ZfAosjdUKoCIKEG816oqRL"
    "xXprSE0EXmWkeBCfpohuBZBI+V7oEluZapefGJUu+S+y+p5IfteoJXCF+NhHSzEuRN73I7C9gR7x06Gd/y3uHw3QJY5Bdhaz"
    "gW/Nx2gisqbwjvUG"
)


def test_a_record_of_the_first_release_is_read():
    assert unpack(b64decode(OF_RELEASE_0_1)) == FULL


@pytest.mark.parametrize(
    "record",
    [b"", b"2", b"\x00junk", b"1", b"1junk", pack(FULL)[:-20], b"2" + pack(FULL)[1:]],
    ids=["nothing", "newer", "no version", "empty", "junk", "cut", "newer and whole"],
)
def test_a_record_that_cannot_be_read_is_told_so(record):
    with pytest.raises(UnreadableRecord):
        unpack(record)
