"""Lists of jobs, held against the plainest possible list: a filter over all of them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from api_spec.errors import InvalidRequest
from api_spec.ids import time_of
from api_spec.jobs import Kind
from api_spec.states import FINAL, JobState
from api_spec.views import JobQuery
from broker.store.changes import Change, Guard
from tests.store_kit import World, ending, job_id_at, new_job, opened

S = JobState
NOON = 1_790_000_000.0
BACKENDS = ("hpc", "cloud")


@pytest.fixture(scope="module")
def world(redis_server):
    with opened(redis_server) as store:
        yield World(store)


def pages(world, query):
    """All pages, and the ids on them in order."""
    out, cursor = [], None
    while True:
        page = world.store.index.list_jobs(JobQuery(**{**query, "cursor": cursor}))
        out.append([record.id for record in page.items])
        assert len(out) < 10_000, "the list has an end"
        if page.next is None:
            return out
        assert cursor is None or page.next < cursor, "each page goes on further down"
        cursor = page.next


def listed(world, **query):
    return [job_id for page in pages(world, {"project": "vision", **query}) for job_id in page]


# ---- the model ---------------------------------------------------------------------------------------


@dataclass
class Row:
    """What the model knows of one job."""

    id: str
    kind: str
    name: str
    owner: str
    labels: Mapping[str, str]
    state: JobState = S.ACCEPTED
    backend: str | None = None

    def matches(self, query):
        at = time_of(self.id)
        return (
            (not query.get("state") or self.state in query["state"])
            and all(query.get(n) in (None, getattr(self, n)) for n in ("kind", "backend", "owner", "name"))
            and all(self.labels.get(n) == value for n, value in query.get("labels", {}).items())
            and (query.get("created_after") is None or at >= query["created_after"])
            and (query.get("created_before") is None or at <= query["created_before"])
        )

    def members(self):
        values = [f"s={self.state}", f"k={self.kind}", f"o={self.owner}", f"n={self.name}"]
        values += [f"b={self.backend}"] if self.backend else []
        values += [f"l={name}={value}" for name, value in self.labels.items()]
        return {f"{value}\0{self.id}" for value in values}


LABELS = some.dictionaries(some.sampled_from(["team", "run"]), some.sampled_from(["1", "2"]), max_size=2)
TIMES = some.none() | some.integers(-1, 12).map(lambda ms: NOON + ms / 1000)

JOBS = some.fixed_dictionaries(
    {
        "kind": some.sampled_from([Kind.TRAINING, Kind.BATCH]),
        "name": some.sampled_from(["a", "ab"]),
        "owner": some.sampled_from(["ana", "ben"]),
        "labels": LABELS,
        "at_ms": some.integers(0, 10),
        "moves": some.lists(
            some.tuples(
                some.sampled_from([S.ACCEPTED, S.SUBMITTING, S.QUEUED, S.RUNNING]),
                some.sampled_from([None, *BACKENDS]),
            ),
            max_size=3,
        ),
        "final": some.none() | some.sampled_from(sorted(FINAL)),
        "after": some.sampled_from(["kept", "packed", "forgotten"]),
    }
)
QUERIES = some.fixed_dictionaries(
    {"limit": some.integers(1, 7)},
    optional={
        "state": some.lists(some.sampled_from(list(S)), unique=True, max_size=4).map(tuple),
        "kind": some.sampled_from([Kind.TRAINING, Kind.INFERENCE]),
        "backend": some.sampled_from(BACKENDS),
        "owner": some.sampled_from(["ana", "nobody"]),
        "name": some.sampled_from(["a", "ab", "abc"]),
        "labels": LABELS,
        "created_after": TIMES,
        "created_before": TIMES,
    },
)


def live_through(world, project, plans):
    """Accepts the jobs and does with them what is planned; the rows that are left, newest first."""
    rows = []
    for plan in plans:
        fields = {name: plan[name] for name in ("kind", "name", "owner", "labels")}
        rows.append(Row(id=job_id_at(NOON + plan["at_ms"] / 1000), **fields))
    world.jobs.accept(
        [
            new_job(
                id=r.id, project=project, kind=r.kind, name=r.name, owner=r.owner, labels=r.labels or None
            )
            for r in rows
        ]
    )
    left = [row for row, plan in zip(rows, plans, strict=True) if live_one(world, row, plan)]
    return sorted(left, key=lambda row: row.id, reverse=True)


def live_one(world, row, plan):
    """False: it is forgotten."""
    for state, backend in plan["moves"]:
        world.jobs.move(row.id, Guard(), Change(set={"state": state, "backend": backend}))
        row.state, row.backend = state, backend
    if plan["final"] is None:
        return True
    row.state = S(plan["final"])
    world.jobs.end(row.id, Guard(), ending(row.state))
    if plan["after"] != "kept":
        assert world.pack(row.id) == "ok"
    return plan["after"] != "forgotten" or world.forget(row.id) != "ok"


@settings(max_examples=60, derandomize=True)
@given(plans=some.lists(JOBS, min_size=1, max_size=20), queries=some.lists(QUERIES, min_size=1, max_size=5))
def test_every_list_is_what_a_plain_filter_gives(world, plans, queries):
    project = uuid.uuid4().hex

    rows = live_through(world, project, plans)

    expected_members = set().union(*(row.members() for row in rows)) if rows else set()
    assert world.members(f"index:{project}") == expected_members
    for query in queries:
        found = pages(world, {"project": project, **query})
        assert [i for page in found for i in page] == [row.id for row in rows if row.matches(query)], query
        assert all(len(page) <= query["limit"] for page in found)
    for row in rows:
        assert world.read(row.id).state is row.state


# ---- pages -------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(redis_server):
    with opened(redis_server) as store:
        yield World(store)


def crowd(world, count, **changes):
    """Many jobs at once, oldest first."""
    ids = [job_id_at(NOON + n / 1000) for n in range(count)]
    for start in range(0, count, 500):
        world.jobs.accept(
            [new_job(id=ids[n], **changes_of(changes, n)) for n in range(start, min(start + 500, count))]
        )
    return ids


def changes_of(changes, n):
    return {name: value(n) if callable(value) else value for name, value in changes.items()}


def test_a_page_may_be_short_but_the_list_is_whole(fresh):
    """Every condition alone holds for more jobs than one page may look at, all together for three."""
    rare = (7, 1300, 2399)
    ids = crowd(
        fresh,
        2400,
        owner=lambda n: "ana" if n % 2 or n in rare else "ben",
        kind=lambda n: "training" if n % 2 == 0 or n in rare else "batch",
        spec=b"s",
    )
    query = {"project": "vision", "owner": "ana", "kind": Kind.TRAINING, "limit": 100}

    found = pages(fresh, query)

    assert [job_id for page in found for job_id in page] == [ids[n] for n in reversed(rare)]
    assert len(found) > 1, "the budget of one page was used up"


def test_the_smallest_condition_drives(fresh):
    """One job of a rare name among thousands costs one look, whatever else is asked for."""
    ids = crowd(fresh, 1500, name=lambda n: "rare" if n == 3 else "common", spec=b"s")

    assert pages(fresh, {"project": "vision", "state": (S.ACCEPTED,), "name": "rare", "limit": 10}) == [
        [ids[3]]
    ]


def test_neither_scan_nor_keys_is_asked(fresh):
    crowd(fresh, 50)
    before = fresh.store.client.info("commandstats")

    listed(fresh, state=(S.ACCEPTED, S.RUNNING), owner="ana", limit=10)

    after = fresh.store.client.info("commandstats")
    asked = {name for name in after if after[name]["calls"] > before.get(name, {"calls": 0})["calls"]}
    assert not asked & {"cmdstat_scan", "cmdstat_keys", "cmdstat_zscan", "cmdstat_hscan", "cmdstat_sscan"}
    assert "cmdstat_zrange" in asked


def test_jobs_that_move_while_a_reader_pages_are_seen_once(fresh):
    """A cursor is a place among ids, not a number of rows: what moves or comes does not shift the rest."""
    ids = crowd(fresh, 30)
    query = {"project": "vision", "state": (S.ACCEPTED, S.RUNNING), "limit": 4}
    seen, cursor = [], None

    while True:
        page = fresh.store.index.list_jobs(JobQuery(**query, cursor=cursor))
        seen += [record.id for record in page.items]
        for job_id in [*seen[-2:], ids[0]]:
            fresh.jobs.move(job_id, Guard(states=(S.ACCEPTED,)), Change(set={"state": S.RUNNING}))
        fresh.jobs.accept([new_job(id=job_id_at(NOON + 60))])
        cursor = page.next
        if cursor is None:
            break

    assert seen == ids[::-1]


def test_the_last_page_says_that_it_is_the_last(fresh):
    ids = crowd(fresh, 6)

    assert pages(fresh, {"project": "vision", "limit": 3}) == [ids[:2:-1], ids[2::-1]]
    assert pages(fresh, {"project": "nobody", "limit": 3}) == [[]]


@pytest.mark.parametrize("cursor", ["", "7", "01ARZ3NDEKTSV4RRFFQ69G5FA", "01arz3ndektsv4rrffq69g5fav"])
def test_a_cursor_of_another_make_is_refused(fresh, cursor):
    with pytest.raises(InvalidRequest):
        fresh.store.index.list_jobs(JobQuery(project="vision", cursor=cursor))


@pytest.mark.parametrize("moment, found", [("created_after", 1), ("created_before", 0)])
@pytest.mark.parametrize("at", [-62135604300.0, -0.001, 253402308299.0])
def test_a_time_that_no_id_can_have_is_before_or_after_every_job(fresh, at, moment, found):
    fresh.accept()

    page = fresh.store.index.list_jobs(JobQuery(project="vision", **{moment: at}))

    assert len(page.items) == (found if at < 0 else 1 - found)


def test_one_project_does_not_see_another(fresh):
    mine = fresh.accept(project="vision")
    fresh.accept(project="speech")

    assert listed(fresh) == [mine]


def test_a_value_that_begins_with_another_is_another(fresh):
    short, _long = fresh.accept(name="a", labels={"k": "1"}), fresh.accept(name="ab", labels={"k": "11"})

    assert listed(fresh, name="a") == listed(fresh, labels={"k": "1"}) == [short]
    assert fresh.store.index.count("vision", "n=a") == 1
