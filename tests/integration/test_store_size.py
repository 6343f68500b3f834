"""How much memory a live job takes: 2 KiB beside its spec, so that a million fit on a usual machine."""

from __future__ import annotations

import os

import pytest

from broker.store.changes import Change, Guard, Live
from broker.store.records import AttemptRecord
from tests.store_kit import BACKEND, LONG_S, World, new_job, opened

JOBS = 2000
LIMIT_BYTES = 2048
SPEC_BYTES = 437  # of a usual training job, packed; what is in it does not matter here


@pytest.fixture
def world(clean_redis):
    with opened(clean_redis, prefix="wb:") as store:
        yield World(store)


def used(world):
    """Without what clients and the append-only file hold for a moment."""
    info = world.store.client.info("memory")
    return info["used_memory"] - info["mem_clients_normal"] - info["mem_aof_buffer"]


def accept_many(world, count):
    for _ in range(count // 100):
        world.jobs.accept([one() for _ in range(100)])


def one():
    return new_job(
        spec=os.urandom(SPEC_BYTES),
        decision=os.urandom(400),
        name="resnet50-run7",
        labels={"team": "vision", "run": "resnet50-7"},
        digest="0123456789abcdef",
        groups=("researchers", "vision"),
        event='{"name":"resnet50-run7","kind":"training","owner":"ana","backend":"hpc"}',
    )


def hand_over_all(world):
    """To QUEUED, as the lifecycle leaves a job that a Slurm cluster has taken."""
    while claims := world.claim(lease_s=LONG_S):
        for claim in claims:
            guard = Guard(epoch=claim.record.epoch)
            assert world.jobs.move(claim.record.id, guard, taken(claim.record.id)) == "ok"


def taken(job_id):
    handle = {"cluster": "hpc", "id": "1234567", "submitted_at": 1790000000}
    attempt = AttemptRecord(
        number=1,
        marker=f"wb-test-{job_id.lower()}-1",
        backend=BACKEND,
        state="QUEUED",
        submitted_at=1790000000.123,
        handle=handle,
        native_state="PENDING",
        native_reason="Priority",
    )
    about = {"backend": BACKEND, "attempt": 1}
    return Change(
        set={
            "state": "QUEUED",
            "backend": BACKEND,
            "attempt": 1,
            "reason": "Priority",
            "next_queue": None,
        },
        attempt=attempt,
        decision=(1, os.urandom(400)),
        live=(BACKEND, Live(attempt=1, handle=handle, fingerprint="0123456789ab")),
        no_due=True,
        events=(("submitting", about), ("queued", {"attempt": 1})),
    )


def bytes_in(world, pattern):
    """What all keys of this pattern take."""
    client = world.store.client
    keys = list(client.scan_iter(match=world.key(pattern), count=1000))
    pipe = client.pipeline(transaction=False)
    for key in keys:
        pipe.memory_usage(key, samples=0)
    return sum(pipe.execute())


def test_a_live_job_takes_two_kib_beside_its_spec(world, record_property):
    """What the server uses more for 2,000 jobs, so with their share in every index.  Decisions have a limit
    of their own, and the stream of the project is as long as it is set to be, however many jobs live."""
    accept_many(world, 100)
    hand_over_all(world)  # the scripts are loaded, the shared keys exist
    apart = ("decisions:*", "events:*")
    before = used(world) - sum(bytes_in(world, pattern) for pattern in apart)

    accept_many(world, JOBS)
    hand_over_all(world)

    after = used(world) - sum(bytes_in(world, pattern) for pattern in apart)
    own = round((after - before) / JOBS) - SPEC_BYTES
    record_property("summary", f"store: a live job takes {own} bytes beside its spec")
    parts = ("job", "attempts", "history", "spec", "live", "index")
    shares = {part: bytes_in(world, f"{part}:*") // (JOBS + 100) for part in parts}
    assert world.store.backends.live_count(BACKEND) == JOBS + 100
    assert own <= LIMIT_BYTES, f"{own} bytes beside the spec of {SPEC_BYTES}; with their shares: {shares}"
