"""What every answer has in common: problems, headers, tokens, limits; and what operators ask."""

import hashlib
import json
import logging
import re
import subprocess
import sys
from importlib.resources import files

import pytest
from limits.errors import StorageError
from web_stub import TRAINING, running_api

from api_spec.errors import BrokerError, StoreUnavailable, all_errors
from broker import logs
from broker.access import Scope
from broker.web.headers import ALWAYS

PUBLIC = {"/healthz", "/readyz", "/openapi.json", "/", "/docs", "/docs/", "/docs/errors", "/docs/<asset>"}


@pytest.fixture
def api():
    with running_api(max_body_bytes=4096, max_bundle_bytes=16384) as api:
        yield api


@pytest.fixture
def ana(api):
    return api.as_("ana")


def assert_problem(answer, status, code):
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    problem = answer.json
    assert (problem["status"], problem["code"], problem["type"]) == (status, code, f"/docs/errors#{code}")
    assert problem["title"] and problem["detail"]
    assert problem["request_id"] == answer.headers["X-Request-Id"]


# ---- problems ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, path, status, code",
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/jobs/", 404, "not_found"),
        ("DELETE", "/v1/jobs", 405, "method_not_allowed"),
        ("TRACE", "/v1/backends", 405, "method_not_allowed"),
        ("GET", "/v1/backends/none", 404, "not_found"),
    ],
)
def test_every_error_is_a_problem_document(ana, method, path, status, code):
    assert_problem(ana.open(path, method=method), status, code)


def test_a_refused_method_says_which_are_allowed(ana):
    """A handler that builds its answer from scratch loses this header."""
    answer = ana.delete("/v1/jobs")

    assert set(answer.headers["Allow"].replace(" ", "").split(",")) == {"GET", "HEAD", "OPTIONS", "POST"}


@pytest.mark.parametrize(
    "headers, code",
    [
        ({"Content-Type": "text/plain"}, "unsupported_media_type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "unsupported_media_type"),
        ({"Content-Type": "application/json; charset=latin-1"}, "unsupported_media_type"),
        ({"Content-Type": ""}, "unsupported_media_type"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, "unsupported_media_type"),
    ],
    ids=["text", "form", "charset", "none", "gzip"],
)
def test_another_content_type_is_refused(ana, headers, code):
    assert_problem(ana.post("/v1/jobs", data=json.dumps(TRAINING), headers=headers), 415, code)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=UTF-8"])
def test_json_in_utf_8_is_taken(ana, content_type):
    answer = ana.post("/v1/jobs", data=json.dumps(TRAINING), headers={"Content-Type": content_type})

    assert answer.status_code == 202


@pytest.mark.parametrize("path, limit", [("/v1/jobs", 4096), ("/v1/jobs:batch", 16384)])
def test_a_body_over_the_limit_is_refused_and_one_below_is_read(ana, path, limit):
    over = ana.post(path, data=b" " * (limit + 1), content_type="application/json")
    at = ana.post(path, data=b" " * limit, content_type="application/json")

    assert_problem(over, 413, "too_large")
    assert over.json["detail"] == f"the body has {limit + 1} bytes; at most {limit} are taken"
    assert_problem(at, 400, "invalid_request")


def test_a_bug_says_nothing_of_itself_and_is_logged(api, ana, caplog):
    def broken(*_):
        raise ZeroDivisionError("secret words")

    api.broker.get = broken

    answer = ana.get("/v1/jobs/x")

    assert_problem(answer, 500, "internal_error")
    assert "secret" not in answer.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "kind", [kind for kind in all_errors() if kind is not BrokerError], ids=lambda k: k.code
)
def test_every_error_keeps_its_code_status_and_members(api, ana, kind):
    def broken(*_):
        raise kind("in words", limit=7)

    api.broker.get = broken

    answer = ana.get("/v1/jobs/x")

    assert_problem(answer, kind.http_status, kind.code)
    assert (answer.json["detail"], answer.json["limit"]) == ("in words", 7)
    assert ("Retry-After" in answer.headers) == kind.retryable


def test_the_type_of_a_problem_leads_to_its_explanation(api):
    page = api.app.test_client().get("/docs/errors").text

    assert all(f'id="{kind.code}"' in page for kind in all_errors())


# ---- headers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/nowhere", "/v1/jobs"])
def test_every_answer_carries_the_security_headers(api, path):
    answer = api.app.test_client().get(path)

    assert all(answer.headers[name] == value for name, value in ALWAYS)
    assert answer.headers.getlist("Cache-Control") in (["no-store"], ["public, max-age=86400"])


@pytest.mark.parametrize(
    "sent, kept", [("trace-1.a_B", True), ("a b", False), ("", False), ("x" * 65, False)]
)
def test_a_sane_request_id_is_kept_and_another_replaced(ana, sent, kept):
    answer = ana.get("/v1/jobs", headers={"X-Request-Id": sent})

    assert (answer.headers["X-Request-Id"] == sent) == kept
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", answer.headers["X-Request-Id"])


def test_an_answer_tells_its_length_with_and_without_its_body(ana):
    whole, head = ana.get("/v1/backends"), ana.head("/v1/backends")

    assert int(whole.headers["Content-Length"]) == len(whole.data) == int(head.headers["Content-Length"])
    assert head.data == b""


def test_what_a_request_logs_is_bound_to_its_id(api, ana, caplog):
    seen = {}
    api.broker.backends = lambda who: seen.update(logs._bound.get()) or ()

    ana.get("/v1/backends", headers={"X-Request-Id": "r-1"})

    assert seen["request_id"] == "r-1"


def test_refused_requests_are_logged_and_no_token_is(api, caplog):
    caplog.set_level(logging.DEBUG)
    client = api.as_("ana")

    client.get("/nowhere")
    client.get("/v1/jobs")

    assert "GET /nowhere 404" in caplog.text
    assert "wb_" not in caplog.text


# ---- tokens ------------------------------------------------------------------------------------------


def rules(api):
    for rule in api.app.url_map.iter_rules():
        for method in rule.methods - {"OPTIONS", "HEAD"}:
            yield method, rule.rule


def test_every_route_needs_a_token_but_a_short_list(api):
    client = api.app.test_client()

    open_to_all = set()
    for method, rule in rules(api):
        answer = client.open(re.sub("<[^>]+>", "x", rule), method=method)
        if answer.status_code != 401:
            open_to_all.add(rule)
        else:
            assert_problem(answer, 401, "unauthenticated")
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")

    assert open_to_all == PUBLIC


@pytest.mark.parametrize(
    "method, rule", [("HEAD", "/v1/jobs"), ("OPTIONS", "/v1/jobs"), ("HEAD", "/metrics")]
)
def test_no_method_is_a_way_around_the_token(api, method, rule):
    assert api.app.test_client().open(rule, method=method).status_code == 401


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer wb_" + "A" * 43, "wb_" + "A" * 43, "Bearer a b c"],
)
def test_what_is_no_good_token_is_refused(api, header):
    answer = api.app.test_client().get("/v1/jobs", headers={"Authorization": header})

    assert_problem(answer, 401, "unauthenticated")


def test_the_scheme_may_be_written_in_any_case(api):
    headers = {"Authorization": f"bEaReR  {api.token()}"}

    assert api.app.test_client().get("/v1/jobs", headers=headers).status_code == 200


# ---- rate limit --------------------------------------------------------------------------------------


def test_a_token_that_asks_too_often_is_told_when_to_come_back():
    with running_api(rate_limit="3 per minute") as api:
        ana, ben = api.as_("ana"), api.as_("ben")
        answers = [ana.get("/v1/backends") for _ in range(4)]

        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert_problem(answers[-1], 429, "rate_limited")
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
        assert ben.get("/v1/backends").status_code == 200


def test_requests_are_counted_in_blocks_and_never_beyond_the_limit():
    with running_api(rate_limit="1000 per hour") as api:
        ana = api.as_("ana")
        asked = []
        counted = api.web.rate_limit.counter.hit
        api.web.rate_limit.counter.hit = lambda *args, **more: asked.append(args) or counted(*args, **more)

        statuses = [ana.get("/v1/backends").status_code for _ in range(1010)]

    assert statuses.count(200) <= 1000
    assert statuses[-1] == 429
    assert len(asked) < 500


def test_when_requests_cannot_be_counted_the_store_is_to_blame(api, ana):
    def lost(*_, **__):
        raise StorageError(ConnectionError("no"))

    api.web.rate_limit.counter.hit = lost

    assert_problem(ana.get("/v1/backends"), 503, "store_unavailable")


# ---- operations --------------------------------------------------------------------------------------


def test_a_process_without_its_store_is_alive_and_not_ready(api):
    client = api.app.test_client()
    api.broker.not_ready = StoreUnavailable("Redis does not answer")

    assert client.get("/healthz").json == {"status": "ok"}
    assert_problem(client.get("/readyz"), 503, "store_unavailable")
    api.broker.not_ready = None
    assert client.get("/readyz").status_code == 200


def test_figures_and_request_times_are_in_the_metrics(api, ana):
    ana.get("/v1/jobs?limit=1")
    ana.get("/v1/jobs/01ABC/nothing")

    text = ana.get("/metrics").text

    assert 'broker_jobs{project="vision",state="RUNNING"} 3.0' in text
    assert "broker_uptime 0.5" in text
    assert 'broker_new{label_0="x",label_1="y"} 1.0' in text
    assert 'broker_http_answers_total{method="GET",route="/v1/jobs",status="200"} 1.0' in text
    assert "# TYPE broker_drains_total counter\nbroker_drains_total 2.0" in text
    assert "01ABC" not in text


def test_the_server_is_loaded_without_the_library_of_figures():
    """It decides when it is loaded whether it counts for one process or for all of them, and the server has
    to say so first: figures of several processes were once silently lost."""
    code = "import sys, broker.processes, broker.web.server; sys.exit('prometheus_client' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_metrics_are_for_operators(api):
    plain = api.as_("ana", scopes=frozenset({Scope.JOBS_READ}))

    assert_problem(plain.get("/metrics"), 403, "forbidden")


def test_an_operator_has_a_backend_asked_what_it_finds(api, ana):
    plain = api.as_("ben", scopes=frozenset({Scope.JOBS_READ, Scope.JOBS_ADMIN}))

    found = ana.post("/v1/backends/local/check").json

    assert found == {"items": [{"subject": "ledger", "well": False, "message": "is full"}]}
    assert_problem(plain.post("/v1/backends/local/check"), 403, "forbidden")
    assert_problem(ana.post("/v1/backends/none/check"), 404, "not_found")


@pytest.mark.parametrize("verb, member", [("drain", "drained"), ("pause", "paused")])
def test_an_operator_controls_a_backend(api, ana, verb, member):
    plain = api.as_("ben", scopes=frozenset({Scope.JOBS_READ, Scope.JOBS_ADMIN}))

    assert ana.post(f"/v1/backends/local/{verb}").json[member] is True
    assert ana.post("/v1/backends/local/resume").json[member] is False
    assert_problem(plain.post(f"/v1/backends/local/{verb}"), 403, "forbidden")


def test_what_would_be_sent_is_shown_as_it_is(ana):
    answer = ana.post("/v1/backends/local/render", json=TRAINING)

    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    assert "# digits on local" in answer.text


# ---- the documentation page --------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/docs/"])
def test_a_browser_finds_the_page_from_where_people_begin(api, path):
    answer = api.app.test_client().get(path, follow_redirects=True)

    assert (answer.request.path, answer.status_code, answer.mimetype) == ("/docs", 200, "text/html")
    assert answer.history[0].headers["Cache-Control"] == "no-store"


def test_the_page_loads_nothing_from_elsewhere(api):
    client = api.app.test_client()
    page = client.get("/docs").text
    wanted = re.findall(r'(?:src|href)="([^"]+)"', page)

    assert len(wanted) == 4
    assert all(client.get(path).status_code == 200 for path in wanted)
    assert not re.search(r"https?://|<script>|style=", page)


def test_the_vendored_files_are_what_their_manifest_says():
    folder = files("broker.web") / "static" / "swagger"
    manifest = json.loads((folder / "manifest.json").read_text())

    for name, digest in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("asset", ["manifest.json", "..%2fswagger%2fLICENSE", "%2e%2e/app.py", "x"])
def test_nothing_else_of_the_folder_is_served(api, asset):
    assert api.app.test_client().get(f"/docs/{asset}").status_code == 404
