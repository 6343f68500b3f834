"""The documentation page as a browser shows it, from a running server and with no network."""

import re
import shutil
import subprocess
import threading

import pytest
from web_stub import running_api
from werkzeug.serving import make_server

from broker.web import openapi

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--headless", "--no-sandbox", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage"]
QUIET += [f"--disable-{what}" for what in ("quic", "sync", "extensions", "component-update")]
QUIET += ["--disable-background-networking"]
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
SAYS_ALL = ["--enable-logging=stderr", "--log-level=0", "--virtual-time-budget=20000"]
CONSOLE = re.compile(r"CONSOLE.*")

pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no browser: put chromium on the PATH")


@pytest.fixture
def api():
    with running_api() as api:
        yield api


@pytest.fixture
def answers():
    """(path, status) of each request."""
    return []


@pytest.fixture
def show(api, answers, tmp_path):
    """The page at a path as it is after its scripts have run, and what the browser's console says."""

    def watched(environ, start_response):
        def start(status, *more):
            answers.append((environ["PATH_INFO"], int(status[:3])))
            return start_response(status, *more)

        return api.app(environ, start)

    def show(path):
        url = f"http://127.0.0.1:{server.server_port}{path}"
        words = [
            BROWSER,
            *QUIET,
            OFFLINE,
            *SAYS_ALL,
            f"--user-data-dir={tmp_path}/profile",
            "--dump-dom",
            url,
        ]
        environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=100)
        return done.stdout, CONSOLE.findall(done.stderr)

    server = make_server("127.0.0.1", 0, watched, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield show
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_browser_shows_every_operation_with_what_the_broker_serves_alone(show, answers):
    page, console = show("/")

    shown = re.findall(r'data-path="([^"]+)"', page)
    paths = [
        path for path, item in openapi.document()["paths"].items() for verb in item if verb != "parameters"
    ]
    assert sorted(shown) == sorted(paths)
    assert console == []
    assert {status for _, status in answers} <= {200, 302}, answers


def test_a_browser_shows_what_an_error_means(show, answers):
    page, console = show("/docs/errors#invalid_spec")

    assert 'id="invalid_spec"' in page
    assert console == []
    assert {status for _, status in answers} == {200}, answers
