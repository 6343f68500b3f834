"""What a server and a store must be before the broker trusts them with jobs, and when they are full."""

from __future__ import annotations

import pytest
from redis import Redis

from api_spec.errors import InvalidConfiguration, StoreUnavailable
from broker.embedded.server import EmbeddedServer
from broker.store import open_store
from broker.store.connection import (
    RECORD_VERSIONS,
    FullGuard,
    connect,
    errors_in_our_words,
    is_durable,
    refuse_unfit_server,
)
from broker.store.jobs import Written
from broker.store.store import StoreOptions
from tests.builders import spec
from tests.fakes import running_fake
from tests.helpers import wait_until
from tests.kit import ANA, make_kit, settings_for
from tests.store_kit import World, opened

pytestmark = pytest.mark.process
MIB = 1 << 20
REWRITES = ("in_progress", "scheduled")


@pytest.fixture(scope="module")
def own_server(tmp_path_factory):
    """A server whose settings these tests may change."""
    with EmbeddedServer(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture
def server(own_server):
    """As good as new for each test; the client is for what only an operator does."""
    usual = {"appendonly": "yes", "appendfsync": "always", "maxmemory": "0", "maxmemory-policy": "noeviction"}
    with Redis.from_url(own_server.url, decode_responses=True) as client:
        client.flushall()
        yield own_server, client
        for name, value in usual.items():
            client.config_set(name, value)
        # A server that is writing its first append-only file does not stop when it is asked to.
        wait_until(lambda: not any(client.info("persistence")[f"aof_rewrite_{n}"] for n in REWRITES))


def refusal(url, **options):
    with pytest.raises(InvalidConfiguration) as refused:
        open_store(url, StoreOptions(**options))
    return str(refused.value)


# ---- the server --------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["redis+cluster://localhost:6379", "rediss+cluster://h:1/0"])
def test_a_cluster_is_refused_before_anybody_calls_it(url):
    with pytest.raises(InvalidConfiguration, match="Cluster"):
        connect(url)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
def test_a_server_that_may_evict_jobs_is_refused(server, policy):
    own, client = server
    client.config_set("maxmemory-policy", policy)

    assert f"maxmemory-policy is {policy}" in refusal(own.url)
    assert "noeviction" in refusal(own.url, allow_volatile=True), "volatile is one thing, evicting another"


def test_a_server_that_forgets_everything_is_refused_unless_that_is_wanted_and_then_said(server, caplog):
    own, client = server
    client.config_set("appendonly", "no")

    assert "appendonly is off" in refusal(own.url)
    assert caplog.records == []
    with opened(own.url, allow_volatile=True) as store:
        assert store.meta()["incarnation"] == "1"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "a restart of it loses jobs" in caplog.text


def test_all_faults_are_told_at_once(server):
    own, client = server
    client.config_set("appendonly", "no")
    client.config_set("maxmemory-policy", "allkeys-lru")

    told = refusal(own.url)

    assert "appendonly" in told and "maxmemory-policy" in told


@pytest.mark.parametrize(
    "fsync, appendonly, durable",
    [("always", "yes", True), ("everysec", "yes", False), ("always", "no", False)],
)
def test_only_a_server_that_writes_before_it_answers_is_durable(server, fsync, appendonly, durable):
    own, client = server
    client.config_set("appendonly", appendonly)
    client.config_set("appendfsync", fsync)

    with opened(own.url, allow_volatile=True) as store:
        assert is_durable(store.client) is durable


def test_nobody_there_is_told_in_our_words(tmp_path):
    with pytest.raises(StoreUnavailable):
        open_store(f"unix://{tmp_path}/nobody.sock", StoreOptions())


def test_an_old_server_is_refused():
    class Old:
        def info(self):
            return {"redis_version": "6.2.14", "aof_enabled": 1, "cluster_enabled": 1}

    with pytest.raises(InvalidConfiguration, match=r"6\.2\.14.*7\.0 or later.*cluster mode"):
        refuse_unfit_server(Old(), allow_volatile=False)


# ---- the store ---------------------------------------------------------------------------------------


def test_a_newer_store_is_refused(server):
    """What it holds cannot be read, and what this release writes may break the newer one."""
    own, client = server
    with opened(own.url, prefix="wb:"):
        client.hset("wb:meta", "v_max", RECORD_VERSIONS[1] + 1)

    assert "use a newer broker" in refusal(own.url)


def test_a_store_of_this_release_is_opened_by_any_number_of_processes(server):
    own, _ = server
    with opened(own.url, prefix="wb:") as first, opened(own.url, prefix="wb:") as second:
        assert first.meta() == second.meta()
        assert first.meta()["v_max"] == str(RECORD_VERSIONS[1])
        assert first.meta()["incarnation"] == "1"


def test_the_store_of_another_instance_is_refused(server):
    """Two instances on one store would submit each other's jobs under their own markers."""
    own, _ = server
    with opened(own.url, prefix="wb:", instance="prod"):
        pass

    assert "belongs to the instance prod, not test" in refusal(own.url, instance="test")


@pytest.mark.parametrize("fault", ["newer", "foreign"])
def test_a_process_that_is_refused_changes_nothing(server, fault):
    """Its limits would rule over the jobs and events of those who may use the store."""
    own, client = server
    with opened(own.url, prefix="wb:", instance="prod", events_kept=500):
        if fault == "newer":
            client.hset("wb:meta", "v_max", RECORD_VERSIONS[1] + 1)
    before = {key: client.hgetall(key) for key in client.keys("wb:*")}

    refusal(own.url, instance="prod" if fault == "newer" else "test", events_kept=7, retention_s=1)

    assert {key: client.hgetall(key) for key in client.keys("wb:*")} == before


def test_two_instances_live_on_one_server_under_two_prefixes(server):
    own, _ = server
    with (
        opened(own.url, prefix="a:", instance="one") as one,
        opened(own.url, prefix="b:", instance="two") as two,
    ):
        job_id = World(one).accept()

        assert two.jobs.read(job_id) is None
        assert World(two).claim() == []


def test_a_restart_of_a_durable_server_keeps_the_incarnation_and_another_does_not(tmp_path):
    for fsync, expected in (("always", "1"), ("everysec", "2")):
        own = EmbeddedServer(tmp_path / fsync, appendfsync=fsync)
        with own, opened(own.url, prefix="wb:") as store:
            job_id = World(store).accept()
        with own, opened(own.url, prefix="wb:") as store:
            assert store.meta()["incarnation"] == expected
            assert store.jobs.read(job_id) is not None
            assert not store.notice_restart(), "noticed once"


# ---- when it is full ---------------------------------------------------------------------------------


def ballast(client, mib):
    """Made by the server: what carries so much to it fills its buffers, which it gives up a little later."""
    client.setrange("ballast", mib * MIB - 1, b"x")


def fill(client, share):
    """Memory is used up to ``share`` of what is allowed."""
    used = int(client.info("memory")["used_memory"])
    client.config_set("maxmemory", int(used / share))


def test_at_85_percent_new_jobs_are_refused_and_the_others_go_on(server):
    own, client = server
    with opened(own.url) as store:
        world = World(store)
        running, waiting = world.running(), world.accept()
        ballast(client, 8)
        fill(client, 0.90)

        with pytest.raises(StoreUnavailable, match="no new jobs until there is room"):
            FullGuard(store.client).refuse_when_full()

        assert world.end(running) is Written.OK
        assert [claim.record.id for claim in world.claim()] == [waiting]
        assert store.jobs.cancel(waiting, "user:ana") == "ended"
        assert world.pack(running) == "ok"


@pytest.mark.parametrize("share, refused", [(0.80, False), (0.84, False), (0.86, True), (0.99, True)])
def test_the_guard_looks_at_what_is_used(server, share, refused):
    own, client = server
    with opened(own.url) as store:
        ballast(client, 16)
        fill(client, share)

        if refused:
            with pytest.raises(StoreUnavailable):
                FullGuard(store.client).refuse_when_full()
        else:
            FullGuard(store.client).refuse_when_full()


def test_a_server_without_a_limit_is_never_full(server):
    own, _ = server
    with opened(own.url) as store:
        FullGuard(store.client).refuse_when_full()


def test_a_write_that_finds_no_memory_leaves_nothing_behind(server):
    """Beyond the limit Redis refuses a script before it has begun, not in its middle."""
    own, client = server
    with opened(own.url) as store:
        world = World(store)
        before = world.names()
        ballast(client, 8)
        fill(client, 1.05)

        with pytest.raises(StoreUnavailable, match="full"), errors_in_our_words():
            world.accept()

        client.config_set("maxmemory", 0)
        assert world.names() == before


def test_the_broker_refuses_a_submission_while_its_store_is_full(server, tmp_path):
    own, client = server
    with running_fake(tmp_path) as fake:
        kit = make_kit(settings_for(own.url, tmp_path, fake.config()), fake)
        job_id = kit.submit(spec())
        ballast(client, 8)
        fill(client, 0.90)
        kit.store.full = FullGuard(kit.store.client)  # looks once a second at most

        with pytest.raises(StoreUnavailable):
            kit.submit(spec())

        assert kit.broker.cancel(job_id, ANA).cancel_requested or kit.get(job_id).state == "CANCELLED"
        kit.store.close()
