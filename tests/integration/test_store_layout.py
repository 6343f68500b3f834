"""The documented layout against a server after all that a broker does, and after the retention."""

from __future__ import annotations

import pytest

from api_spec.jobs import Array, Dependency, Kind, Retry, When
from api_spec.states import FINAL, JobState
from broker.auth import NewToken
from broker.heartbeat import Heartbeat
from broker.store.layout import FOREIGN, KEYS, NEVER, OWN, key_of
from tests.builders import spec
from tests.kit import ANA, EVE, fake_kit

pytestmark = pytest.mark.process
DAY_MS = 24 * 3600 * 1000


def keys_of(kit):
    """Name without the prefix -> (type, milliseconds left).  All that is on the server must be ours."""
    client, prefix = kit.store.client, kit.store.prefix
    out = {}
    for key in client.scan_iter(count=1000):
        name = key.decode()
        if name.startswith(FOREIGN):
            continue
        assert name.startswith(prefix), f"{name} has no prefix"
        kind, left = client.type(key).decode(), client.pttl(key)
        if left != -2:  # it has just expired
            out[name.removeprefix(prefix)] = (kind, left)
    return out


def wrong_with(kit, name, kind, left):
    """Why a key is not as the layout says; None: it is."""
    row = key_of(name)
    if row is None:
        return f"{name} is not in the layout"
    if kind != row.type:
        return f"{name} is a {kind}, not a {row.type}"
    expires = left >= 0
    retention_ms = kit.settings.retention_s * 1000
    if expires is not (row.expiry == OWN):
        return f"{name} (expiry {row.expiry}) " + ("expires" if expires else "does not expire")
    if name.startswith("idempotency:") and left > min(DAY_MS, retention_ms):
        return f"{name} outlives a day, or its jobs"
    if name.startswith("events:") and left > retention_ms:
        return f"{name} lives longer than the retention"
    return None


class Watch:
    """Looks at every key now and then, and remembers which rows of the layout were there."""

    def __init__(self, kit):
        self.kit = kit
        self.seen = set()

    def look(self):
        keys = keys_of(self.kit)
        faults = [
            fault for name, (kind, left) in keys.items() if (fault := wrong_with(self.kit, name, kind, left))
        ]
        assert not faults, "\n".join(sorted(faults))
        self.seen |= {key_of(name).pattern for name in keys}
        return keys


def live_a_day(kit, watch):
    """One of everything.  Jobs run until they are told to finish, but for those with FAKE_RUN."""
    finish = kit.fake.faults.finish
    running = kit.submit(spec(labels={"team": "vision", "run": "7"}), key="k", body_digest="d")
    kit.reaches(running, JobState.RUNNING)
    behind = kit.submit(spec(name="behind", depends_on=(Dependency(job=running),)))
    held = kit.submit(spec(hold=True))
    never = kit.submit(spec(name="never", depends_on=(Dependency(job=held, when=When.SUCCEEDED),)))
    array = kit.submit(spec(name="array", array=Array(indices="0-3")))
    service = kit.submit(spec(kind=Kind.INFERENCE, name="serve"))
    again = kit.submit(spec(name="again", retry=Retry(max_attempts=2, on=("NonZeroExit",))))
    theirs = kit.submit(spec(), who=EVE)
    kit.store.keeps.ask("fake", [(running, 1)], 0)
    watch.look()
    kit.broker.cancel(held, ANA)
    watch.look()  # the dependant is still to be judged
    kit.reaches(service, JobState.RUNNING)
    kit.reaches(again, JobState.RUNNING)
    kit.settle(lambda: kit.get(array).tasks, why="the tasks are seen")
    kit.broker.update(service, ANA, replicas=2)
    kit.broker.pause_backend("fake", ANA)
    kit.broker.cancel(service, ANA)
    watch.look()
    kit.broker.resume_backend("fake", ANA)
    finish(marker_of(kit, again), exit_code=1)
    kit.settle(lambda: kit.get(again).attempt == 2, why="the second attempt")
    finish(marker_of(kit, running))
    for job_id in (behind, array, again):
        kit.reaches(job_id, JobState.RUNNING)
        finish(marker_of(kit, job_id))
    watch.look()
    kit.broker.cancel(theirs, EVE)
    jobs = [(job_id, ANA) for job_id in (running, behind, held, never, array, service, again)] + [
        (theirs, EVE)
    ]
    kit.settle(lambda: all(kit.get(job_id, who).state in FINAL for job_id, who in jobs), why="all have ended")
    watch.look()
    return [job_id for job_id, _ in jobs]


def marker_of(kit, job_id):
    return kit.broker.attempts(job_id, ANA)[-1].marker


@pytest.fixture
def busy(clean_redis, tmp_path):
    changes = {"retention_s": 3600.0, "pack_after_s": 1800.0, "sweep_s": 5.0}
    with fake_kit(clean_redis, tmp_path, {"run_s": 1000}, **changes) as kit:
        yield kit


@pytest.fixture
def hasty(clean_redis, tmp_path):
    """Ended jobs are packed at once and forgotten a second later."""
    changes = {"retention_s": 1.0, "pack_after_s": 0.0, "sweep_s": 0.05}
    with fake_kit(clean_redis, tmp_path, {"run_s": 1000}, **changes) as kit:
        yield kit


def test_every_key_is_as_documented_and_every_documented_key_exists(busy):
    kit, watch = busy, Watch(busy)
    secret, _ = kit.broker.tokens.create(NewToken(subject="ana", project="vision"))
    assert secret

    ids = live_a_day(kit, watch)
    kit.store.archive.pack(kit.store.jobs.parts(ids[0]))
    kit.store.leases.acquire("sweeper", "a", 60)
    kit.store.leases.take_slot("drain:fake", "a", 1, 60)
    kit.store.leases.hint("release")
    Heartbeat(kit.store, "worker").beat()
    Heartbeat.of_log_reader(kit.store, "fake").beat()
    kit.store.count("stale_writes")
    with kit.store.asks.asked("fake", {"what": "check"}):
        watch.look()

    assert {key.pattern for key in KEYS} - watch.seen == set()


def test_after_the_retention_nothing_is_left_of_any_job(hasty):
    """Jobs come and go for years; what each leaves behind is what fills the store in the end."""
    kit = hasty
    _, token = kit.broker.tokens.create(NewToken(subject="ana", project="vision"))
    ids = live_a_day_in_a_hurry(kit)
    kit.broker.tokens.revoke(token["id"])

    def swept():
        kit.broker.sweep()
        return not what_is_left()

    def what_is_left():
        return sorted(name for name in keys_of(kit) if key_of(name).expiry != NEVER)

    try:
        kit.settle(swept, deadline_s=4)
    except AssertionError:
        pytest.fail("still there: " + ", ".join(what_is_left()))

    assert not [name for name in keys_of(kit) if any(job_id in name for job_id in ids)]


def live_a_day_in_a_hurry(kit):
    """Cancelled in every place where a job can be, failed, completed, behind others."""
    first = kit.submit(spec(), key="k", body_digest="d")
    kit.reaches(first, JobState.RUNNING)
    second = kit.submit(spec(depends_on=(Dependency(job=first),)))
    early = kit.submit(spec())
    kit.broker.cancel(early, ANA)
    held = kit.submit(spec(hold=True))
    behind = kit.submit(spec(depends_on=(Dependency(job=held),)))
    kit.broker.cancel(held, ANA)
    array = kit.submit(spec(array=Array(indices="0-3")))
    service = kit.submit(spec(kind=Kind.INFERENCE, name="serve"))
    for job_id in (array, service):
        kit.reaches(job_id, JobState.RUNNING)
        kit.broker.cancel(job_id, ANA)
    kit.fake.faults.finish(marker_of(kit, first), exit_code=1)
    ids = [first, second, early, held, behind, array, service]
    kit.settle(lambda: all(gone_or_ended(kit, job_id) for job_id in ids), why="all have ended")
    return ids


def gone_or_ended(kit, job_id):
    record = kit.store.jobs.read(job_id)
    return record is None or record.state in FINAL


def test_the_table_tells_apart_what_it_names():
    names = ["job:01ARZ3NDEKTSV4RRFFQ69G5FAV", "due:submit:hpc:vision", "events:vision", "meta"]

    assert [key_of(name).pattern for name in names] == ["job:<id>", "due:<name>", "events:<name>", "meta"]
    assert key_of("job:7") is key_of("jobs") is key_of("metadata") is None
    assert len({key.pattern for key in KEYS}) == len(KEYS)
