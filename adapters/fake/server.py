"""The fake as a process: ``python -m adapters.fake.server --socket PATH --ledger FILE``.

One JSON line in, one out, a connection each: ``{"op": "submit", ...}`` is answered by
``{"status": 200, ...}`` (404 no such job, 422 refused for good, 429 come again).  When it
answers, it prints ``ready``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import socketserver
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapters.fake.desk import Desk, NoSuchJob
from adapters.fake.faults import Faults
from adapters.fake.ledger import Ledger, read_ledger
from adapters.fake.machine import Habits, Machine


class Cap:
    """So many submits a second, with a tenth of a second's burst."""

    def __init__(self, per_s: float | None) -> None:
        self._per_s = per_s
        self._burst = max(1.0, (per_s or 0) / 10)
        self._tokens, self._at = self._burst, time.monotonic()

    def wait_s(self) -> float:
        """0: go on.  Otherwise nothing was taken, and there is room after so many seconds."""
        if self._per_s is None:
            return 0.0
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._per_s
        self._tokens -= 1
        return 0.0


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 1024  # a burst must wait, not be refused

    def __init__(self, path: str, desk: Desk, cap: Cap, max_live: float) -> None:
        Path(path).unlink(missing_ok=True)
        super().__init__(path, Conversation)
        self.desk, self.cap, self.max_live = desk, cap, max_live
        self.faults = Faults()
        self.changed = threading.Condition()  # guards the machine
        self._wakes_at = -math.inf

    def run_clock(self) -> None:
        """Jobs start and end when it is time, whether or not somebody asks."""
        machine = self.desk.machine
        with self.changed:
            while True:
                machine.tick()
                self._wakes_at = machine.next_due()
                wait_s = max(0.0, self._wakes_at - time.time())
                self.changed.wait(None if wait_s == math.inf else wait_s)

    def answer(self, request: dict[str, Any]) -> bytes | None:
        """None: the connection closes without an answer."""
        if request["op"] == "control":
            return self._with_lock(lambda: self._control(request))
        self.faults.thawed.wait()
        fate = self.faults.fate(request["op"])
        if "delay" in fate:
            time.sleep(fate["delay"])
        if "drop" in fate or "flap" in fate:
            return None
        answer = self._with_lock(lambda: self._act(request, fate))
        if "slow" in fate and "busy" not in fate:
            time.sleep(fate["slow"])
        if "lose" in fate or "late" in fate:
            return None
        if "garbage" in fate:
            return str(fate["garbage"]).encode()
        return answer[: len(answer) // 2] if "truncate" in fate else answer

    def _with_lock(self, act: Callable[[], dict[str, Any]]) -> bytes:
        with self.changed:
            try:
                answer = {"status": 200, **act()}
            except NoSuchJob as error:
                answer = {"status": 404, "message": str(error)}
            except (KeyError, ValueError, TypeError) as error:
                answer = {"status": 422, "message": f"{type(error).__name__}: {error}"}
            if self.desk.machine.next_due() < self._wakes_at:
                self.changed.notify_all()
        return json.dumps(answer).encode() + b"\n"

    def _act(self, request: dict[str, Any], fate: dict[str, Any]) -> dict[str, Any]:
        op, machine = request["op"], self.desk.machine
        if "busy" in fate:
            return {"status": 429, "message": "come again", "retry_after_s": fate["busy"]}
        if op == "submit" and (other := self._instead_of_submit(request, fate)) is not None:
            return other
        machine.tick()
        return self.desk.answer(op, request, "partial" in fate)

    def _instead_of_submit(self, request: dict[str, Any], fate: dict[str, Any]) -> dict[str, Any] | None:
        machine = self.desk.machine
        if "refuse" in fate:
            return {"status": 422, "message": "refused for good", "reason": fate["refuse"]}
        if "late" in fate:
            machine.submit_later(request["script"], fate["late"])
            return {}
        wait_s = 1.0 if machine.live >= self.max_live else self.cap.wait_s()
        if wait_s:
            return {"status": 429, "message": "too much at once", "retry_after_s": wait_s}
        return None

    def _control(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["name"]
        if name == "fault":
            self.faults.set(request["kind"], request["times"], request["value"], request["ops"])
        elif name == "clear":
            self.faults.clear()
        elif name == "freeze":
            self.faults.thawed.clear()
        elif name == "unfreeze":
            self.faults.thawed.set()
        else:
            return self.desk.tell(name, request)
        return {}


class Conversation(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        line = self.rfile.readline()
        if not line.endswith(b"\n"):
            return
        answer = self.server.answer(json.loads(line))
        if answer is None:
            return
        with contextlib.suppress(OSError):  # the client has given up; what was done stays done
            self.wfile.write(answer)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--ledger", required=True, type=Path)
    parser.add_argument("--fsync", action="store_true")
    parser.add_argument("--start-s", type=float, default=0.0)
    parser.add_argument("--run-s", type=float, default=0.0)
    parser.add_argument("--slots", type=float, default=math.inf)
    parser.add_argument("--cap", type=float, help="submits a second")
    parser.add_argument("--max-live", type=float, default=math.inf)
    return parser.parse_args()


def main() -> None:
    chosen = options()
    ledger = Ledger(chosen.ledger, chosen.fsync)
    machine = Machine(Habits(start_s=chosen.start_s, run_s=chosen.run_s, slots=chosen.slots), ledger.write)
    machine.restore(read_ledger(chosen.ledger))
    with Server(chosen.socket, Desk(machine), Cap(chosen.cap), chosen.max_live) as server:
        threading.Thread(target=server.run_clock, daemon=True).start()
        print("ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
