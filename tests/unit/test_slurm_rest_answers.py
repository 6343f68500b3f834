"""What real servers answered, as errors and records."""

from __future__ import annotations

import pytest

from adapters.slurm import observations
from adapters.slurm import transport as errors
from adapters.slurm.rest import accounting, judging, rows
from adapters.slurm.rest.answers import UNKNOWN_USER, Answer, failure, says_little
from adapters.slurm.rest.dialects import DIALECTS as KNOWN
from adapters.slurm.rest.dialects import choose, described
from api_spec.reasons import Reason
from api_spec.states import JobState
from tests.unit.slurm_recorded import DIALECTS, NEWER, recorded

BY_VERSION = {dialect.version: dialect for dialect in KNOWN}


def outcome(check, answer, **options):
    error = check(answer, **options)
    return (type(error), error.code) if error else None


# ---- which error it is -------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "name, kind, code",
    [
        ("unknown_job", errors.NotKnown, 2017),
        ("change_unknown", errors.NotKnown, 2017),
        ("submit_bad_partition", errors.Refused, 2000),
        ("unknown_path", errors.Refused, None),
    ],
)
def test_an_answer_is_the_error_that_slurm_means(dialect, name, kind, code):
    assert outcome(failure, recorded(dialect, name)) == (kind, code)


@pytest.mark.parametrize("dialect", NEWER)
@pytest.mark.parametrize("name", ["wrong_token", "wrong_token_submit"])
def test_newer_servers_say_that_the_token_is_wrong(dialect, name):
    assert outcome(failure, recorded(dialect, name)) == (errors.NotAuthenticated, 1007)


@pytest.mark.parametrize("name", ["wrong_token", "wrong_token_ping", "wrong_token_submit"])
def test_22_05_does_not_say_whether_the_token_is_wrong_or_the_controller_is_down(name):
    error = failure(recorded("v0.0.38", name))

    assert isinstance(error, errors.NoAnswer)
    assert says_little(error)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "name", ["ping", "partitions", "nodes", "jobs", "jobs_unchanged", "no_jobs", "change"]
)
def test_an_answer_without_a_complaint_is_none(dialect, name):
    assert failure(recorded(dialect, name)) is None


def entry(code, **more):
    return {"errors": [{"error_number": code, "description": "it", **more}]}


@pytest.mark.parametrize(
    "status, body, kind",
    [
        (500, entry(2007), errors.TryLater),
        (500, entry(2020), errors.TryLater),
        (500, entry(11), errors.TryLater),
        (500, entry(2019), errors.TryLater),
        (500, entry(2027), errors.TryLater),
        (500, entry(2050), errors.TryLater),
        (500, entry(2070), errors.TryLater),
        (500, entry(2105), errors.TryLater),
        (500, entry(2131), errors.TryLater),
        (429, entry(0), errors.TryLater),
        (502, entry(1800), errors.NotReached),
        (502, entry(7000), errors.NotReached),
        (504, entry(5004), errors.NoAnswer),
        (500, entry(1802), errors.NoAnswer),
        (500, entry(-1), errors.NoAnswer),
        (500, entry(2010), errors.NotAuthenticated),
        (500, entry(2051), errors.Refused),
        (500, entry(9202), errors.Refused),
        (200, entry(None, error="Priority must be >0", error_code=-1), errors.NoAnswer),
        (500, {"errors": []}, errors.NoAnswer),
        (400, {"errors": [{"description": "Unknown key", "source": "x"}]}, errors.Refused),
    ],
)
def test_slurms_own_numbers_decide(status, body, kind):
    assert isinstance(failure(Answer.of(body, status)), kind)


@pytest.mark.parametrize(
    "status, text, kind",
    [
        (401, b"Authentication failure", errors.NotAuthenticated),
        (405, b"Requested REST method is not defined at URL.", errors.Refused),
        (400, b"", errors.Refused),
        (502, b"<html>proxy</html>", errors.NoAnswer),
        (503, b"", errors.TryLater),
        (200, b"{", errors.NoAnswer),
    ],
)
def test_an_answer_in_plain_text_is_judged_by_its_status(status, text, kind):
    assert isinstance(judging.not_submitted(Answer(status=status, content=text), for_another=False), kind)


def test_access_denied_is_the_tokens_fault_when_it_speaks_for_another():
    answer = Answer.of(entry(2002), 500)

    assert isinstance(failure(answer, for_another=True), errors.NotAuthenticated)
    assert isinstance(failure(answer, for_another=False), errors.Refused)


def test_22_05_says_of_an_array_that_its_change_failed_when_it_did_not():
    said = {"description": "job array update from [localhost]:4711 failed", "source": "_parse_job_list"}

    assert judging.not_changed(Answer.of({"errors": [said]}), for_another=False) is None


# ---- submit, cancel ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", ["submit", "submit_held"])
def test_a_job_that_was_made_as_asked_has_an_id_and_nothing_dropped(dialect, name):
    answer = recorded(dialect, name)

    assert judging.not_submitted(answer, for_another=False) is None
    assert judging.made(answer) in (1, 2)
    assert judging.dropped(answer) is None


@pytest.mark.parametrize("dialect", NEWER)
def test_a_key_that_was_dropped_is_noticed_although_the_job_was_made(dialect):
    answer = recorded(dialect, "submit_unknown_key")

    assert judging.made(answer)
    assert "no_such_key" in judging.dropped(answer)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_value_of_the_wrong_type_is_refused_though_newer_servers_answer_200(dialect):
    error = judging.not_submitted(recorded(dialect, "submit_wrong_type"), for_another=False)

    assert isinstance(error, errors.Refused)
    assert "integer" in str(error)


@pytest.mark.parametrize("code", [2016, 2040, 2068, 2101])
def test_why_a_job_that_was_made_starts_later_is_nothing_dropped(code):
    """22.05, while the nodes are drained."""
    assert judging.dropped(Answer.of({"job_id": 7, **entry(code)}, 500)) is None


def test_an_error_beside_a_job_id_is_a_job_that_is_not_as_asked():
    answer = Answer.of({"job_id": 7, **entry(2063)}, 500)

    assert judging.not_submitted(answer, for_another=False) is None
    assert judging.dropped(answer) == "it"


@pytest.mark.parametrize("code", [2015, 2056, 2068, 2074, 2101])
def test_why_a_job_cannot_start_at_once_is_no_error_when_it_was_queued(code):
    """Of a drained node or a reservation, v0.0.38 says so among the errors.  Its job was cancelled."""
    answer = Answer.of({"job_id": 7, **entry(code)})

    assert judging.not_submitted(answer, for_another=False) is None
    assert judging.dropped(answer) is None


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", ["cancel", "cancel_ended"])
def test_what_is_over_is_cancelled(dialect, name):
    assert judging.not_cancelled(recorded(dialect, name), for_another=False) is None


@pytest.mark.parametrize("dialect", ["v0.0.38", "v0.0.42"])
def test_a_cancel_of_an_unknown_job_says_so(dialect):
    answer = recorded(dialect, "cancel_unknown")

    assert outcome(judging.not_cancelled, answer, for_another=False) == (errors.NotKnown, 2017)
    assert not judging.says_nothing(answer)


@pytest.mark.parametrize("dialect", ["v0.0.40", "v0.0.41"])
def test_two_dialects_cancel_without_a_word(dialect):
    assert judging.says_nothing(recorded(dialect, "cancel_unknown"))


def test_an_array_is_cancelled_when_some_of_its_tasks_are_known_no_longer():
    status = [{"error": {"code": 0}}, {"error": {"code": 2021}}, {"error": {"code": 2017, "message": "no"}}]

    assert judging.not_cancelled(Answer.of({"status": status}), for_another=False) is None


def test_a_change_that_one_job_of_an_array_refused_is_no_change():
    results = [{"error_code": 0}, {"error_code": 2017, "why": "no"}]

    error = judging.not_changed(Answer.of({"errors": [], "results": results}), for_another=False)

    assert isinstance(error, errors.NotKnown)


# ---- which dialect -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect, chosen", [("v0.0.38", "v0.0.38"), ("v0.0.40", "v0.0.42")])
def test_the_newest_dialect_of_both_sides_is_chosen(dialect, chosen):
    found, accounting, has_states = choose(recorded(dialect, "openapi").body)

    assert (found.version, accounting, has_states) == (chosen, False, chosen != "v0.0.38")


def test_a_server_with_no_dialect_of_ours_cannot_be_reached():
    with pytest.raises(errors.NotReached, match=r"offers v0\.0\.36.*speaks v0\.0\.44"):
        choose({"paths": {"/slurm/v0.0.36/ping": {}}})


def test_the_accounting_database_is_there_when_its_paths_are():
    paths = {"/slurm/v0.0.42/ping/": {}, "/slurmdb/v0.0.42/jobs/": {}, "/slurm/v0.0.42/jobs/state/": {}}

    found, accounting, has_states = choose({"paths": paths})

    assert (found.version, accounting, has_states) == ("v0.0.42", True, True)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_answer_says_which_release_it_is_from(dialect):
    release, cluster = described(recorded(dialect, "ping").body["meta"])

    assert release == ("22.05.8" if dialect == "v0.0.38" else "24.11.5")
    assert cluster == (None if dialect == "v0.0.38" else "lab")


# ---- rows --------------------------------------------------------------------------------------------


def listed(dialect, since=None):
    jobs = judging.listing(recorded(dialect, "jobs"), 1.0 if dialect == "v0.0.38" else None, since).jobs
    return {job.id: job for job in jobs}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_jobs_read_alike_in_every_dialect(dialect):
    jobs = listed(dialect)

    running, held, failed, killed, unstarted, cancelled = (jobs[number] for number in range(1, 7))
    assert (running.name, running.states, running.nodes) == ("wb-test-1", ("RUNNING",), ("n1",))
    assert (running.tres["cpu"], running.tres["mem"]) == (1, 100)
    assert (running.comment, running.partition, running.time_limit_min) == ("a comment", "train", 60)
    assert running.started_at >= running.submitted_at > 1.7e9
    assert (running.ended_at, running.exit_code, running.signal) == (None, None, None)
    assert (held.states, held.reason, held.started_at) == (("PENDING",), "JobHeldUser", None)
    assert (failed.states, failed.exit_code, failed.signal) == (("FAILED",), 3, None)
    assert failed.ended_at >= failed.started_at
    assert (killed.states, killed.exit_code, killed.signal) == (("FAILED",), None, 9)
    assert (unstarted.states, unstarted.signal) == (("FAILED",), 53)
    assert cancelled.states == ("CANCELLED",)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_job_that_was_cancelled_before_it_ran_has_no_start(dialect):
    """Slurm gives it one: when it was cancelled."""
    held = next(row for row in recorded(dialect, "jobs").body["jobs"] if row["job_id"] == 2)
    state = "CANCELLED" if dialect == "v0.0.38" else ["CANCELLED"]

    job = rows.job({**held, "job_state": state, "start_time": 1795000000, "end_time": 1795000000})

    assert (job.started_at, job.ended_at) == (None, 1795000000)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_array_is_a_row_of_waiting_tasks_and_one_for_each_that_started(dialect):
    jobs = listed(dialect).values()

    tasks = {(job.task, job.waiting_tasks): job.states for job in jobs if job.array_id == 7}
    assert tasks == {
        (0, None): ("RUNNING",),
        (1, None): ("RUNNING",),
        (None, "2-5%2"): ("PENDING",),
    }


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_listing_since_which_nothing_has_changed_has_no_jobs_at_all(dialect):
    """Not even none: an empty listing would mean that all jobs are gone."""
    unchanged = judging.listing(recorded(dialect, "jobs_unchanged"), None, 4000000000.0)

    assert (unchanged.jobs, unchanged.as_of) == (None, 4000000000.0)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_cluster_without_jobs_has_an_empty_listing(dialect):
    assert judging.listing(recorded(dialect, "no_jobs"), 1.0, None).jobs == ()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nodes_read_alike_in_every_dialect(dialect):
    idle = [rows.node(row) for row in recorded(dialect, "nodes").body["nodes"]]
    busy = {row["name"]: rows.node(row) for row in recorded(dialect, "nodes_busy").body["nodes"]}

    assert [node.name for node in idle] == ["n1", "n2", "n3", "n4"]
    assert (idle[0].states, idle[0].cpus, idle[0].memory_mib) == (("IDLE",), 8, 16000)
    assert (idle[0].gres, idle[0].gres_used, idle[0].features) == ({"gpu:h100": 4}, {}, {"infiniband"})
    assert idle[0].partitions == ("train", "debug")
    assert busy["n1"].gres_used == {"gpu:h100": 1}
    assert busy["n1"].cpus_allocated >= 1
    assert busy["n1"].memory_allocated_mib >= 100


@pytest.mark.parametrize("dialect", DIALECTS)
def test_partitions_and_licences_read_alike_in_every_dialect(dialect):
    read = BY_VERSION[dialect].partition
    train, debug = (read(row) for row in recorded(dialect, "partitions").body["partitions"])
    (matlab,) = (rows.license_of(row) for row in recorded(dialect, "licenses").body["licenses"])

    assert (train.name, train.up, train.nodes) == ("train", True, ("n1", "n2", "n3", "n4"))
    assert (train.time_limit_min, train.default_time_min, train.nodes_max) == (10080, 60, None)
    assert (debug.time_limit_min, debug.allowed_accounts, debug.denied_qos) == (60, (), ())
    assert (matlab.name, matlab.total, matlab.used) == ("matlab", 2, 0)


@pytest.mark.parametrize("dialect", NEWER)
def test_the_cheap_listing_has_every_job(dialect):
    states = [BY_VERSION[dialect].job_state(row) for row in recorded(dialect, "states").body["jobs"]]

    assert {state.id for state in states} >= {1, 2, 3, 4, 5, 6, 8}
    assert states[0].states == ("RUNNING",)


def test_a_row_that_cannot_be_read_is_no_answer_and_nothing_stands_in_for_it():
    body = recorded("v0.0.42", "jobs").body
    broken = {**body, "jobs": [{**body["jobs"][0], "job_state": None}]}

    with pytest.raises(errors.NoAnswer, match="cannot be read"):
        judging.listing(Answer.of(broken), None, None)


# ---- the accounting database -------------------------------------------------------------------------


def past(dialect, name):
    return [accounting.job(row) for row in recorded(dialect, name).body["jobs"]]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_job_of_the_past_tells_what_it_used(dialect):
    (used,) = past(dialect, "past_ids")

    assert (used.name, used.user, used.account, used.qos) == ("wb-test-1", "ana", "vision", "normal")
    assert (used.states, used.nodes, used.accounted) == (("FAILED",), ("n1",), True)
    assert used.tres == {"cpu": 1, "mem": 100, "node": 1, "billing": 1, "gres/gpu": 1}
    assert used.elapsed_s >= 3
    assert 40 < used.peak_memory_mib < 400
    assert used.submitted_at <= used.started_at < used.ended_at


@pytest.mark.parametrize("dialect", DIALECTS)
def test_22_05_does_not_tell_the_exit_code_of_the_past(dialect):
    """It writes 0, whatever the code was."""
    (used,) = past(dialect, "past_ids")

    assert used.exit_code == (None if dialect == "v0.0.38" else 3)
    told = observations.observation("wb-test-1", observations.reading([used]), "hpc")
    assert told.outcome is JobState.FAILED
    assert told.reason is (Reason.UNKNOWN if dialect == "v0.0.38" else Reason.NON_ZERO_EXIT)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_job_that_never_ran_has_no_start(dialect):
    (never,) = (job for job in past(dialect, "past_names") if job.name == "wb-never-1")

    assert (never.states, never.started_at, never.nodes) == (("CANCELLED",), None, ())
    assert (never.cancelled_by, never.tres, never.peak_memory_mib) == ("ana", {}, None)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tasks_of_the_past_are_told_apart(dialect):
    tasks = [job for job in past(dialect, "past_names") if job.name == "wb-array-1"]

    assert {job.task for job in tasks} >= {0, 1}
    assert len({job.array_id for job in tasks}) == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nothing_found_is_no_failure(dialect):
    answer = recorded(dialect, "past_nothing")

    assert failure(answer) is None
    assert answer.body["jobs"] == []


@pytest.mark.parametrize(
    "said, meant", [("0x38B", "0,1,3,7,8,9"), ("0x1", "0"), ("", None), ("2-5%2", "2-5%2")]
)
def test_a_mask_of_waiting_tasks_is_written_out(said, meant):
    assert accounting.waiting(said) == meant


@pytest.mark.parametrize("dialect", DIALECTS)
def test_associations_read_alike_in_every_dialect(dialect):
    found = [accounting.association(row) for row in recorded(dialect, "associations").body["associations"]]
    ana = {row.account: row for row in found if row.user == "ana"}

    assert (ana["vision"].is_default, ana["speech"].is_default) == (True, False)
    assert set(ana["vision"].qos) == {"normal", "high", "low", "capped"}
    assert (ana["vision"].default_qos, ana["vision"].partition) == ("normal", None)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_qos_read_alike_in_every_dialect(dialect):
    known = BY_VERSION[dialect]
    found = {row["name"]: known.qos(row) for row in recorded(dialect, "qos").body[known.qos_key]}

    assert (found["high"].priority, found["low"].priority) == (1000, 1)
    assert (found["capped"].jobs_per_user, found["capped"].submits_per_user) == (1, None)
    assert found["capped"].tres_per_user == {"gres/gpu": 2}
    assert (found["normal"].time_limit_min, found["normal"].tres_per_job) == (None, {})


@pytest.mark.parametrize("dialect", NEWER)
def test_a_user_whom_slurm_does_not_know_makes_the_whole_question_fail(dialect):
    error = failure(recorded(dialect, "past_unknown_user"))

    assert (type(error), error.code) == (errors.Refused, UNKNOWN_USER)


@pytest.mark.parametrize(
    "restarts, end, states, started_at",
    [
        (1, 5000, ("PENDING", "COMPLETING"), None),
        (1, 1400, ("COMPLETING",), 1000.0),
        (0, 5000, ("COMPLETING",), 1000.0),
    ],
    ids=["requeued", "its second run has ended", "its first run"],
)
def test_a_requeued_job_that_is_still_being_ended_waits(restarts, end, states, started_at):
    """v0.0.38 hides PENDING behind COMPLETING.  Taken for running with a restart more, it could not go back
    to waiting when the flag falls, since the restart would have been counted."""
    (row,) = recorded("v0.0.38", "jobs").body["jobs"][:1]
    times = {"start_time": 1000, "end_time": end, "time_limit": 60, "restart_cnt": restarts, "nodes": "n1"}

    job = rows.job({**row, "job_state": "COMPLETING", **times})

    assert (job.states, job.started_at) == (states, started_at)
