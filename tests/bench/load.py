"""A light HTTP client in a process of its own: the same POST over and over, on connections kept alive.

``python -m tests.bench.load PORT PATH --token T [--seconds S | --count N --rate R]``, the body on standard
input.  Prints one JSON object.  It builds the request once and reads of an answer only what it must, because
its own CPU time is taken from what it measures.
"""

from __future__ import annotations

import argparse
import itertools
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.bench.figures import percentile
from tests.fakes import ROOT

CONNECTIONS = 16  # enough that both API processes always have some


@dataclass
class Tally:
    seconds: list[float] = field(default_factory=list)
    failures: int = 0


def post(port: int, path: str, body: bytes, **options: Any) -> dict[str, float]:
    """Run it: answers, the time they took, when it began."""
    words = [sys.executable, "-m", "tests.bench.load", str(port), path]
    words += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    done = subprocess.run(words, input=body, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    answer: dict[str, float] = json.loads(done.stdout)
    assert not answer["failures"], f"{answer['failures']} requests failed"
    return answer


def request_for(path: str, token: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def exchange(connection: socket.socket, request: bytes) -> int:
    """The status."""
    connection.sendall(request)
    answer = bytearray()
    while (end := answer.find(b"\r\n\r\n")) < 0:
        answer += received(connection)
    head = bytes(answer[:end]).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r")[0])
    while len(answer) < end + 4 + length:
        answer += received(connection)
    return int(head[9:12])


def received(connection: socket.socket) -> bytes:
    part = connection.recv(65536)
    if not part:
        raise ConnectionError("the server closed the connection")
    return part


def work(port: int, request: bytes, turns: Iterator[float], tally: Tally) -> None:
    """``turns``: when each request is due on the monotonic clock."""
    never = threading.Event()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for due in turns:
            never.wait(max(0.0, due - time.monotonic()))
            began = max(due, time.monotonic() if due == 0 else due)
            if exchange(connection, request) == 202:
                tally.seconds.append(time.monotonic() - began)
            else:
                tally.failures += 1


def closed_loop(until: float) -> Iterator[float]:
    """Each request as soon as the one before it was answered."""
    while time.monotonic() < until:
        yield 0.0


def schedule(start: float, count: int, rate: float) -> Iterator[float]:
    """Shared by all connections; ``next`` of this is one step of C, so no lock is needed."""
    return itertools.islice(itertools.count(start, 1 / rate), count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("--token", default="none")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--count", type=int)
    parser.add_argument("--rate", type=float)
    chosen = parser.parse_args()
    request = request_for(chosen.path, chosen.token, sys.stdin.buffer.read())
    began, began_at = time.monotonic(), time.time()
    shared = schedule(began, chosen.count, chosen.rate) if chosen.count else None
    tallies = [Tally() for _ in range(CONNECTIONS)]
    threads = [
        threading.Thread(
            target=work,
            args=(chosen.port, request, shared or closed_loop(began + chosen.seconds), tally),
        )
        for tally in tallies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.monotonic() - began
    seconds = list(itertools.chain.from_iterable(tally.seconds for tally in tallies))
    print(
        json.dumps(
            {
                "answers": len(seconds),
                "failures": sum(tally.failures for tally in tallies),
                "rate": len(seconds) / taken,
                "began_at": began_at,
                "p50_ms": 1000 * percentile(seconds, 0.5),
                "p99_ms": 1000 * percentile(seconds, 0.99),
            }
        )
    )


if __name__ == "__main__":
    main()
