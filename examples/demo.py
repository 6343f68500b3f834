"""The main job, from door to door, on this machine: train on real data, serve, ask, scale.

Starts a broker of its own in a temporary directory, and leaves nothing running.  ``script/demo`` calls it
with the right Python; the jobs need scikit-learn in the same one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from broker.cli.decisions import decision_lines
from broker.cli.files import read_specs
from broker.client import Client, ClientError

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "digits"))

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
START_S, TRAIN_S, SERVE_S, STOP_S = 60.0, 90.0, 60.0, 20.0
REPLICAS = 2
IMAGES_IN_A_REQUEST = 50
MOST_REQUESTS = 100  # until every replica has answered one
TOLD: dict[str, str] = {}  # what was last printed of each job


class DemoFailed(Exception):
    """The message names the step."""


def main() -> int:
    return run(show_the_main_job)


@contextmanager
def nothing_else() -> Iterator[str]:
    yield ""


def run(
    show: Callable[[Client], None], surroundings: Callable[[], AbstractContextManager[str]] = nothing_else
) -> int:
    """``surroundings`` are there as long as the broker, and say its settings; the exit code."""
    for number in SIGNALS:
        signal.signal(number, interrupted)
    started = time.monotonic()
    try:
        with surroundings() as settings, running_broker(settings) as client:
            show(client)
    except DemoFailed as failure:
        print(f"\nThe demo failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nThe demo was interrupted.", file=sys.stderr)
        return 130
    print(f"\nAll of it took {time.monotonic() - started:.0f} s, and nothing is left running.")
    return 0


@contextmanager
def running_broker(settings: str) -> Iterator[Client]:
    directory = Path(tempfile.mkdtemp(prefix="broker-demo-"))
    broker = start_broker(directory, settings)
    try:
        with wait_until_ready(broker, directory) as client:
            yield client
    except DemoFailed:
        print_ends_of_logs(directory)
        raise
    finally:
        # A second Ctrl-C must not leave half of it running.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        stop_everything(broker, directory)


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


@contextmanager
def step(title: str) -> Iterator[None]:
    print(f"\n== {title}", flush=True)
    try:
        yield
    except (ClientError, OSError, ValueError, KeyError) as error:
        raise DemoFailed(f"{title}: {error}") from error


def show_the_main_job(client: Client) -> None:
    training, service = submit_both(client)
    train(client, training)
    serve(client, service)
    scale(client, service)
    with step("Cancel the service"):
        cancel(client, service)


# ---- the steps ---------------------------------------------------------------------------------------


def submit_both(client: Client) -> tuple[str, str]:
    with step("Submit both files in one call: both are accepted, or neither"):
        files = read_specs([str(HERE / "training.yaml"), str(HERE / "inference.yaml")])
        training, service = submit(client, [file.spec for file in files])
        return training, service


def submit(client: Client, specs: Sequence[dict[str, Any]]) -> list[str]:
    """Their ids; prints each decision."""
    accepted = client.submit(specs)
    for item in accepted:
        job = item["job"]
        print(f"{job['spec']['name']} ({job['spec']['kind']}) is job {job['id']}, {job['state']}")
        for line in decision_lines(item["decision"]):
            click.echo(f"  {line}")  # without colours where it is not a terminal
    sys.stdout.flush()
    return [item["job"]["id"] for item in accepted]


def train(client: Client, training: str) -> None:
    with step("Train: the job's states, and its log as it is written"):
        client.wait([training], timeout=TRAIN_S, progress=show_state, until="started")
        for line in lines_of(client.logs(training, follow=True)):
            print(f"  | {line}", flush=True)
        job = client.wait([training], timeout=TRAIN_S, progress=show_state)[0]
        if job["state"] != "COMPLETED":
            errors = b"".join(client.logs(training, stream="stderr")).decode(errors="replace")
            raise DemoFailed(
                f"the training job is {job['state']}: {job['reason']} {job['message']}\n{errors}"
            )


def serve(client: Client, service: str) -> None:
    with step("Serve: the job that waited for the model starts"):
        job = client.wait([service], timeout=SERVE_S, progress=show_state, until="ready")[0]
        expect(job["state"] == "RUNNING", f"the service is {job['state']}: {job['reason']} {job['message']}")
        endpoint = job["service"]["endpoint"]
        model = client.attempts(service)[-1]["inputs"].get("model")
        print(f"ready at {endpoint}, with the model {model}")
    with step("Ask: digits that the model has never seen"):
        right, count = ask_all(endpoint)
        print(f"{right} of {count} held-back digits are right ({right / count:.1%})")
        expect(right / count > 0.9, "a network that was trained gets more than 90 % right")


def scale(client: Client, service: str) -> None:
    with step(f"Scale to {REPLICAS} replicas"):
        client.scale(service, REPLICAS)
        ready = "not yet known"

        def both_ready() -> dict[str, Any] | None:
            nonlocal ready
            job = client.get(service)
            why = job["service"]["message"] or job["message"] or ""
            ready = f"{job['service']['ready']} of {job['service']['wanted']} {why}"
            return job if job["service"]["ready"] >= REPLICAS else None

        job = wait_for(both_ready, SERVE_S, lambda: f"replicas ready: {ready}")
        image = held_back()[0][:1]
        seen: set[str] = set()
        for _ in range(MOST_REQUESTS):
            seen.add(ask(job["service"]["endpoint"], image)["replica"])
            if len(seen) >= REPLICAS:
                break
        for replica in sorted(seen):
            print(f"replica {replica} answers")
        expect(len(seen) == REPLICAS, f"of {REPLICAS} replicas {len(seen)} answered")


def cancel(client: Client, *jobs: str) -> None:
    for job_id in jobs:
        client.cancel(job_id)
    for job in client.wait(jobs, timeout=SERVE_S, progress=show_state):
        expect(job["state"] == "CANCELLED", f"{job['spec']['name']} is {job['state']}")


def lines_of(pieces: Iterable[bytes]) -> Iterator[str]:
    """A piece of a log can end anywhere, even within a character."""
    decoder = getincrementaldecoder("utf-8")("replace")
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + decoder.decode(piece)).split("\n")
        yield from lines
    if rest:
        yield rest


def show_state(job: dict[str, Any]) -> None:
    why = f", {job['reason']}: {job['message']}" if job["reason"] and job["message"] else ""
    place = f" on {job['backend']}" if job["backend"] else ""
    line = f"{job['spec']['name']} {job['state']}{place}{why}"
    if TOLD.get(job["id"]) != line:
        print(line, flush=True)
    TOLD[job["id"]] = line


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise DemoFailed(message)


# ---- the model's users -------------------------------------------------------------------------------


def held_back() -> tuple[list[list[float]], list[int]]:
    from data import split

    _, images, _, digits = split()
    return images.tolist(), digits.tolist()


def ask_all(endpoint: str) -> tuple[int, int]:
    images, digits = held_back()
    right = 0
    for at in range(0, len(images), IMAGES_IN_A_REQUEST):
        answers = ask(endpoint, images[at : at + IMAGES_IN_A_REQUEST])["digits"]
        right += sum(map(int.__eq__, answers, digits[at : at + IMAGES_IN_A_REQUEST]))
    return right, len(images)


def ask(endpoint: str, images: list[list[float]]) -> dict[str, Any]:
    body = json.dumps({"images": images}).encode()
    request = urllib.request.Request(
        f"{endpoint.rstrip('/')}/predict", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


# ---- the broker --------------------------------------------------------------------------------------


def start_broker(directory: Path, settings: str) -> subprocess.Popen[bytes]:
    """``python3`` in the jobs is the Python that runs this, because its directory comes first."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    command = [sys.executable, "-m", "broker.cli", "dev", "--data-dir", str(directory / "data")]
    if settings:
        (directory / "broker.toml").write_text(settings)
        command += ["--config", str(directory / "broker.toml")]
    with (directory / "broker.log").open("wb") as log:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def wait_until_ready(broker: subprocess.Popen[bytes], directory: Path) -> Client:
    with step("Start a broker on this machine: state, API, worker, controller"):
        ready = directory / "data" / "dev.json"

        def found() -> bool:
            expect(broker.poll() is None, f"broker dev ended with exit code {broker.returncode}")
            return ready.exists()

        wait_for(found, START_S, lambda: "broker dev did not become ready")
        known = json.loads(ready.read_text())
        client = Client(known["url"], known["token"])
        # Sooner, a job would be accepted too, and its first decision would say that nothing is known yet.
        wait_for(
            lambda: all(backend["inventory"] for backend in client.backends()),
            START_S,
            lambda: "a backend did not say what it has",
        )
        names = ", ".join(backend["name"] for backend in client.backends())
        print(f"ready at {known['url']}, with the backend{'s' if ',' in names else ''} {names}", flush=True)
        return client


def wait_for(condition: Callable[[], Any], seconds: float, why: Callable[[], str]) -> Any:
    give_up_at = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > give_up_at:
            raise DemoFailed(f"{why()} after {seconds:g} s")
        time.sleep(0.1)
    return answer


def stop_everything(broker: subprocess.Popen[bytes], directory: Path) -> None:
    """First by the door, so that jobs end as jobs; then what is still there, by its process id."""
    print("\n== Stop", flush=True)
    with suppress(ClientError, OSError, ValueError, KeyError):
        known = json.loads((directory / "data" / "dev.json").read_text())
        with Client(known["url"], known["token"], timeout=5.0) as client:
            live = [job["id"] for job in client.list(state=["ACCEPTED", "SUBMITTING", "QUEUED", "RUNNING"])]
            for job_id in live:
                client.cancel(job_id)
            client.wait(live, timeout=STOP_S)
    broker.terminate()
    try:
        broker.wait(STOP_S)
    except subprocess.TimeoutExpired:
        broker.kill()
        broker.wait()
    # The agent of the local backend stays while a job is live, and after a broker that was killed.
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in processes_of(directory):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        with suppress(DemoFailed):
            wait_for(lambda: not processes_of(directory), STOP_S / 2, lambda: "processes are left")
    shutil.rmtree(directory, ignore_errors=True)


def processes_of(directory: Path) -> list[int]:
    """All that name the directory in command or environment: it is new, so these are ours."""
    wanted = os.fsencode(directory)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if wanted in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def print_ends_of_logs(directory: Path) -> None:
    for path in [directory / "broker.log", *sorted((directory / "data" / "logs").glob("*"))]:
        with suppress(OSError):
            lines = path.read_text(errors="replace").splitlines()[-15:]
            print(f"--- {path.name}", *lines, sep="\n", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
