"""The command line: what is sent, what is printed, and the exit codes that scripts rely on."""

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner

from broker.cli.main import COMMANDS, main
from broker.cli.output import yaml_lines
from broker.cli.session import Session
from broker.yaml_files import read_documents
from tests.fake_api import JOB_ID, FakeApi, decision, job, problem, summary

OTHER_ID = "01JD3Z8W6Q4R5T7Y9A0BCDEFZZ"
JOB_PATH = f"/v1/jobs/{JOB_ID}"
SUBMITTED = {"job": job("ACCEPTED"), "decision": decision()}
TWO_JOBS = "kind: batch\nname: a\ncommand: ['true']\n---\nkind: batch\nname: b\ncommand: ['true']\n"


@pytest.fixture
def api():
    return FakeApi()


@pytest.fixture
def run(api, monkeypatch, tmp_path):
    """The command in an empty directory of its own; colours are as in a pipe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BROKER_URL", "http://broker.example")
    monkeypatch.setenv("BROKER_TOKEN", "wb_secret")
    monkeypatch.setattr("broker.client.client.time.sleep", lambda _: None)

    def run(*words, **options):
        return CliRunner().invoke(main, words, obj=Session(make_wire=api.wire), **options)

    return run


def write(name, text):
    Path(name).write_text(text)
    return name


# ---- submit ------------------------------------------------------------------------------------------


def test_several_files_are_one_bundle_in_their_order(api, run):
    api.on("POST", "/v1/jobs:batch", {"jobs": [SUBMITTED] * 3})
    sbatch = write("c.sbatch", "#!/bin/sh\n#SBATCH -N 2\ntrue\n")

    result = run("submit", write("ab.yaml", TWO_JOBS), sbatch)

    assert result.exit_code == 0, result.output
    assert [spec["name"] for spec in api.body()["jobs"]] == ["a", "b", "c"]
    assert result.stdout.count(f"job {JOB_ID} resnet\n  hpc: the only backend") == 3


def test_a_spec_can_come_from_a_pipe_as_json(api, run):
    api.on("POST", "/v1/jobs", SUBMITTED)

    result = run("submit", "-", "-o", "name", input='{"kind": "batch", "name": "a", "command": ["true"]}')

    assert (result.exit_code, result.stdout) == (0, f"{JOB_ID}\n")
    assert api.body()["name"] == "a"


def test_a_portal_submits_for_a_person(api, run):
    api.on("POST", "/v1/jobs", SUBMITTED)

    run("submit", "--as", "ana", "-", input="{kind: batch, name: a}")

    assert api.last.headers["Broker-Owner"] == "ana"
    assert api.last.headers["Authorization"] == "Bearer wb_secret"


def test_a_directory_with_a_dot_counts_from_the_file(api, run, tmp_path):
    api.on("POST", "/v1/jobs", SUBMITTED)
    Path("jobs").mkdir()

    run("submit", write("jobs/a.yaml", "kind: batch\nname: a\nworking_directory: ../src\n"))

    assert api.body()["working_directory"] == str(tmp_path / "src")


def test_an_sbatch_script_runs_where_it_is_submitted(api, run, tmp_path):
    api.on("POST", "/v1/jobs", SUBMITTED)

    run("submit", write("a.sbatch", "#!/bin/sh\ntrue\n"))

    assert api.body()["working_directory"] == str(tmp_path)


def test_a_fault_is_shown_at_its_line(api, run):
    faults = [{"pointer": "/jobs/1/command/0", "message": "must not be empty"}]
    api.on("POST", "/v1/jobs:batch", problem(422, "invalid_spec", "1 fault", errors=faults))

    result = run("submit", write("ab.yaml", TWO_JOBS))

    assert result.exit_code == 3
    assert result.stderr == "Error: ab.yaml:7:12 (/command/0): must not be empty\n"


def test_several_faults_are_counted_and_then_told_each_at_its_line(api, run):
    faults = [{"pointer": f"/jobs/{n}/name", "message": "is taken"} for n in (0, 1)]
    api.on("POST", "/v1/jobs:batch", problem(422, "invalid_spec", "/jobs/0/name is taken", errors=faults))

    result = run("submit", write("ab.yaml", TWO_JOBS))

    assert result.stderr.splitlines() == [
        "Error: 2 faults in what was sent, and nothing was done",
        "  ab.yaml:2:7 (/name): is taken",
        "  ab.yaml:6:7 (/name): is taken",
    ]


def test_nothing_fits_shows_every_backend(api, run):
    faults = [{"pointer": "/script", "message": f"{one}: asks for a batch script"} for one in ("k8s", "k9s")]
    refused = problem(
        422, "nothing_fits", "no backend can run this job", decision=decision(chosen=None), errors=faults
    )
    api.on("POST", "/v1/jobs", refused)

    result = run("submit", write("a.yaml", "kind: batch\nname: a\nscript: |\n  true\n"))

    assert result.exit_code == 3
    assert result.stderr.startswith("Error: no backend can run this job\n")
    assert result.stderr.count("see a.yaml:4:3 (/script)\n") == 1
    assert re.search(r"k8s +kubernetes +refused +- +Unsupported: asks for a batch script", result.stderr)


def test_what_an_sbatch_script_cannot_keep_is_refused_before_anything_is_sent(api, run):
    text = "#!/bin/sh\n#SBATCH --comment=x\ntrue\n"
    api.on("POST", "/v1/jobs", SUBMITTED)

    refused = run("submit", write("a.sbatch", text))
    accepted = run("submit", "a.sbatch", "--ignore", "comment")

    assert (refused.exit_code, accepted.exit_code) == (2, 0)
    assert "a.sbatch:2: --comment" in refused.stderr
    assert len(api.requests) == 1


def test_a_dry_run_shows_decisions_and_stores_nothing(api, run):
    api.on("POST", "/v1/jobs:batch", {"decisions": [decision()]})

    result = run("submit", "--dry-run", write("a.yaml", "kind: batch\nname: a\n"))

    assert result.exit_code == 0
    assert re.search(r"hpc +slurm +chosen +10 +\+10 training belongs on Slurm", result.stdout)
    assert api.last.url.params["dry_run"] == "true"


def test_a_dry_run_of_several_is_one_of_the_bundle(api, run):
    api.on("POST", "/v1/jobs:batch", {"decisions": [decision(), decision()]})

    result = run("submit", "--dry-run", write("ab.yaml", TWO_JOBS))

    assert result.exit_code == 0
    assert [spec["name"] for spec in api.body()["jobs"]] == ["a", "b"]
    assert result.stdout.count("training belongs on Slurm") == 2


@pytest.mark.parametrize(("end", "code"), [("COMPLETED", 0), ("FAILED", 1), ("CANCELLED", 1)])
def test_submit_and_wait_ends_as_the_job_did(api, run, end, code):
    api.on("POST", "/v1/jobs", SUBMITTED)
    api.on("GET", JOB_PATH, job("RUNNING"), job(end))

    result = run("submit", "--wait", write("a.yaml", "kind: batch\nname: a\n"))

    assert result.exit_code == code
    assert f"{JOB_ID} resnet {end}" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.yaml: there is no job in it"),
        ("- a\n", "a.yaml:1:1: a job is a mapping"),
        ("kind: [\n", "a.yaml:2:1"),
    ],
)
def test_a_file_that_is_no_job_is_told_with_its_place(run, text, message):
    result = run("submit", write("a.yaml", text))

    assert result.exit_code == 2
    assert message in result.stderr


# ---- get ---------------------------------------------------------------------------------------------


def test_a_list_is_a_table_newest_first(api, run):
    rows = [summary("b", "RUNNING"), summary("a", "FAILED", reason="OutOfMemory")]
    api.on("GET", "/v1/jobs", {"items": rows, "next": None})

    result = run("get", "-l", "team=vision", "--state", "running", "--state", "FAILED")

    head, first, second = result.stdout.splitlines()
    assert head.split() == ["ID", "NAME", "KIND", "STATE", "REASON", "BACKEND", "AGE"]
    assert first.split()[:6] == ["b", "resnet", "training", "RUNNING", "-", "hpc"]
    assert second.split()[3:5] == ["FAILED", "OutOfMemory"]
    assert api.last.url.params.get_list("state") == ["RUNNING", "FAILED"]
    assert api.last.url.params["label"] == "team=vision"


def test_list_is_get(api, run):
    api.on("GET", "/v1/jobs", {"items": [summary()], "next": None})

    assert run("list").stdout == run("get").stdout


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_one_job_is_printed_whole_and_alone(api, run, output):
    api.on("GET", JOB_PATH, job())

    result = run("get", JOB_ID, "-o", output)

    assert read_documents(result.stdout, "stdout")[0].data == job()


def test_names_are_for_other_commands(api, run):
    api.on("GET", "/v1/jobs", {"items": [summary("a"), summary("b")], "next": None})

    assert run("get", "-o", "name").stdout == "a\nb\n"


def test_wide_shows_whose_it_is(api, run):
    api.on("GET", JOB_PATH, job())

    assert "ana    vision   team=vision" in run("get", JOB_ID, "-o", "wide").stdout


SHORT = {
    "endpoint": "http://h:1",
    "wanted": 3,
    "updated": 3,
    "ready": 1,
    "revision": 1,
    "message": "2 replicas wait for free slots",
}


def test_a_service_shows_how_many_replicas_are_ready_and_why_not_more(api, run):
    api.on("GET", JOB_PATH, job(service=SHORT))
    api.on("GET", "/v1/jobs", {"items": [summary(service=SHORT)], "next": None})

    one, wide, narrow = run("get", JOB_ID), run("list", "-o", "wide"), run("list")

    assert "RUNNING 1/3" in one.stdout
    assert one.stdout.splitlines()[2:] == ["resnet: 1 of 3 replicas ready: 2 replicas wait for free slots"]
    assert wide.stdout.splitlines()[0].endswith("  MESSAGE")
    assert wide.stdout.splitlines()[1].endswith("  2 replicas wait for free slots")
    assert "RUNNING 1/3" in narrow.stdout
    assert "free slots" not in narrow.stdout


def test_a_job_that_is_asked_for_says_why_it_ended(api, run):
    api.on("GET", JOB_PATH, job("FAILED", reason="NonZeroExit", message="ended with exit code 3"))

    shown = run("get", JOB_ID).stdout.splitlines()

    assert shown[2:] == ["resnet: ended with exit code 3"]


def test_an_empty_list_says_so_and_is_no_error(api, run):
    api.on("GET", "/v1/jobs", {"items": [], "next": None})

    result = run("get")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "no jobs yet" in result.stderr
    assert "no jobs yet" in run("list", "-o", "wide").stderr
    assert (run("list", "-o", "json").stdout, run("list", "-o", "json").stderr) == ("[]\n", "")


def test_there_are_no_colours_in_a_pipe(api, run):
    api.on("GET", JOB_PATH, job("FAILED"))

    assert "\x1b" not in run("get", JOB_ID).stdout
    assert "\x1b" in run("get", JOB_ID, color=True).stdout


def test_no_color_is_respected_on_a_terminal_too(api, run, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    api.on("GET", JOB_PATH, job("FAILED"))

    assert "\x1b" not in run("get", JOB_ID, color=True).stdout


@pytest.mark.parametrize(
    "value",
    [
        {"a": [], "b": {}, "c": None, "d": [1, 2.5, True]},
        {
            "text": [
                "yes",
                "null",
                "1e3",
                "a: b",
                "# no",
                "",
                " x ",
                "two\nlines",
                "0x10",
                "- a",
                "plain text",
            ]
        },
        [{"deep": [{"a": 1}, [2, [3]]]}],
        "just a text",
    ],
)
def test_yaml_reads_back_as_it_was(value):
    assert read_documents("\n".join(yaml_lines(value)), "out")[0].data == value


# ---- wait, logs, events ------------------------------------------------------------------------------


def test_wait_is_the_jobs_failure(api, run):
    api.on("GET", JOB_PATH, job("FAILED", reason="OutOfMemory", message="used 3 GiB of 2 GiB"))

    result = run("wait", JOB_ID)

    assert result.exit_code == 1
    assert "FAILED OutOfMemory: used 3 GiB of 2 GiB" in result.stderr


def test_waiting_too_long_is_no_failure_of_the_job(api, run):
    api.on("GET", JOB_PATH, job("RUNNING"))

    assert run("wait", JOB_ID, "--timeout", "0").exit_code == 5


def test_wait_for_an_event_that_has_come(api, run):
    api.on("GET", JOB_PATH, job("RUNNING", service={"ready": 1, "wanted": 1}))

    assert run("wait", JOB_ID, "--for", "ready").exit_code == 0


def test_waiting_for_none_is_no_success(api, run):
    """All of them may have failed before the question."""
    api.on("GET", "/v1/jobs", {"items": [], "next": None})

    result = run("wait", "-l", "run=5")

    assert (result.exit_code, result.stdout) == (3, "")
    assert "no live job is left by the filters" in result.stderr


def test_usage_shows_what_was_measured_and_what_was_not(api, run):
    nothing = dict.fromkeys(("cpu_s", "gpu_s", "memory_mib_s", "peak_cpus", "peak_memory_mib", "energy_j"))
    first = {"attempt": 1, "backend": "hpc", "elapsed_s": 90.4, **nothing}
    second = {**first, "attempt": 2, "cpu_s": 5400.0, "peak_memory_mib": 512.6, "energy_j": 1234.0}
    api.on("GET", f"{JOB_PATH}/usage", httpx2.Response(200, json={"items": [first, second]}))

    lines = run("usage", JOB_ID).stdout.splitlines()

    assert lines[1].split() == ["1", "hpc", "90", "s", "-", "-", "-", "-", "-"]
    assert lines[2].split() == ["2", "hpc", "90", "s", "1.50", "-", "-", "513", "MiB", "1.2", "kJ"]


def whole_log(content, **said):
    headers = {"Broker-Log-Cursor": "2", "Broker-Log-At-End": "true", "Broker-Log-Complete": "true", **said}
    return httpx2.Response(200, content=content, headers=headers)


def test_the_log_of_one_node_is_asked_for(api, run):
    api.on("GET", f"{JOB_PATH}/logs", whole_log(b"rank 3\n"))

    assert run("logs", JOB_ID, "--node", "3", "--stream", "stdout").stdout == "rank 3\n"
    assert dict(api.requests[0].url.params) == {"stream": "stdout", "node": "3"}


def test_logs_are_printed_byte_for_byte_each_stream_where_it_belongs(api, run):
    api.on("GET", f"{JOB_PATH}/logs", whole_log(b"\xff\r\n"), whole_log(b"\xfe"))

    result = run("logs", JOB_ID, "--replica", "1")

    assert (result.stdout_bytes, result.stderr_bytes) == (b"\xff\r\n", b"\xfe")
    assert [dict(request.url.params) for request in api.requests] == [
        {"stream": "stdout", "replica": "1"},
        {"stream": "stderr", "replica": "1"},
    ]


def test_one_stream_alone_goes_where_a_pipe_can_read_it(api, run):
    api.on("GET", f"{JOB_PATH}/logs", whole_log(b"\xff\r\n"))

    result = run("logs", JOB_ID, "--stream", "stderr")

    assert (result.stdout_bytes, result.stderr_bytes) == (b"\xff\r\n", b"")
    assert dict(api.last.url.params) == {"stream": "stderr"}


def test_a_note_on_a_log_goes_beside_it(api, run):
    """Of standard error too it would be told twice."""
    said = {"Broker-Log-Note": "its pod is gone; all of it was kept (1 bytes)"}
    api.on("GET", f"{JOB_PATH}/logs", whole_log(b"x", **said), whole_log(b"", **said))

    result = run("logs", JOB_ID)

    assert result.stdout_bytes == b"x"
    assert result.stderr == "note: its pod is gone; all of it was kept (1 bytes)\n"


def test_no_log_at_all_is_said(api, run):
    api.on("GET", f"{JOB_PATH}/logs", whole_log(b""))

    assert "nothing there" in run("logs", JOB_ID).stderr


def test_events_are_a_line_each(api, run):
    event = {
        "id": "i-1",
        "at": "2026-11-22T02:18:54.123Z",
        "type": "queued",
        "job": JOB_ID,
        "data": {"backend": "hpc"},
    }
    api.on("GET", "/v1/events", {"items": [event], "next": "i-1"}, {"items": [], "next": "i-1"})

    assert run("events").stdout == f"2026-11-22T02:18:54.123Z  {JOB_ID}  queued  backend=hpc\n"


def test_the_events_of_a_job_are_its_history(api, run):
    api.on("GET", f"{JOB_PATH}/events", {"items": [{**EVENT, "job": JOB_ID}]})

    assert run("events", JOB_ID).stdout == f"2026-11-22T02:18:54.123Z  {JOB_ID}  queued\n"


EVENT = {"id": "i-1", "at": "2026-11-22T02:18:54.123Z", "type": "queued", "job": None, "data": {}}


@pytest.mark.parametrize(
    ("words", "path", "params"),
    [
        (["-f"], "/v1/events", {}),
        (["-f", "--from-start"], "/v1/events", {"after": "oldest"}),
        (["-f", "--after", "i-0"], "/v1/events", {"after": "i-0"}),
        (["--after", "i-0"], "/v1/events", {"after": "i-0", "limit": "100"}),
        (["--operator", "-f"], "/v1/operator/events", {}),
        (["--operator"], "/v1/operator/events", {"limit": "100"}),
    ],
    ids=" ".join,
)
def test_events_are_asked_for_where_the_reader_begins(api, run, words, path, params):
    """Followed, they begin with what happens next, as those of kubectl and tail -f do."""
    text = f"id: i-1\nevent: queued\ndata: {json.dumps(EVENT)}\n\n"
    stream = httpx2.Response(200, content=text, headers={"Content-Type": "text/event-stream"})
    page = {"items": [EVENT], "next": "i-1"}
    end = problem(410, "gone", "the end of this test") if "-f" in words else {"items": [], "next": "i-1"}
    api.on("GET", path, stream if "-f" in words else page, end)

    result = run("events", *words, "-o", "name")

    assert result.stdout == "i-1\n"
    assert dict(api.requests[0].url.params) == params


@pytest.mark.parametrize(
    "words", [["--from-start", "--after", "i-0"], ["x", "--operator"], ["x", "-f"]], ids=" ".join
)
def test_options_of_events_that_say_two_things_are_refused(api, run, words):
    assert run("events", *words).exit_code == 2
    assert api.requests == []


# ---- acting ------------------------------------------------------------------------------------------


def test_cancelling_what_is_chosen_asks_first_and_says_how_many(api, run):
    api.on("GET", "/v1/jobs", {"items": [summary("a"), summary("b")], "next": None})

    result = run("cancel", "-l", "team=vision", input="n\n")

    assert "cancel 2 jobs? [y/N]" in result.stderr
    assert result.exit_code == 1
    assert [request.method for request in api.requests] == ["GET"]
    assert api.last.url.params.get_list("state") == ["ACCEPTED", "SUBMITTING", "QUEUED", "RUNNING"]


def test_one_refusal_does_not_keep_the_others_from_being_cancelled(api, run):
    api.on("POST", f"/v1/jobs/{OTHER_ID}/cancel", problem(403, "forbidden", "the job belongs to ben"))
    api.on("POST", f"{JOB_PATH}/cancel", job(cancel_requested=True))

    result = run("cancel", OTHER_ID, JOB_ID)

    assert result.exit_code == 3
    assert "the job belongs to ben" in result.stderr
    assert result.stdout == f"{JOB_ID} RUNNING, cancel requested\n"


@pytest.mark.parametrize(
    "done, said",
    [
        ({"requested": "3,5-7", "ended_before": None}, "RUNNING, cancel of tasks 3,5-7 requested"),
        (
            {"requested": "3", "ended_before": "8,9"},
            "RUNNING, cancel of tasks 3 requested, tasks 8,9 had ended before",
        ),
        ({"requested": None, "ended_before": "8"}, "RUNNING, tasks 8 had ended before"),
    ],
)
def test_single_tasks_are_cancelled_and_what_was_done_is_said(api, run, done, said):
    api.on("POST", f"{JOB_PATH}/cancel", job(task_cancel=done))

    result = run("cancel", JOB_ID, "--tasks", "3,5-9")

    assert (result.exit_code, result.stdout) == (0, f"{JOB_ID} {said}\n")
    assert api.body() == {"tasks": "3,5-9"}


def test_an_empty_list_of_tasks_is_not_the_whole_job(api, run):
    api.on("POST", f"{JOB_PATH}/cancel", problem(422, "invalid_spec", "/tasks is not an index or range"))

    assert run("cancel", JOB_ID, "--tasks", "").exit_code == 3
    assert api.body() == {"tasks": ""}


@pytest.mark.parametrize("words", [[], ["-l", "x=y"], [JOB_ID, OTHER_ID]], ids=["none", "chosen", "two"])
def test_single_tasks_are_of_one_job_that_is_named(api, run, words):
    result = run("cancel", "--tasks", "3", *words)

    assert (result.exit_code, api.requests) == (2, [])
    assert "--tasks are of one JOB" in result.stderr


@pytest.mark.parametrize(
    "words", [["cancel"], ["cancel", "a", "-l", "x=y"], ["wait"], ["get", "a", "--kind", "batch"]]
)
def test_jobs_are_named_or_chosen_never_both_or_neither(api, run, words):
    """`broker cancel` alone must never mean all."""
    assert run(*words).exit_code == 2
    assert api.requests == []


def listed(*items):
    return {"items": list(items), "next": None}


def test_a_name_is_the_one_live_job_that_has_it(api, run):
    api.on("GET", "/v1/jobs", listed(summary()))
    api.on("POST", f"{JOB_PATH}/cancel", job(cancel_requested=True))

    result = run("cancel", "resnet")

    assert result.stdout == f"{JOB_ID} RUNNING, cancel requested\n"
    asked = api.requests[0].url.params
    assert (asked["name"], asked.get_list("state")) == (
        "resnet",
        ["ACCEPTED", "SUBMITTING", "QUEUED", "RUNNING"],
    )


@pytest.mark.parametrize(
    "words", [["cancel"], ["hold"], ["release"], ["resubmit"], ["get"], ["wait"], ["logs"]]
)
def test_of_several_jobs_with_a_name_none_is_touched_and_all_are_listed(api, run, words):
    api.on("GET", "/v1/jobs", listed(summary(), summary(OTHER_ID, "QUEUED", owner="ben")))

    result = run(*words, "resnet")

    assert result.exit_code == 2
    assert f"  {JOB_ID}  resnet  RUNNING  ana\n  {OTHER_ID}  resnet  QUEUED  ben\n" in result.stderr
    assert [request.method for request in api.requests] == ["GET"]


def test_nothing_is_done_to_any_when_one_of_the_names_is_not_clear(api, run):
    api.on("GET", "/v1/jobs", listed(summary(), summary(OTHER_ID)))

    assert run("cancel", JOB_ID, "resnet").exit_code == 2
    assert {request.method for request in api.requests} == {"GET"}


def test_what_only_reads_takes_the_newest_that_has_ended_and_says_so(api, run):
    ended = [summary(JOB_ID, "FAILED"), summary(OTHER_ID, "COMPLETED")]
    api.on("GET", "/v1/jobs", listed(), listed(*ended))
    api.on("GET", JOB_PATH, job("FAILED"))

    result = run("get", "resnet", "-o", "name")

    assert result.stdout == f"{JOB_ID}\n"
    assert f"resnet is {JOB_ID}, the newest of that name; it is FAILED" in result.stderr


def test_what_acts_never_takes_one_that_has_ended(api, run):
    api.on("GET", "/v1/jobs", listed())

    result = run("cancel", "resnet")

    assert result.exit_code == 3
    assert "there is no live job with the ID or name 'resnet'" in result.stderr


def test_the_beginning_of_an_id_is_a_span_of_time(api, run):
    api.on("GET", "/v1/jobs", listed(summary("01JD3Z9AAAAAAAAAAAAAAAAAAA"), summary()))
    api.on("GET", JOB_PATH, job())

    result = run("get", JOB_ID[:7], "-o", "name")

    asked = api.requests[0].url.params
    assert result.stdout == f"{JOB_ID}\n"
    assert "2024-11-20T05:03" < asked["created_after"] < "2024-11-20T05:03:42.295Z"  # which the id says
    assert "2024-11-20T05:03:42.295Z" < asked["created_before"] < "2024-11-20T05:04"
    assert "name" not in asked


def test_a_beginning_that_fits_several_is_no_id(api, run):
    api.on("GET", "/v1/jobs", listed(summary(), summary(OTHER_ID)))

    result = run("cancel", JOB_ID[:20])

    assert result.exit_code == 2
    assert OTHER_ID in result.stderr


@pytest.mark.parametrize("beginning", ["7ZZZZZ", "000000"])
def test_a_beginning_outside_of_all_times_is_no_job(api, run, beginning):
    api.on("GET", "/v1/jobs", listed())

    assert run("cancel", beginning).exit_code == 3


def test_scale_sends_the_wanted_replicas(api, run):
    api.on("PATCH", JOB_PATH, job(replicas_wanted=3))

    assert run("scale", JOB_ID, "3").stdout == f"{JOB_ID} RUNNING, 3 replicas wanted\n"
    assert api.body() == {"replicas": 3}
    assert api.last.headers["Content-Type"] == "application/merge-patch+json"


# ---- placement ---------------------------------------------------------------------------------------


def test_explain_shows_every_backend_and_what_is_waited_for(api, run):
    api.on("GET", f"{JOB_PATH}/decision", decision(binding=True, attempt=1))
    api.on("GET", JOB_PATH, job("QUEUED"))
    api.on("GET", f"{JOB_PATH}/pending", {"items": [{"code": "Priority", "message": "7 jobs are ahead"}]})

    lines = run("explain", JOB_ID).stdout.splitlines()

    assert lines[0] == f"{JOB_ID} resnet QUEUED on hpc"
    assert lines[1].startswith(
        "attempt 1: hpc: the only backend that can run it (binding, policy default@abcdef01)"
    )
    assert [line.split()[0] for line in lines[2:5]] == ["BACKEND", "hpc", "k8s"]
    assert lines[-1] == "waits: Priority: 7 jobs are ahead"


def test_explain_of_a_service_says_why_replicas_are_missing(api, run):
    api.on("GET", f"{JOB_PATH}/decision", decision(binding=True, attempt=1))
    api.on("GET", JOB_PATH, job(service=SHORT))

    lines = run("explain", JOB_ID).stdout.splitlines()

    assert lines[1] == "resnet: 1 of 3 replicas ready: 2 replicas wait for free slots"


def test_render_prints_what_would_be_sent(api, run):
    api.on("POST", "/v1/backends/hpc/render", httpx2.Response(200, text="#!/bin/sh\ntrue\n"))

    result = run("render", write("a.yaml", "kind: batch\nname: a\n"), "--backend", "hpc")

    assert result.stdout == "#!/bin/sh\ntrue\n"


def test_render_without_a_backend_takes_the_one_that_the_policy_would_choose(api, run):
    api.on("POST", "/v1/jobs", decision())
    api.on("POST", "/v1/backends/hpc/render", httpx2.Response(200, text="#!/bin/sh\n"))

    result = run("render", write("a.yaml", "kind: batch\nname: a\n"))

    assert result.stdout == "#!/bin/sh\n"
    assert result.stderr == "a: for hpc, which would be chosen now; --backend names another\n"
    assert api.requests[0].url.params["dry_run"] == "true"


def test_render_needs_nothing_of_what_the_job_waits_for(api, run):
    """Its predecessor may be in another file."""
    api.on("POST", "/v1/jobs", decision())
    api.on("POST", "/v1/backends/hpc/render", httpx2.Response(200, text="#!/bin/sh\n"))

    result = run("render", write("a.yaml", "kind: batch\nname: a\ndepends_on: [{name: b}]\n"))

    assert result.exit_code == 0
    assert "depends_on" not in json.loads(api.requests[0].content)


def test_render_of_what_fits_nowhere_says_why_for_every_backend(api, run):
    api.on("POST", "/v1/jobs", decision(chosen=None, outcome="nothing_fits", summary="nothing fits"))

    result = run("render", write("a.yaml", "kind: batch\nname: a\n"))

    assert (result.exit_code, result.stdout) == (3, "")
    assert "Unsupported: asks for a batch script" in result.stderr


def test_a_fault_in_what_is_to_be_rendered_is_shown_at_its_line(api, run):
    faults = [{"pointer": "/name", "message": "is taken"}]
    api.on("POST", "/v1/backends/hpc/render", problem(422, "invalid_spec", "1 fault", errors=faults))

    result = run("render", write("a.yaml", "kind: batch\nname: a\n"), "--backend", "hpc")

    assert result.stderr == "Error: a.yaml:2:7 (/name): is taken\n"


def backend(**changes):
    found = {
        "name": "hpc",
        "type": "slurm",
        "reachable": True,
        "message": None,
        "drained": False,
        "paused": False,
    }
    found |= {"configured": True, "capabilities": ["logs"], "seen_at": None, "live_jobs": 3}
    return found | changes


def test_backends_say_whether_they_answer_and_take_jobs(api, run):
    found = [backend(), backend(name="k8s", reachable=False, message="refused", drained=True)]
    api.on("GET", "/v1/backends", {"items": found})

    _, first, second = run("backends").stdout.splitlines()

    assert first.split() == ["hpc", "slurm", "yes", "jobs", "3", "-", "-"]
    assert second.split() == ["k8s", "slurm", "no", "drained", "3", "-", "refused"]
    assert run("backends", "check").exit_code == 1


def test_a_backend_that_is_named_is_asked_what_it_finds(api, run):
    told = [
        {"subject": "connection", "well": True, "message": "Slurm 24.11.5"},
        {"subject": "logs", "well": False, "message": "/scratch is not mounted here"},
    ]
    api.on("GET", "/v1/backends/hpc", backend())
    api.on("POST", "/v1/backends/hpc/check", {"items": told})

    done = run("backends", "check", "hpc")

    *_, well, fault = done.stdout.splitlines()
    assert well.split(maxsplit=2) == ["connection", "ok", "Slurm 24.11.5"]
    assert fault.split() == ["logs", "NOT", "WELL", "/scratch", "is", "not", "mounted", "here"]
    assert done.exit_code == 1


def test_wide_shows_what_a_backend_gets_at_most(api, run):
    caps = {"max_drains": 2, "max_submits_per_s": 0.5, "max_live_jobs": 40}
    api.on("GET", "/v1/backends", {"items": [backend(caps=caps), backend(name="old")]})

    _, known, untold = run("backends", "-o", "wide").stdout.splitlines()

    assert known.endswith("40 live, 0.5/s, 2 drains")
    assert untold.endswith("-")


def test_a_backend_is_drained_by_its_name(api, run):
    api.on("POST", "/v1/backends/hpc/drain", backend(drained=True))

    assert run("backends", "drain", "hpc").stdout == "hpc: drained\n"


# ---- errors and start --------------------------------------------------------------------------------


def test_no_broker_is_a_sentence_that_helps(api, run):
    api.on("GET", "/v1/jobs", httpx2.ConnectError("refused"))

    result = run("get")

    assert result.exit_code == 4
    assert result.stderr == (
        "Error: no broker answers at http://broker.example: start one with `broker dev`, or set BROKER_URL\n"
    )


@pytest.mark.parametrize("words", [["wait", JOB_ID], ["logs", "-f", JOB_ID], ["get", JOB_ID, "-w"]])
def test_control_c_ends_quietly_as_a_shell_expects(api, run, words):
    """It was exit code 1, which says that a job failed."""
    api.on("GET", JOB_PATH, job("RUNNING"), KeyboardInterrupt())
    api.on("GET", f"{JOB_PATH}/logs", KeyboardInterrupt())

    result = run(*words)

    assert result.exit_code == 130
    assert "Abort" not in result.output
    assert "Traceback" not in result.output


def test_a_state_that_does_not_answer_is_no_wrong_usage(run, monkeypatch, tmp_path):
    monkeypatch.setenv("BROKER_REDIS_URL", f"unix://{tmp_path}/nobody.sock")

    assert run("token", "list").exit_code == 4
    assert run("export", "file").exit_code == 4


@pytest.mark.parametrize(
    "url",
    ["broker.example", "127.0.0.1:8080", "http://", "ftp://h", "http://h:x", "http://h:99999", "http://[::1"],
)
@pytest.mark.parametrize("words", [["get"], ["logs", "-f", JOB_ID], ["events", "-f"]])
def test_what_can_be_no_address_is_wrong_usage(run, api, url, words):
    """`broker dev` would not help, so "no broker answers" was the wrong sentence."""
    result = run("--url", url, *words)

    assert result.exit_code == 2
    assert f"{url.rstrip('/')!r} is not the address of a broker" in result.stderr
    assert "http://HOST:PORT" in result.stderr
    assert api.requests == []


def test_a_refused_token_says_where_to_get_one(api, run):
    api.on("GET", "/v1/jobs", problem(401, "unauthenticated", "a valid token is needed"))

    result = run("get")

    assert result.exit_code == 3
    assert "set BROKER_TOKEN" in result.stderr


def test_the_advice_to_look_at_the_jobs_is_for_jobs(api, run):
    api.on("GET", JOB_PATH, problem(404, "not_found", f"there is no job {JOB_ID}"))
    api.on(
        "POST", "/v1/backends/x/drain", problem(404, "not_found", "there is no backend x; configured are hpc")
    )

    assert "broker list shows the jobs" in run("get", JOB_ID).stderr
    assert run("backends", "drain", "x").stderr == "Error: there is no backend x; configured are hpc\n"


def test_a_slip_in_the_name_of_a_command_is_understood(run):
    result = run("sumbit")

    assert result.exit_code == 2
    assert "did you mean 'submit'?" in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_the_text_of_the_table(run, name):
    result = run(name, "--help")

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Usage: ")


def test_the_settings_are_shown_without_passwords(run, monkeypatch):
    monkeypatch.setenv("BROKER_REDIS_URL", "redis://:hunter2@127.0.0.1/0")

    result = run("config", "show")

    assert result.exit_code == 0, result.output
    assert "redis_url = (set)" in result.stdout
    assert "hunter2" not in result.stdout


def test_wrong_settings_are_told_with_exit_code_2(run, monkeypatch):
    monkeypatch.setenv("BROKER_REDIS_URL", "redis://127.0.0.1/0")
    monkeypatch.setenv("BROKER_LISTEN_PORT", "many")

    assert run("config", "check").exit_code == 2


def test_what_no_backend_could_start_with_is_told_for_all_of_them(run, tmp_path):
    """And nothing is made on the machine meanwhile."""
    settings = tmp_path / "settings.toml"
    settings.write_text(
        f"""
redis_url = "redis://127.0.0.1/0"
data_dir = "{tmp_path / "data"}"
backends = [
    {{ name = "one", type = "local", options = {{ bogus = 1 }} }},
    {{ name = "two", type = "nosuch" }},
    {{ name = "three", type = "local" }},
]
"""
    )

    told = run("config", "check", "--config", str(settings))

    assert told.exit_code == 2
    assert "backend one: " in told.stderr and "bogus" in told.stderr
    assert "backend two: there is no adapter for the backend type nosuch" in told.stderr
    assert "three" not in told.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("words, name", [([], "by-variable"), (["--name", "login"], "login")])
def test_a_worker_is_called_as_its_command_says_before_all_else(run, monkeypatch, tmp_path, words, name):
    monkeypatch.setenv("BROKER_REDIS_URL", "redis://127.0.0.1/0")
    monkeypatch.setenv("BROKER_WORKER_NAME_FILE", write(str(tmp_path / "name"), "by-variable"))
    started = []
    monkeypatch.setattr("broker.processes.run_worker", started.append)

    result = run("worker", *words)

    assert result.exit_code == 0, result.output
    assert [settings.worker_name for settings in started] == [name]


@pytest.mark.parametrize("role", ["api", "worker", "controller"])
@pytest.mark.parametrize("words, wanted", [([], False), (["--allow-volatile"], True)])
def test_a_server_that_may_forget_is_taken_when_the_command_says_so(run, monkeypatch, role, words, wanted):
    monkeypatch.setenv("BROKER_REDIS_URL", "redis://127.0.0.1/0")
    started = []
    monkeypatch.setattr(f"broker.processes.run_{role}", started.append)

    result = run(role, *words)

    assert result.exit_code == 0, result.output
    assert [settings.allow_volatile for settings in started] == [wanted]


@pytest.mark.parametrize(
    "words",
    [
        ("cancel", ""),
        ("get", ""),
        ("get", "--name", ""),
        ("cancel", "--owner", "", "--state", "RUNNING", "-y"),
        ("list", "-l", ""),
        ("backends", "drain", ""),
    ],
    ids=" ".join,
)
def test_an_empty_word_means_nothing_and_not_everything(api, run, words):
    """As of a variable that is not set."""
    result = run(*words)

    assert result.exit_code == 2
    assert "is empty: is a variable not set?" in result.stderr
    assert api.requests == []


@pytest.mark.parametrize(
    "words, said",
    [
        (("--timeout", "0", "get"), "not in the range"),
        (("--timeout", "nan", "get"), "--timeout is a number of seconds"),
        (("submit", "--dry-run", "-o", "name", "a.yaml"), "a dry run has decisions, which have no name"),
        (("update", JOB_ID, "latin.yaml"), "latin.yaml is not UTF-8: byte 8 cannot be read"),
    ],
    ids=lambda words: " ".join(words[:3]) if isinstance(words, tuple) else "",
)
def test_what_cannot_be_done_is_said_without_a_traceback(api, run, words, said):
    write("a.yaml", "kind: batch\nname: a\n")
    Path("latin.yaml").write_bytes("labels: größe".encode("latin-1").replace(b"gr", b""))

    result = run(*words)

    assert result.exit_code == 2, result.exception
    assert said in " ".join(result.stderr.split())
    assert api.requests == []


def test_a_check_reads_the_policy_too(run, monkeypatch):
    monkeypatch.setenv("BROKER_REDIS_URL", "redis://127.0.0.1/0")
    monkeypatch.setenv("BROKER_POLICY_FILE", str(Path(write("policy.yaml", "rules: 1\n")).absolute()))

    assert run("config", "check").exit_code == 2


def test_a_check_names_the_variables_that_nobody_reads(run, monkeypatch):
    for name in ("REDIS_URL", "FRIENDLY", "URL", "TOKEN"):
        monkeypatch.setenv(f"BROKER_{name}", "redis://127.0.0.1/0")

    result = run("config", "check")

    assert result.exit_code == 0
    (told,) = [line for line in result.stderr.splitlines() if line.startswith("not read here: ")]
    names = told.removeprefix("not read here: ").split(", ")
    assert "BROKER_FRIENDLY" in names
    assert not {"BROKER_REDIS_URL", "BROKER_URL", "BROKER_TOKEN"} & set(names)


def test_a_worker_with_an_impossible_name_is_refused(run, monkeypatch):
    monkeypatch.setenv("BROKER_REDIS_URL", "redis://127.0.0.1/0")

    result = run("worker", "--name", "login node")

    assert result.exit_code == 2
    assert "worker_name: must start with a letter or digit" in result.output


def test_commands_of_the_server_find_the_state_of_a_running_broker_dev(run, tmp_path, monkeypatch):
    """So that `broker token create` and `broker export` work beside `broker dev` without settings."""
    monkeypatch.setenv("BROKER_DATA_DIR", str(tmp_path))
    without = run("config", "show")
    write("dev.json", "{}")

    beside = run("config", "show")

    assert without.exit_code == 2
    assert beside.exit_code == 0, beside.output
    assert "backends = ['local (local)']" in beside.stdout


def test_they_know_what_broker_dev_was_told(run, tmp_path, monkeypatch):
    """Or a token for a second owner would be refused, with the advice to do what was done."""
    monkeypatch.setenv("BROKER_DATA_DIR", str(tmp_path))
    write("dev.json", json.dumps({"settings": {"BROKER_ALLOW_SHARED_LOCAL": "true"}}))

    assert "allow_shared_local = True" in run("config", "show").stdout


SERVER_LIBRARIES = ("flask", "celery", "redis", "environs", "marshmallow", "cel_expr_python", "rich")


@pytest.mark.parametrize(
    ("words", "also_not"),
    [
        (["--help"], ("httpx2", "ruamel", "broker.client.client")),
        (["get"], ("httpx2", "ruamel")),
        (["submit", "a.yaml"], ("httpx2",)),
    ],
    ids=["help", "get", "submit"],
)
def test_a_remote_command_starts_without_what_it_does_not_need(tmp_path, words, also_not):
    """Time is not measured here, because machines differ; these imports are what it is made of."""
    (tmp_path / "a.yaml").write_text("kind: batch\nname: a\n")
    program = (
        "import sys\nfrom broker.cli.main import main\nmain(sys.argv[1:], standalone_mode=False)\n"
        "import json\nprint(json.dumps(sorted(sys.modules)))"
    )
    command = [sys.executable, "-c", program, "--url", "http://127.0.0.1:1", *words]
    environ = {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}

    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)

    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not [name for name in (*SERVER_LIBRARIES, *also_not) if name in loaded]
