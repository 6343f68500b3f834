"""Lists of jobs by state, kind, backend, owner, name, label and time, newest first, without SCAN or KEYS.

One sorted set a project holds ``<letter>=<value>\\0<16 bytes of the id>``, all with score 0, so that a range
by bytes is a list in order of id, and ids begin with their time.  Counting a range costs O(log n): the
condition with the fewest jobs drives, the others are checked on the records, under a budget.
"""

from __future__ import annotations

from dataclasses import dataclass

from api_spec.errors import bad_cursor
from api_spec.ids import RANDOM_BYTES, from_bytes, is_id, new_id, to_bytes
from api_spec.jobs import Kind
from api_spec.views import JobQuery, Page
from broker.store.connection import Client
from broker.store.jobs import Jobs
from broker.store.records import JobRecord

ID_BYTES = 16
AFTER_EVERY_ID = b"\xff" * 17
BUDGET = 1000  # records looked at for one page; a page that needs more is short
CHUNK = 200


@dataclass(frozen=True)
class Condition:
    """One of ``values`` must hold; each is the part of an index member before its NUL."""

    values: tuple[str, ...]


EVERY_JOB = Condition(tuple(f"k={kind}" for kind in Kind))


def conditions(query: JobQuery) -> list[Condition]:
    out = [EVERY_JOB]
    if query.state:
        out.append(Condition(tuple(f"s={state}" for state in query.state)))
    single = {"k": query.kind, "b": query.backend, "o": query.owner, "n": query.name}
    out += [Condition((f"{letter}={value}",)) for letter, value in single.items() if value is not None]
    out += [Condition((f"l={name}={value}",)) for name, value in query.labels.items()]
    return out


def holds(record: JobRecord, query: JobQuery) -> bool:
    return (
        (not query.state or record.state in query.state)
        and (query.kind is None or record.kind == query.kind)
        and (query.backend is None or record.backend == query.backend)
        and (query.owner is None or record.owner == query.owner)
        and (query.name is None or record.name == query.name)
        and all(record.labels.get(name) == value for name, value in query.labels.items())
    )


@dataclass(frozen=True)
class Index:
    client: Client
    jobs: Jobs
    prefix: str

    def list_jobs(self, query: JobQuery) -> Page[JobRecord]:
        if query.cursor is not None and not is_id(query.cursor):
            raise bad_cursor()
        driver = self._driver(query)
        found: list[JobRecord] = []
        last, looked_at = query.cursor, 0
        while looked_at < BUDGET:
            chunk, more = self._chunk(driver, query, last)
            for job_id, record in zip(chunk, self.jobs.read_many(chunk), strict=True):
                if len(found) == query.limit:
                    return Page(tuple(found), last)
                last = job_id
                if record is not None and holds(record, query):
                    found.append(record)
            looked_at += len(chunk)
            if not more:
                return Page(tuple(found), None)
        return Page(tuple(found), last)

    def count(self, project: str, value: str) -> int:
        head = f"{value}\0".encode()
        key, low, high = f"{self.prefix}index:{project}", b"[" + head, b"[" + head + AFTER_EVERY_ID
        return int(self.client.zlexcount(key, low, high))

    def ids(self, project: str, value: str) -> list[str]:
        """All of them, oldest first: for what cannot be many, as jobs in a live state."""
        head = f"{value}\0".encode()
        key, low, high = f"{self.prefix}index:{project}", b"[" + head, b"[" + head + AFTER_EVERY_ID
        return [from_bytes(member[-ID_BYTES:]) for member in self.client.zrange(key, low, high, bylex=True)]

    def _driver(self, query: JobQuery) -> Condition:
        def size(condition: Condition) -> int:
            return sum(self.count(query.project, value) for value in condition.values)

        return min(conditions(query), key=size)

    def _chunk(self, driver: Condition, query: JobQuery, below: str | None) -> tuple[list[str], bool]:
        """The next ids, newest first, and whether there may be more.

        All values are read at one moment: a job that moves between two of them is neither lost nor doubled.
        """
        count = min(CHUNK, query.limit + 1)
        pipe = self.client.pipeline(transaction=True)
        for value in driver.values:
            head = f"{value}\0".encode()
            low = b"[" + head + _lowest(query.created_after)
            high = b"(" + head + (to_bytes(below) if below else _highest(query.created_before))
            key = f"{self.prefix}index:{query.project}"
            pipe.zrange(key, high, low, bylex=True, desc=True, offset=0, num=count)
        streams = [[from_bytes(member[-ID_BYTES:]) for member in rows] for rows in pipe.execute()]
        # Below the end of a list that was cut, others may hold ids that it does not show yet.
        cut = max((rows[-1] for rows in streams if len(rows) == count), default="")
        ids = sorted({job_id for rows in streams for job_id in rows if job_id >= cut}, reverse=True)
        return ids, bool(cut)


def _lowest(created_after: float | None) -> bytes:
    """No job is older than the clock of its id."""
    if created_after is None or created_after < 0:
        return b""
    return to_bytes(new_id(created_after, bytes(RANDOM_BYTES)))


def _highest(created_before: float | None) -> bytes:
    """One byte more than an id has sorts after every id."""
    if created_before is None:
        return AFTER_EVERY_ID
    return b"" if created_before < 0 else to_bytes(new_id(created_before, b"\xff" * RANDOM_BYTES))
