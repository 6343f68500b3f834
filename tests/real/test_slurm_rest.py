"""The REST transport against real clusters, in every dialect that they speak."""

from __future__ import annotations

import os
import re
import time

import pytest

from adapters.slurm import transport as errors
from adapters.slurm.options import Options, TokenSource, Users
from adapters.slurm.records import Changes, Submission
from adapters.slurm.rest.dialects import DIALECTS
from adapters.slurm.rest.rows import ENDED
from adapters.slurm.rest.transport import RestTransport
from tests.helpers import wait_until
from tests.real.slurm import conf
from tests.real.slurm.cluster import boot
from tests.real.slurm.fixtures import KINDS, WITH_ACCOUNTING

pytestmark = pytest.mark.process

PLAIN = ["22.05", "24.11"]
plain = pytest.mark.parametrize("cluster", PLAIN, indirect=True)
with_accounting = pytest.mark.parametrize("cluster", WITH_ACCOUNTING, indirect=True)
SPOKEN = [("22.05", "v0.0.38"), ("24.11", "v0.0.40"), ("24.11", "v0.0.41"), ("24.11", "v0.0.42")]
every_dialect = pytest.mark.parametrize("cluster, dialect", SPOKEN, indirect=["cluster"])


OPENED = []


@pytest.fixture(autouse=True)
def close_what_was_opened():
    yield
    while OPENED:
        OPENED.pop().close()


def connect(cluster, dialects=DIALECTS, **changes):
    given = {
        "directory": str(cluster.shared),
        "url": cluster.rest_url,
        "token": TokenSource(key_file=str(cluster.jwt_key_file), user=cluster.admin),
        "users": Users(),
    }
    OPENED.append(RestTransport(Options(**{**given, **changes}), dialects=dialects))
    return OPENED[-1]


@pytest.fixture
def slurm(cluster):
    return connect(cluster)


def speaking(cluster, version):
    return connect(cluster, [dialect for dialect in DIALECTS if dialect.version == version])


def submission(cluster, script="true", **changes):
    usual = {
        "name": "wb-test-1",
        "user": cluster.user,
        "script": f"#!/bin/bash\n{script}\n",
        "environment": {"PATH": cluster.environment["PATH"]},
        "directory": str(cluster.shared),
        "stdout": f"{cluster.shared}/%j.out",
        "stderr": f"{cluster.shared}/%j.err",
        "comment": '{"v":1}',
    }
    return Submission(**{**usual, **changes})


def live(slurm):
    """Names of the jobs that have not ended; earlier tests leave some that have."""
    return [job.name for job in slurm.jobs().jobs if ENDED.isdisjoint(job.states)]


# ---- each field travels ------------------------------------------------------------------------------

IN_AN_HOUR = int(time.time()) + 3600


def shown(at):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(at))


# What is asked for, and what scontrol shows then.
FIELDS = [
    ({"name": "wb-a-b-7"}, {"JobName": "wb-a-b-7"}),
    ({"comment": '{"a":"b\'c"}'}, {"Comment": '{"a":"b\'c"}'}),
    ({"account": "vision"}, {"Account": "vision"}),
    ({"partition": "train,debug"}, {"Partition": "train,debug"}),
    (
        {"nodes": 2, "tasks_per_node": 3, "cpus_per_task": 2},
        {"NumNodes": re.compile("2(-2)?"), "NumTasks": "6", "NumCPUs": "12", "CPUs/Task": "2"},
    ),
    ({"memory_per_node_mib": 500}, {"MinMemoryNode": "500M"}),
    ({"memory_per_cpu_mib": 50}, {"MinMemoryCPU": "50M"}),
    ({"gres": "gpu:h100:2"}, {"TresPerNode": re.compile("gres[:/]gpu:h100:2")}),
    ({"gres": "gpu:1", "cpus_per_gpu": 4}, {"CpusPerTres": re.compile("gres[:/]gpu:4")}),
    ({"tmp_disk_mib": 0}, {"MinTmpDiskNode": "0"}),
    ({"constraint": "infiniband"}, {"Features": "infiniband"}),
    ({"switches": 1, "switches_wait_s": 60}, {"Switches": "1@00:01:00"}),
    ({"licenses": "matlab:1"}, {"Licenses": "matlab:1"}),
    ({"required_nodes": ("n1", "n2"), "nodes": 2}, {"ReqNodeList": "n[1-2]"}),
    ({"excluded_nodes": ("n1", "n3")}, {"ExcNodeList": "n[1,3]"}),
    ({"exclusive": True}, {"OverSubscribe": "NO"}),
    ({"time_limit_min": 9, "time_min_min": 5}, {"TimeLimit": "00:09:00", "TimeMin": "00:05:00"}),
    ({"begin_at": IN_AN_HOUR, "hold": False}, {"EligibleTime": shown(IN_AN_HOUR)}),
    ({"deadline_at": IN_AN_HOUR, "time_limit_min": 5}, {"Deadline": shown(IN_AN_HOUR)}),
    ({"nice": 55}, {"Nice": "55"}),
    ({"array": "0-8:2%2"}, {"ArrayTaskId": "0,2,4,6,8%2"}),
    (
        {"dependency": "singleton"},
        {"Dependency": "singleton(unfulfilled)", "KillOInInvalidDependent": "Yes"},
    ),
    ({"requeue": True}, {"Requeue": "1"}),
    ({"requeue": False}, {"Requeue": "0"}),
    ({"hold": True}, {"Reason": "JobHeldUser"}),
    ({"mail_types": ("END", "TIME_LIMIT_80"), "mail_user": "a@b"}, {"MailType": "END,TIME_LIMIT_80"}),
]


@every_dialect
@pytest.mark.parametrize("asked, seen", FIELDS, ids=lambda value: "-".join(value))
def test_each_field_of_a_submission_arrives(cluster, dialect, asked, seen):
    slurm = speaking(cluster, dialect)
    if dialect == "v0.0.38" and "switches" in asked:
        with pytest.raises(errors.Refused, match="switches"):
            slurm.submit(submission(cluster, **asked))
        return

    shows = cluster.show(slurm.submit(submission(cluster, **{"hold": True, **asked})))

    for word, meant in seen.items():
        assert re.fullmatch(meant if isinstance(meant, re.Pattern) else re.escape(meant), shows[word]), word


@every_dialect
def test_a_script_gets_the_environment_that_was_sent_and_writes_where_it_should(cluster, dialect):
    value = "two\nlines 'and' \"quotes\" $(touch x) ä"
    slurm = speaking(cluster, dialect)

    job = slurm.submit(
        submission(
            cluster,
            'printf %s "$VALUE"; pwd >&2',
            environment={"PATH": cluster.environment["PATH"], "VALUE": value},
            stdout=f"{cluster.shared}/env.out",
            stderr=f"{cluster.shared}/env.err",
        )
    )

    cluster.wait_state(job, "COMPLETED")
    assert (cluster.shared / "env.out").read_text().endswith(value)
    assert (cluster.shared / "env.err").read_text().strip().endswith(str(cluster.shared))


@plain
def test_a_signal_comes_before_the_end(cluster, slurm):
    """To the script itself where the dialect can say so, else to its steps."""
    to_batch = slurm.cluster().dialect != "v0.0.38"
    waits = "trap 'echo warned; exit 0' USR1; sleep 300 & wait"
    (cluster.shared / "waits.sh").write_text(f"#!/bin/bash\n{waits}\n")
    script = waits if to_batch else f"srun bash {cluster.shared}/waits.sh"

    job = slurm.submit(
        submission(
            cluster,
            script,
            time_limit_min=1,
            warning_signal="USR1",
            warning_s=59,
            warning_to_batch=to_batch,
            stdout=f"{cluster.shared}/warned.out",
        )
    )

    # Slurm looks at time limits every half minute.
    assert cluster.wait_state(job, "COMPLETED", "TIMEOUT", "FAILED", within_s=100) == "COMPLETED"
    assert "warned" in (cluster.shared / "warned.out").read_text()


@plain
@pytest.mark.parametrize(
    "asked, code",
    [
        ({"partition": "nowhere"}, 2000),
        ({"constraint": "nothing"}, 2029),
        ({"time_limit_min": 999999}, 2051),
        ({"licenses": "nothing:1"}, 2048),
        ({"reservation": "nothing"}, None),
        ({"array": "0-999999"}, None),
        ({"nodes": 99}, None),
        ({"gres": "nothing:1"}, None),
    ],
)
def test_what_slurm_will_never_run_is_refused_with_its_own_number(cluster, slurm, asked, code):
    with pytest.raises(errors.Refused) as refusal:
        slurm.submit(submission(cluster, **asked))

    assert code in (None, refusal.value.code)
    assert live(slurm) == []


# ---- seeing ------------------------------------------------------------------------------------------


@every_dialect
def test_a_job_is_seen_from_its_start_to_its_end(cluster, dialect):
    slurm = speaking(cluster, dialect)
    job = slurm.submit(submission(cluster, "sleep 1; exit 3", gres="gpu:h100:1", time_limit_min=5))

    def row():
        (found,) = slurm.job(job)
        return found

    running = wait_until(lambda: (now := row()).states == ("RUNNING",) and now)
    ended = wait_until(lambda: (now := row()).states == ("FAILED",) and now)
    assert (running.name, running.user, running.comment) == ("wb-test-1", cluster.user, '{"v":1}')
    assert (running.nodes, running.partition, running.time_limit_min) == (("n1",), "train", 5)
    assert running.tres["cpu"] == 1
    assert running.submitted_at <= running.started_at <= time.time()
    assert (ended.exit_code, ended.signal, ended.restarts) == (3, None, 0)
    assert ended.ended_at >= ended.started_at
    assert ended.stdout in (f"{cluster.shared}/{job}.out", f"{cluster.shared}/%j.out")


@every_dialect
def test_the_tasks_of_an_array_are_told_apart_and_cancelled_one_by_one(cluster, dialect):
    slurm = speaking(cluster, dialect)
    array = slurm.submit(submission(cluster, "sleep 60", array="0-5%2"))
    rows = wait_until(lambda: len(found := slurm.job(array)) == 3 and found)
    assert {row.task for row in rows} == {None, 0, 1}
    assert {row.waiting_tasks for row in rows} == {None, "2-5%2"}
    assert {row.group for row in rows} == {array}

    slurm.cancel(f"{array}_4", cluster.user)
    slurm.cancel(f"{array}_0", cluster.user)

    def waiting():
        return next(row.waiting_tasks for row in slurm.job(array) if row.waiting_tasks)

    # One that had started has a row that ends; one that waited leaves none.
    rows = wait_until(lambda: waiting() == "3,5%2" and slurm.job(array))
    states = {row.task: row.states for row in rows if row.task is not None}
    assert states[0][0] in ("CANCELLED", "COMPLETING")
    assert (states[1], 4 in states) == (("RUNNING",), False)


@every_dialect
def test_a_listing_says_when_nothing_has_changed(cluster, dialect):
    slurm = speaking(cluster, dialect)
    slurm.submit(submission(cluster, hold=True))

    quiet = wait_until(lambda: (now := slurm.jobs(changed_since=slurm.jobs().as_of)).jobs is None and now)
    later = slurm.submit(submission(cluster, hold=True, name="wb-test-2"))
    changed = slurm.jobs(changed_since=quiet.as_of)

    assert abs(quiet.as_of - time.time()) < 60
    assert later in [job.id for job in changed.jobs]


@plain
def test_the_cheap_listing_has_every_job_and_task(cluster, slurm):
    if not slurm.cluster().has_states:
        pytest.skip("this release has no cheap listing")
    held = slurm.submit(submission(cluster, hold=True))
    array = slurm.submit(submission(cluster, "sleep 60", array="0-3%1"))
    wait_until(lambda: any(row.task == 0 and "RUNNING" in row.states for row in slurm.job(array)))

    states = slurm.states()

    (own,) = (row.id for row in slurm.job(array) if row.task == 0)
    assert next(row for row in states if row.id == held).states == ("PENDING",)
    assert next(row for row in states if row.id == own and row.task == 0).states == ("RUNNING",)


@plain
def test_what_there_is_can_be_read(cluster, slurm):
    nodes, partitions = slurm.nodes(), {part.name: part for part in slurm.partitions()}

    assert [node.name for node in nodes] == cluster.nodes
    assert nodes[0].gres == {"gpu:h100": 4}
    assert "infiniband" in nodes[0].features
    assert set(partitions) == {"train", "debug"}
    assert partitions["debug"].time_limit_min == 60
    assert [(row.name, row.total) for row in slurm.licenses()] == [("matlab", 2)]


@plain
def test_a_reservation_and_a_drained_node_are_seen(cluster, slurm):
    cluster.drain_node("n4", reason="bad fan")
    cluster.run(
        *("scontrol", "create", "reservation", "reservationname=maint", "starttime=now+10minutes"),
        *("duration=30", "nodes=n[2-3]", f"users={cluster.user}"),
    )

    (reserved,) = slurm.reservations()
    drained = next(node for node in slurm.nodes() if node.name == "n4")
    cluster.run("scontrol", "delete", "reservationname=maint")

    assert (reserved.name, reserved.nodes, reserved.users) == ("maint", ("n2", "n3"), (cluster.user,))
    assert reserved.ends_at - reserved.starts_at == 1800
    assert "DRAIN" in drained.states
    assert drained.reason.startswith("bad fan")


# ---- changing ----------------------------------------------------------------------------------------


@every_dialect
def test_a_job_is_held_released_and_given_less_time(cluster, dialect):
    slurm = speaking(cluster, dialect)
    job = str(slurm.submit(submission(cluster, "sleep 60", begin_at=time.time() + 600)))

    slurm.change(job, Changes(hold=True, time_limit_min=7, nice=20), cluster.user)
    assert cluster.show(job)["TimeLimit"] == "00:07:00"
    assert cluster.show(job)["Nice"] == "20"
    assert cluster.show(job)["Priority"] == "0"

    slurm.change(job, Changes(hold=False), cluster.user)
    assert cluster.show(job)["Priority"] != "0"

    with pytest.raises(errors.NotKnown):
        slurm.change("99999", Changes(hold=True), cluster.user)


@every_dialect
def test_a_cancel_may_be_repeated(cluster, dialect):
    slurm = speaking(cluster, dialect)
    job = slurm.submit(submission(cluster, "sleep 60"))

    slurm.cancel(str(job), cluster.user)
    cluster.wait_state(job, "CANCELLED")
    slurm.cancel(str(job), cluster.user)

    with pytest.raises(errors.NotKnown):
        slurm.cancel("99999", cluster.user)
    with pytest.raises(errors.NotKnown):
        slurm.job(99999)


# ---- bad days ----------------------------------------------------------------------------------------


@plain
def test_a_token_that_has_expired_is_refused_until_the_file_has_another(cluster, tmp_path):
    file = tmp_path / "token"
    file.write_text(cluster.token(cluster.admin, lifespan_s=-10))
    slurm = connect(cluster, token=TokenSource(file=str(file)))
    for call in (slurm.ping, slurm.jobs, lambda: slurm.submit(submission(cluster))):
        with pytest.raises(errors.NotAuthenticated):
            call()

    file.write_text(cluster.token(cluster.admin))

    slurm.ping()
    slurm.jobs()


@plain
def test_tokens_of_two_seconds_last_as_long_as_they_are_needed(cluster):
    source = TokenSource(key_file=str(cluster.jwt_key_file), lifespan_s=2)
    slurm = connect(cluster, token=source, users=Users(service=cluster.user))
    began = time.monotonic()

    def asked():
        slurm.ping()
        slurm.jobs()
        return time.monotonic() - began > 4

    wait_until(asked)


@plain
def test_a_token_of_another_key_is_refused(cluster, tmp_path):
    (tmp_path / "key").write_bytes(b"k" * 64)
    slurm = connect(cluster, token=TokenSource(key_file=str(tmp_path / "key"), user=cluster.admin))

    for call in (slurm.ping, slurm.jobs, lambda: slurm.submit(submission(cluster))):
        with pytest.raises(errors.NotAuthenticated):
            call()


@plain
def test_an_ordinary_users_token_does_not_speak_for_another(cluster):
    slurm = connect(cluster, token=TokenSource(key_file=str(cluster.jwt_key_file), user="nobody"))

    with pytest.raises(errors.NotAuthenticated):
        slurm.submit(submission(cluster))


@plain
def test_a_slurmrestd_that_is_not_there_was_sent_nothing(cluster, slurm):
    slurm.ping()
    cluster.kill("slurmrestd")

    with pytest.raises(errors.NotReached):
        slurm.submit(submission(cluster))

    cluster.start("slurmrestd")
    assert slurm.submit(submission(cluster, hold=True))


@plain
def test_a_slurmrestd_that_was_restarted_takes_the_next_submission(cluster, slurm):
    """The pool's connections are dead, and it knows."""
    slurm.ping()
    cluster.stop("slurmrestd")
    cluster.start("slurmrestd")

    assert slurm.submit(submission(cluster, hold=True))


@plain
def test_a_submission_to_a_frozen_controller_is_unknown_and_may_appear_later(cluster, slurm):
    slurm.ping()
    cluster.freeze("slurmctld")
    with pytest.raises(errors.NoAnswer):
        slurm.submit(submission(cluster, hold=True, name="wb-late-1"))
    cluster.thaw("slurmctld")

    wait_until(lambda: live(slurm) == ["wb-late-1"])


@plain
def test_a_controller_that_is_gone_is_no_fault_of_the_token(cluster, slurm):
    slurm.ping()
    cluster.kill("slurmctld")

    with pytest.raises((errors.NotReached, errors.NoAnswer)):
        slurm.submit(submission(cluster))
    with pytest.raises((errors.NotReached, errors.NoAnswer)):
        slurm.ping()

    cluster.start("slurmctld")
    slurm.ping()


@pytest.mark.parametrize("kind", PLAIN)
def test_a_controller_that_holds_all_the_jobs_it_may_takes_more_later(kind):
    if KINDS[kind].missing:
        pytest.skip(KINDS[kind].missing)
    with boot(install=KINDS[kind].install, options=conf.Options(max_job_count=4)) as cluster:
        slurm = connect(cluster)
        with pytest.raises(errors.TryLater):
            for _ in range(6):
                slurm.submit(submission(cluster, hold=True))


@plain
def test_a_socket_will_do(cluster):
    slurm = connect(cluster, url=None, socket=str(cluster.socket_path))

    assert slurm.submit(submission(cluster, hold=True))


# ---- the accounting database -------------------------------------------------------------------------


@with_accounting
def test_the_database_finds_a_job_by_its_name_though_it_was_never_eligible(cluster, slurm):
    began = time.time() - 1
    name = f"wb-never-{os.getpid()}"
    held = slurm.submit(submission(cluster, hold=True, name=name))
    slurm.cancel(str(held), cluster.user)

    (row,) = wait_until(
        lambda: [row for row in slurm.history(names=[name], since=began) if row.states == ("CANCELLED",)]
    )

    assert (row.id, row.name, row.user, row.accounted) == (held, name, cluster.user, True)
    assert (row.started_at, row.cancelled_by, row.account) == (None, cluster.user, "vision")
    assert slurm.history(names=[name], since=time.time() + 60) == []
    assert slurm.history(names=[f"{name}-x"]) == []


@with_accounting
def test_the_database_knows_what_a_job_used_and_how_it_ended(cluster, slurm):
    fills = "x=$(head -c 50000000 /dev/zero | tr '\\0' a); sleep 3"
    job = slurm.submit(submission(cluster, f"{fills}\nexit 3", gres="gpu:h100:1", name="wb-used"))
    cluster.wait_state(job, "FAILED")

    (row,) = wait_until(lambda: [row for row in slurm.history(job_ids=[job]) if row.states == ("FAILED",)])

    assert row.tres["gres/gpu"] == 1
    assert row.elapsed_s >= 3
    assert row.peak_memory_mib > 40
    # v0.0.38 says 0 for every code.
    assert row.exit_code == (None if slurm.cluster().dialect == "v0.0.38" else 3)
    assert row.account == "vision"


@with_accounting
def test_many_names_users_and_ids_are_asked_for_at_once(cluster, slurm):
    began = time.time() - 1
    names = [f"wb-many-{os.getpid()}-{number}" for number in range(5)]
    jobs = [slurm.submit(submission(cluster, hold=True, name=name)) for name in names]
    others = [f"wb-absent-{number:030}" for number in range(200)]

    def seen(**asked):
        return sorted(row.id for row in slurm.history(**asked))

    wait_until(lambda: seen(names=[*others, *names], since=began) == jobs)
    assert seen(job_ids=jobs) == jobs
    assert seen(users=[cluster.user], names=names) == jobs
    assert seen(users=[cluster.users[-1], "no-such-user"], names=names) in ([], jobs)


@with_accounting
def test_an_earlier_run_of_a_requeued_job_is_shown(cluster, slurm):
    job = slurm.submit(submission(cluster, "sleep 60", requeue=True, name="wb-again"))
    cluster.wait_state(job, "RUNNING")
    cluster.run("scontrol", "requeue", str(job))
    wait_until(lambda: slurm.job(job)[0].restarts == 1, 20)

    # slurmctld tells slurmdbd of a job that waits every five seconds, and later if that was busy.
    wait_until(lambda: len(slurm.history(job_ids=[job])) == 2, 30)


@with_accounting
def test_associations_and_qos_are_those_of_the_database(cluster, slurm):
    mine = {row.account: row for row in slurm.associations() if row.user == cluster.user}
    qos = {row.name: row for row in slurm.qos()}

    assert set(mine) == {"vision", "speech"}
    assert (mine["vision"].is_default, mine["speech"].is_default) == (True, False)
    assert set(mine["vision"].qos) == {"normal", "high", "low", "capped"}
    assert mine["vision"].default_qos == "normal"
    assert (qos["high"].priority, qos["low"].priority) == (1000, 1)
    assert (qos["capped"].jobs_per_user, qos["capped"].tres_per_user) == (1, {"gres/gpu": 2})


@with_accounting
def test_jobs_run_as_the_user_that_they_are_for(cluster, slurm):
    jobs = {user: slurm.submit(submission(cluster, "id -un", user=user)) for user in cluster.users}

    for user, job in jobs.items():
        cluster.wait_state(job, "COMPLETED")
        assert (cluster.shared / f"{job}.out").read_text().split() == [user]


@with_accounting
def test_an_account_that_is_not_the_users_is_refused(cluster, slurm):
    with pytest.raises(errors.Refused) as refusal:
        slurm.submit(submission(cluster, account="nobodys"))

    assert refusal.value.code == 2045


@with_accounting
def test_a_database_that_is_down_is_not_reached_and_jobs_go_on(cluster, slurm):
    slurm.cluster()
    cluster.kill("slurmdbd")

    with pytest.raises((errors.NotReached, errors.NoAnswer)):
        slurm.history(names=["wb-test-1"])
    assert slurm.submit(submission(cluster, hold=True))

    cluster.start("slurmdbd")
