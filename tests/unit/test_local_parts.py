"""The pure parts of the local backend, and the steps of its ledger."""

from __future__ import annotations

import dataclasses
import sqlite3

import pytest

from adapters.base import AttemptRef, Inventory, NodeShape
from adapters.local import attempts, cgroups, codec, environment, ledger, options, render, slots, words
from adapters.local.environment import Seat
from adapters.local.refusals import refusals
from api_spec.jobs import (
    Array,
    Dependency,
    Fabric,
    Health,
    Input,
    JobSpec,
    Kind,
    Measured,
    Metrics,
    Model,
    Output,
    OutputOf,
    Placement,
    Preset,
    Replicas,
    Resources,
    Retry,
    ScaleOn,
    SecretRef,
    Service,
    Volume,
    When,
)
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState

MACHINE = Inventory(
    as_of=0.0,
    shapes=(NodeShape(name="here", count=1, cpus=8, memory_mib=16384, gpus=2, gpu_type="a100"),),
)
OPTIONS = options.load("/data", {"cpus": 8, "memory_mib": 16384, "node": "here"})
REF = AttemptRef(marker="wb-x-01j-2", job_id="01J", number=2)


def spec(**changes):
    return JobSpec(**{"kind": Kind.BATCH, "name": "job", "command": ("true",), **changes})


def service(**changes):
    return spec(kind=Kind.INFERENCE, service=Service(port=8000, **changes))


def wants(**resources):
    return spec(resources=Resources(**resources))


def mounts(source, mount_path, **changes):
    return spec(volumes=(Volume(source=source, mount_path=mount_path, **changes),))


def sets(**placement):
    return spec(placement=Placement(**placement))


UNSUPPORTED, NEVER_FITS = Reason.UNSUPPORTED, Reason.NEVER_FITS

# ---- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(spec(), id="a command"),
        pytest.param(spec(command=(), script="echo"), id="a script"),
        pytest.param(
            spec(resources=Resources(cpus_per_task=8, gpus_per_node=2, gpu_type="a100")), id="all of it"
        ),
        pytest.param(spec(volumes=(Volume(source="/data/", mount_path="/data"),)), id="a path in its place"),
        pytest.param(spec(placement=Placement(local={"grace_s": 2.5})), id="grace"),
        pytest.param(spec(placement=Placement(options={"other": {"qos": "high"}})), id="another's options"),
        pytest.param(service(model=Model(uri="models:/a@b")), id="a model"),
    ],
)
def test_what_the_machine_can_do_is_not_refused(wanted):
    assert refusals(wanted, MACHINE, "here") == []


@pytest.mark.parametrize(
    "wanted, code, field, numbers",
    [
        (spec(image="x"), UNSUPPORTED, "/image", ""),
        (spec(command=()), Reason.INVALID_SPEC, "/command", ""),
        (wants(nodes=2), NEVER_FITS, "/resources/nodes", "2 nodes"),
        (wants(tasks_per_node=2), UNSUPPORTED, "/resources/tasks_per_node", "2"),
        (wants(mig_profile="1g"), UNSUPPORTED, "/resources/mig_profile", ""),
        (wants(fabric=Fabric.RDMA), UNSUPPORTED, "/resources/fabric", "rdma"),
        (wants(cpus_per_task=9), NEVER_FITS, "/resources/cpus_per_task", "9 CPUs; the machine has 8"),
        (wants(memory_per_node_mib=20000), NEVER_FITS, "/resources/memory_per_node", "16384"),
        (wants(gpus_per_node=3), NEVER_FITS, "/resources/gpus_per_node", "3 GPUs; the machine has 2"),
        (wants(gpus_per_node=1, gpu_type="h100"), NEVER_FITS, "/resources/gpu_type", "a100"),
        (mounts("pvc:a", "/a"), UNSUPPORTED, "/volumes/0/source", "pvc:a"),
        (mounts("/a", "/b"), UNSUPPORTED, "/volumes/0/mount_path", "/b"),
        (mounts("/a", "/a", read_only=True), UNSUPPORTED, "/volumes/0/read_only", ""),
        (service(scale_on=ScaleOn(metric="cpu", target=70)), UNSUPPORTED, "/service/scale_on", ""),
        (sets(local={"qos": "x"}), UNSUPPORTED, "/placement/local/qos", "qos"),
        (sets(options={"here": {"qos": 1}}), UNSUPPORTED, "/placement/options/here/qos", ""),
        (sets(local={"grace_s": "long"}), Reason.INVALID_SPEC, "/placement/local/grace_s", "long"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("/") else "",
)
def test_what_the_machine_cannot_honour_is_refused_by_field(wanted, code, field, numbers):
    (refusal,) = refusals(wanted, MACHINE, "here")

    assert (refusal.code, refusal.field) == (code, field)
    assert numbers in refusal.message


def test_without_an_inventory_no_size_is_refused():
    assert refusals(spec(resources=Resources(cpus_per_task=999)), None) == []


# ---- environment and rendering -----------------------------------------------------------------------


def test_the_contract_wins_over_what_a_spec_sets():
    wanted = spec(environment={"BROKER_JOB_ID": "forged", "A": "b"})

    found = environment.of_job(wanted, REF, Seat(), "/out", OPTIONS)

    assert (found["BROKER_JOB_ID"], found["BROKER_ATTEMPT"], found["A"]) == ("01J", "2", "b")


@pytest.mark.parametrize(
    "uri, value",
    [
        ("file:///a%20b", "/a b"),
        ("file://localhost/a", "/a"),
        ("/a/b", "/a/b"),
        ("s3://bucket/key?versionId=1", "s3://bucket/key?versionId=1"),
        ("file://elsewhere/a", "file://elsewhere/a"),
    ],
)
def test_an_input_of_this_machine_is_a_path_and_any_other_stays_an_address(uri, value):
    wanted = spec(inputs=(Input(name="the-data", uri=uri),))

    assert environment.of_job(wanted, REF, Seat(), "/out", OPTIONS)["BROKER_INPUT_THE_DATA"] == value


def test_a_replica_finds_its_port_and_its_model():
    found = environment.of_job(
        service(model=Model(uri="models:/a@b")), REF, Seat(index=3, port=77), "/o", OPTIONS
    )

    assert (found["BROKER_PORT"], found["BROKER_REPLICA"]) == ("77", "3")
    assert found["BROKER_MODEL_URI"] == "models:/a@b"


def test_what_is_rendered_is_what_is_run_with_secrets_by_reference():
    wanted = spec(
        command=("python", "a b.py"),
        secrets={"KEY": SecretRef(name="wandb", key="token")},
        resources=Resources(memory_per_node_mib=512),
        time_limit_s=60,
    )

    text = render.render(wanted, REF, "/data", OPTIONS)

    assert "exec       python 'a b.py'\n" in text
    assert "  KEY from the secret wandb/token\n" in text
    assert "512 MiB of memory, 60 s, then SIGTERM and 10 s later SIGKILL" in text
    assert "BROKER_OUTPUT_DIR=/data/outputs/wb-x-01j-2" in text


def test_a_script_is_rendered_whole():
    text = render.render(
        spec(command=(), script="#!/bin/bash\necho 1\n", array=Array(indices="0-9", max_running=2)),
        REF,
        "/d",
        OPTIONS,
    )

    assert "#!/bin/bash\necho 1\n" in text
    assert "array      0-9, 2 at once" in text


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"cpu": 3}, "no option cpu"),
        ({"cpus": -1}, "cpus is a whole number"),
        ({"cpus": True}, "cpus is a whole number"),
        ({"grace_s": "1"}, "grace_s is a number of seconds"),
    ],
)
def test_a_wrong_option_is_told_by_name(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        options.load("/data", given)


def test_options_travel_to_the_agent_as_they_are():
    assert options.from_json(options.to_json(OPTIONS)) == OPTIONS


# ---- the codec ---------------------------------------------------------------------------------------

FULL = JobSpec(
    kind=Kind.INFERENCE,
    name="all",
    project="vision",
    command=("a", "b"),
    environment={"A": "1"},
    secrets={"K": SecretRef(name="n", key="k")},
    resources=Resources(cpus_per_task=4, fabric=Fabric.RDMA, memory_per_node_mib=5),
    time_limit_s=3,
    array=Array(parameters=({"lr": 0.1, "deep": {"x": [1]}},), max_running=2),
    depends_on=(Dependency(job="J", when=When.READY),),
    retry=Retry(max_attempts=3, on=("NodeLost",)),
    volumes=(Volume(source="/a", mount_path="/a"),),
    inputs=(Input(name="m", from_output=OutputOf(job="J", output="o")),),
    outputs=(Output(name="o", path="p"),),
    labels={"a": "b"},
    placement=Placement(backends=("x",), local={"grace_s": 1}, options={"x": {"y": 1}}),
    service=Service(
        port=1,
        scale_on=ScaleOn(metric="cpu", target=70.0, measured=Measured.EXTERNAL, selector=(("a", "b"),)),
        health=Health(live_path="/live"),
        model=Model(uri="u"),
        preset=Preset.VLLM,
        metrics=Metrics(port=2),
    ),
)


@pytest.mark.parametrize("wanted", [spec(), FULL], ids=["least", "most"])
def test_a_specification_comes_back_from_the_ledger_as_it_was(wanted):
    assert codec.load_spec(codec.dump_spec(wanted)) == wanted


def test_the_full_specification_sets_every_field_that_a_default_could_hide():
    """Or the test above would not notice a field that the codec drops."""
    hidden = {"image", "script", "arguments", "working_directory", "priority", "preemptible", "hold"}

    assert {
        one.name for one in dataclasses.fields(JobSpec) if getattr(FULL, one.name) == one.default
    } <= hidden


def test_a_reference_comes_back_as_it_was():
    ref = AttemptRef(marker="m", job_id="J", number=3, task_indices=(1, 5), replicas=2, submitted_at=1.5)

    assert codec.load_ref(codec.dump_ref(ref)) == ref


@pytest.mark.parametrize("indices", [[0], [0, 1, 2], [5, 7, 9], [0, 1, 5, 6, 9], list(range(10_000))])
def test_task_indices_are_packed_and_unpacked(indices):
    packed = attempts.pack(indices)

    assert attempts.unpack(packed) == indices
    assert len(packed) < 20


# ---- slots -------------------------------------------------------------------------------------------


def test_gpus_are_given_by_index_and_never_twice():
    free = slots.Slots(8, 1000, (0, 1, 2))

    rest, first = free.take(slots.Need(1, 0, 2))
    _, second = rest.take(slots.Need(1, 0, 1))

    assert (first, second) == ((0, 1), (2,))
    assert not rest.hold(slots.Need(1, 0, 2))


# ---- observations ------------------------------------------------------------------------------------


@pytest.fixture
def connection(tmp_path):
    ledger.create(str(tmp_path / "ledger.db"))
    with ledger.opened(str(tmp_path / "ledger.db")) as connection:
        yield connection


def task(connection, index, state, **columns):
    columns = {"attempt": 1, "idx": index, "state": state, "launch": f"l{index}", **columns}
    marks = ", ".join("?" * len(columns))
    connection.execute(f"INSERT INTO tasks ({', '.join(columns)}) VALUES ({marks})", tuple(columns.values()))
    connection.execute("UPDATE attempts SET next = next + 1")


def seen(connection):
    (record,) = attempts.of_markers(connection, [REF.marker])
    return words.observation(record, "here", "/out", "127.0.0.1")


DONE = {"outcome": "COMPLETED", "reason": "Completed", "exit_code": 0, "started_at": 1.0, "ended_at": 2.0}
CUT = {"outcome": "CANCELLED", "reason": "Cancelled", "ended_at": 4.0}
BAD = {
    "outcome": "FAILED",
    "reason": "NonZeroExit",
    "exit_code": 3,
    "message": "ended with exit code 3",
    "ended_at": 3.0,
}


@pytest.mark.parametrize(
    "tasks, state, reason",
    [
        ([], AttemptState.QUEUED, Reason.CAPACITY),
        ([("STARTING", {})], AttemptState.QUEUED, Reason.STARTING),
        ([("RUNNING", {})], AttemptState.RUNNING, None),
        ([("ENDED", DONE)], AttemptState.RUNNING, None),
        ([("ENDED", DONE), ("STARTING", {})], AttemptState.RUNNING, None),
        ([("ENDED", DONE), ("ENDED", DONE)], AttemptState.ENDED, Reason.COMPLETED),
        ([("ENDED", DONE), ("ENDED", BAD)], AttemptState.ENDED, Reason.NON_ZERO_EXIT),
        ([("ENDED", CUT)], AttemptState.QUEUED, Reason.CAPACITY),
        ([("ENDED", CUT), ("STARTING", {})], AttemptState.QUEUED, Reason.STARTING),
        ([("ENDED", CUT), ("RUNNING", {})], AttemptState.RUNNING, None),
        ([("ENDED", CUT), ("ENDED", DONE)], AttemptState.ENDED, Reason.CANCELLED),
        ([("ENDED", BAD), ("ENDED", CUT)], AttemptState.ENDED, Reason.CANCELLED),
    ],
)
def test_the_state_of_an_array_follows_from_its_tasks(connection, tasks, state, reason):
    """Once one task has run the attempt does not go back to QUEUED."""
    attempts.record(connection, REF, spec(array=Array(indices="0-1")))
    for index, (word, columns) in enumerate(tasks):
        task(connection, index, word, **columns)

    found = seen(connection)

    assert (found.state, found.reason) == (state, reason)
    assert set(found.tasks) == {0, 1}


AGAIN = {"message": "ended with exit code 3", "ended_at": 3.0}
READY = ("RUNNING", {"ready": 1})


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([READY, READY], None),
        ([READY], "1 replica waits for free slots on this machine; each asks for 2 CPUs, 64 MiB of memory"),
        ([], "2 replicas wait for free slots on this machine; each asks for 2 CPUs, 64 MiB of memory"),
        ([READY, ("STARTING", {})], "replica 1 is being started"),
        (
            [("RUNNING", {}), ("RUNNING", {})],
            "replica 0 (and 1 more) runs, and its health path is not answered 2xx on its port (BROKER_PORT)",
        ),
        (
            [READY, ("BACKOFF", AGAIN | {"failures": 1})],
            "replica 1 ended with exit code 3; it starts again after 0.5 s",
        ),
        (
            [READY, ("BACKOFF", AGAIN | {"failures": 5})],
            "replica 1 ended with exit code 3, 5 times in a row; it starts again after 8 s",
        ),
        (
            [READY, ("RUNNING", AGAIN | {"failures": 2})],
            "replica 1 ended with exit code 3, 2 times in a row; it runs again and is not ready yet",
        ),
        ([READY, ("RUNNING", AGAIN | {"failures": 2, "ready": 1})], None),
        (
            [READY, ("BACKOFF", {"failures": 1})],
            "replica 1 ended with exit code 0, though it is to go on; it starts again after 0.5 s",
        ),
        ([READY, READY, ("RUNNING", {"retiring_at": 1.0})], None),
        (
            [("BACKOFF", AGAIN | {"failures": 1})],
            "replica 0 ended with exit code 3; it starts again after 0.5 s; "
            "1 replica waits for free slots on this machine; each asks for 2 CPUs, 64 MiB of memory",
        ),
    ],
)
def test_a_service_tells_why_fewer_replicas_are_ready_than_wanted(connection, tasks, said):
    wanted = Service(port=80, replicas=Replicas(min=2, max=4))
    resources = Resources(cpus_per_task=2, memory_per_node_mib=64)
    attempts.record(connection, REF, spec(kind=Kind.INFERENCE, service=wanted, resources=resources))
    for index, (word, columns) in enumerate(tasks):
        task(connection, index, word, **columns)

    assert seen(connection).service.message == said


def test_a_held_service_and_one_that_is_to_end_wait_for_no_slot(connection):
    attempts.record(connection, REF, spec(kind=Kind.INFERENCE, service=Service(port=80)))

    attempts.set_held(connection, REF.marker, True)
    held = seen(connection).service.message
    attempts.ask_for_the_end(connection, REF.marker)

    assert held == "the job is held: no replica is started"
    assert seen(connection).service.message is None


def test_a_service_that_is_over_has_no_endpoint_before_its_row_says_so(connection):
    """Between the end of the endpoint's process and the next turn of the agent the old address was told."""
    attempts.record(connection, REF, spec(kind=Kind.INFERENCE, service=Service(port=80)))
    connection.execute("INSERT INTO proxies (attempt, port, pid) VALUES (1, 4000, 7)")
    before = seen(connection).service.endpoint

    attempts.ask_for_the_end(connection, REF.marker)
    connection.execute("UPDATE proxies SET pid = NULL")

    assert before == "http://127.0.0.1:4000"
    assert (seen(connection).state, seen(connection).service.endpoint) == (AttemptState.ENDED, None)


def test_every_word_of_the_ledger_is_mapped():
    assert set(words.TASK_STATES) == {"STARTING", "BACKOFF", "RUNNING", "ENDED"}


def test_a_cancel_that_came_too_late_changes_nothing(connection):
    attempts.record(connection, REF, spec())
    task(connection, 0, "ENDED", **DONE)

    attempts.ask_for_the_end(connection, REF.marker)

    assert seen(connection).outcome is JobState.COMPLETED


def test_outputs_are_told_when_the_job_completed_and_not_before(connection):
    attempts.record(
        connection, REF, spec(outputs=(Output(name="m", path="a b"), Output(name="n", path="/x")))
    )
    task(connection, 0, "RUNNING")
    before = seen(connection).outputs
    connection.execute("UPDATE tasks SET state = 'ENDED', outcome = 'COMPLETED', reason = 'Completed'")

    assert before == {}
    assert seen(connection).outputs == {"m": "file:///out/a%20b", "n": "file:///x"}


# ---- the claim ---------------------------------------------------------------------------------------


def test_of_many_supervisors_that_try_one_may_start(connection):
    attempts.record(connection, REF, spec())
    task(connection, 0, "STARTING")

    tries = [ledger.claim(connection, "l0", pid, 1, "boot") for pid in (10, 11, 12)]

    assert tries == [True, False, False]
    assert len(attempts.starts(connection, REF.marker)) == 1


def test_what_was_cancelled_before_its_claim_cannot_be_claimed(connection):
    attempts.record(connection, REF, spec())
    task(connection, 0, "STARTING")

    assert ledger.end_unclaimed(connection, "l0", {"outcome": "CANCELLED", "reason": "Cancelled"})
    assert not ledger.claim(connection, "l0", 10, 1, "boot")


def test_the_first_ending_counts(connection):
    attempts.record(connection, REF, spec())
    task(connection, 0, "RUNNING", pid=1)

    assert ledger.end(connection, "l0", DONE)
    assert not ledger.end(connection, "l0", BAD)
    assert seen(connection).outcome is JobState.COMPLETED


def test_a_ledger_of_a_newer_release_is_refused(tmp_path):
    path = str(tmp_path / "ledger.db")
    ledger.create(path)
    with ledger.opened(path) as connection:
        connection.execute(f"PRAGMA user_version = {ledger.VERSION + 1}")

    with pytest.raises(sqlite3.DatabaseError, match="this program reads"):
        ledger.create(path)


# ---- cgroups -----------------------------------------------------------------------------------------


def test_without_the_right_to_make_a_group_there_is_none(tmp_path):
    assert cgroups.make("launch", 100, str(tmp_path)) is None


@pytest.mark.parametrize("events, killed", [("oom 1\noom_kill 2\n", True), ("oom 0\noom_kill 0\n", False)])
def test_a_group_tells_whether_its_memory_was_enough(tmp_path, events, killed):
    (tmp_path / "memory.events").write_text(events)

    assert cgroups.remove(str(tmp_path)) is killed
