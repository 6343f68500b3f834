"""Why a job of Slurm waits, in sentences."""

from __future__ import annotations

import pytest

from adapters.slurm import explain
from adapters.slurm.live import Queue
from api_spec.reasons import Reason
from tests.slurm_rows import row


def test_a_job_that_slurm_holds_because_it_could_not_be_launched_is_not_its_users_doing():
    held = row("PENDING", reason="JobHeldUser", message="launch failed requeued held")

    (why,) = explain.reasons([held], Queue(began_at=0.0))

    assert (why.code, why.message) == (
        Reason.HELD,
        "Slurm could not launch it, and holds it until somebody releases it",
    )


# A row that waits, and what is said of it.
WAITING = {
    "nobody has looked": ({"reason": "None"}, "Slurm has not looked at it yet"),
    "its turn": ({"reason": "Resources"}, "it is the next of its partition and waits for free resources"),
    "its turn, with a plan": (
        {"reason": "Resources", "planned_at": 1_800_000_000.0},
        "it is the next of its partition and waits for free resources; "
        "Slurm plans to start it at 2027-01-15T08:00:00Z",
    ),
    "a limit of its QOS": (
        {"reason": "QOSMaxGRESPerUser", "qos": "high"},
        "the limit QOSMaxGRESPerUser of the QOS high is reached",
    ),
    "a limit of its account": (
        {"reason": "AssocGrpCpuLimit", "account": "vision"},
        "the limit AssocGrpCpuLimit of the account vision is reached",
    ),
    "another job": (
        {"reason": "Dependency", "dependency": "singleton(unfulfilled),afterok:12(unfulfilled)"},
        "it waits for afterok:12(unfulfilled)",
    ),
    "one of its own name": (
        {"reason": "Dependency", "dependency": "singleton(unfulfilled)"},
        "another job under its name has to end first",
    ),
    "what we do not know": ({"reason": "MoonPhase"}, "Slurm says MoonPhase"),
}


@pytest.mark.parametrize("case", WAITING)
def test_why_a_job_waits_is_said_with_what_slurm_shows(case):
    changes, sentence = WAITING[case]
    (why,) = explain.reasons([row("PENDING", **changes)], Queue(began_at=0.0))

    assert why.message == sentence


def test_a_job_that_waits_for_its_turn_is_told_how_many_are_ahead():
    def waits(number, priority, partition="train"):
        return row(
            "PENDING",
            id=number,
            name=f"wb-{number}",
            reason="Priority",
            priority=priority,
            partition=partition,
        )

    ours, first, later = waits(3, 5), waits(2, 5), waits(4, 5)  # the same priority, by age
    others = [first, later, waits(5, 9), waits(6, 7), waits(7, 3), waits(8, 9, "debug")]
    queue = Queue(began_at=0.0, by_name={one.name: [one] for one in (ours, *others)})

    (why,) = explain.reasons([ours], queue)

    assert why.message == "3 jobs wait ahead of it in the partition train; its priority is 5"
