"""Why a job of Slurm waits, in sentences."""

from __future__ import annotations

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
