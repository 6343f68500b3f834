"""The endpoint of one service: forwards connections to ready replicas in turn, and finds out which are ready.

    python -m adapters.local.proxy DIR SEQUENCE HOST LOCK

A process of its own, so that it goes on when the agent dies.  It keeps its port over its own deaths.  SIGHUP
makes it look at the ledger at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sqlite3
import sys
from dataclasses import dataclass

from adapters.local import codec, health, ledger, processes, wake
from adapters.local.paths import Home

log = logging.getLogger("adapters.local.proxy")

PERIOD_READY_S, PERIOD_IN_DOUBT_S, PERIOD_STARTING_S = 2.0, 0.5, 0.1
PATIENT_PROBES = 100
"""After so many probes a replica that is still not ready is asked less often."""
FAILURES = 3
"""Probes in a row that must fail before a replica that was ready is not."""
CHUNK_BYTES = 65536
UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Retry-After: 1\r\nContent-Length: 20\r\n\r\nno replica is ready\n"
)


@dataclass
class Replica:
    launch: str
    port: int
    path: str  # of its health
    ready: bool = False
    retiring: bool = False
    drained: bool = False
    failures: int = 0
    connections: int = 0


class Proxy:
    def __init__(self, home: Home, sequence: int) -> None:
        self.home = home
        self.sequence = sequence
        self.replicas: dict[str, Replica] = {}
        self.changed = asyncio.Event()
        self._turn = 0

    # ---- forwarding ----------------------------------------------------------------------------------

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to the replica whose turn it is, or the next one that answers."""
        with contextlib.suppress(OSError, asyncio.CancelledError):
            for replica in self._in_turn():
                try:
                    there = await asyncio.open_connection("127.0.0.1", replica.port)
                except OSError:
                    self.changed.set()
                    continue
                await self._join(replica, (reader, writer), there)
                break
            else:
                writer.write(UNAVAILABLE)
                await writer.drain()
        await _close(writer)

    def _in_turn(self) -> list[Replica]:
        ready = [one for one in self.replicas.values() if one.ready and not one.retiring]
        if not ready:
            return []
        self._turn += 1
        first = self._turn % len(ready)
        return ready[first:] + ready[:first]

    async def _join(
        self,
        replica: Replica,
        here: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        there: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        replica.connections += 1
        try:
            await asyncio.gather(_pump(here[0], there[1]), _pump(there[0], here[1]))
        finally:
            replica.connections -= 1
            await _close(there[1])
            if replica.retiring:
                self.changed.set()

    # ---- readiness -----------------------------------------------------------------------------------

    async def look_after(self) -> None:
        """Until the service is no more."""
        while self._refresh():
            await asyncio.gather(*(self._probe(one) for one in self.replicas.values()))
            self._note_the_drained()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), self._period_s())
            self.changed.clear()

    def _period_s(self) -> float:
        staying = [one for one in self.replicas.values() if not one.retiring]
        if any(not one.ready and one.failures < PATIENT_PROBES for one in staying):
            return PERIOD_STARTING_S
        return PERIOD_IN_DOUBT_S if any(one.failures for one in staying) else PERIOD_READY_S

    def _refresh(self) -> bool:
        """Read which replicas run; what we know of them is kept.  False when the service has ended."""
        with ledger.opened(self.home.ledger) as connection:
            row = connection.execute(
                "SELECT state, spec FROM attempts WHERE seq = ?", (self.sequence,)
            ).fetchone()
            if row is None or row["state"] != "LIVE":
                return False
            tasks = connection.execute(
                "SELECT t.*, r.spec AS newer FROM tasks t LEFT JOIN revisions r"
                " ON r.attempt = t.attempt AND r.revision = t.revision"
                " WHERE t.attempt = ? AND t.state = 'RUNNING' ORDER BY t.idx",
                (self.sequence,),
            ).fetchall()
        self.replicas = {task["launch"]: self._known(task, row["spec"]) for task in tasks}
        return True

    def _known(self, task: sqlite3.Row, first_spec: str) -> Replica:
        replica = self.replicas.get(task["launch"])
        if replica is None:
            service = codec.load_spec(task["newer"] or first_spec).service
            path = service.health.path if service else "/"
            replica = Replica(task["launch"], task["port"], path, bool(task["ready"]))
        replica.retiring = task["retiring_at"] is not None
        replica.drained = bool(task["drained"])
        return replica

    async def _probe(self, replica: Replica) -> None:
        well = await health.is_well(replica.port, replica.path)
        replica.failures = 0 if well else replica.failures + 1
        if well != replica.ready and (well or replica.failures >= FAILURES):
            replica.ready = well
            self._tell(
                "UPDATE tasks SET ready = ? WHERE launch = ? AND state = 'RUNNING'", (well, replica.launch)
            )

    def _note_the_drained(self) -> None:
        for one in self.replicas.values():
            if one.retiring and not one.drained and one.connections == 0:
                one.drained = True
                self._tell("UPDATE tasks SET drained = 1 WHERE launch = ?", (one.launch,))

    def _tell(self, statement: str, values: tuple[object, ...]) -> None:
        with ledger.opened(self.home.ledger) as connection:
            connection.execute(statement, values)
        wake.nudge(self.home.wake)

    # ---- its place -----------------------------------------------------------------------------------

    def register(self, port: int) -> bool:
        """False when the service has ended in the meantime."""
        pid = os.getpid()
        with ledger.opened(self.home.ledger) as connection:
            done = connection.execute(
                "INSERT OR REPLACE INTO proxies (attempt, port, pid, born, boot)"
                " SELECT seq, ?, ?, ?, ? FROM attempts"
                " WHERE seq = ? AND state = 'LIVE' AND cancelled_at IS NULL",
                (port, pid, processes.born(pid), processes.boot_id(), self.sequence),
            )
        wake.nudge(self.home.wake)
        return done.rowcount == 1

    def port_of_before(self) -> int:
        with ledger.opened(self.home.ledger) as connection:
            row = connection.execute(
                "SELECT port FROM proxies WHERE attempt = ?", (self.sequence,)
            ).fetchone()
        return row["port"] or 0 if row is not None else 0


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the end of one direction, which is passed on; the other direction may go on."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def run(home: Home, sequence: int, host: str) -> None:
    proxy = Proxy(home, sequence)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, proxy.changed.set)
    server = await asyncio.start_server(proxy.serve, host, proxy.port_of_before(), backlog=512)
    care = asyncio.create_task(proxy.look_after())
    loop.add_signal_handler(signal.SIGTERM, care.cancel)
    if proxy.register(server.sockets[0].getsockname()[1]):
        with contextlib.suppress(asyncio.CancelledError):
            await care
    server.close()


def main(arguments: list[str]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    root, sequence, host, lock_path = arguments
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("another process holds the endpoint of service %s", sequence)
        return
    asyncio.run(run(Home(root), int(sequence), host))


if __name__ == "__main__":
    main(sys.argv[1:])
