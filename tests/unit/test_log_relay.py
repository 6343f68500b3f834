"""Logs that only a worker can see: what the API asks it, what comes back, and who hears why nothing does."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import redis

from adapters.base import Finding, LogPage, LogQuery
from adapters.errors import BackendError, BadLogQuery
from api_spec.errors import BackendUnavailable, InvalidRequest, LogReaderUnavailable, StoreUnavailable
from api_spec.jobs import Placement
from api_spec.states import JobState
from broker.lifecycle import log_relay
from broker.lifecycle.answers import MOST_BYTES
from broker.lifecycle.log_relay import LogRelay, Patience
from broker.log_reader import THREADS, LogReader
from broker.store.asks import MOST_WAITING, ROLE, NotAsked, Question, Said
from tests.builders import spec
from tests.fakes import running_fake
from tests.helpers import PATIENCE, wait_until
from tests.kit import ANA, Kit, make_kit, settings_for

pytestmark = pytest.mark.process

SHORT = Patience(taken_s=0.4, answered_s=5.0, look_s=0.05)
SECRET = b"password=hunter2\n"
NOT_MOUNTED = Finding(subject="logs", well=False, message="not mounted here")


class Blind:
    """The adapter of an API process: it must not be asked for a log, and sees no files."""

    def logs(self, ref, query):
        raise AssertionError("the API has read the log itself")

    def check(self):
        return [Finding(subject="connection", well=True, message="it answers"), NOT_MOUNTED]

    def check_files(self):
        return [NOT_MOUNTED]


class Sees:
    """The adapter of a log reader: ``data`` is the log; ``gate`` closed is a file system that hangs."""

    def __init__(self, data=b""):
        self.data, self.over, self.error = data, False, None
        self.gate = threading.Event()
        self.gate.set()
        self.reads = []

    def logs(self, ref, query):
        self.reads.append((ref, query))
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        start = int(query.cursor or 0)
        data = self.data[start : start + query.limit_bytes]
        after = start + len(data)
        at_end = after == len(self.data)
        return LogPage(data=data, cursor=str(after), at_end=at_end, complete=at_end and self.over)

    def check_files(self):
        return [Finding(subject="logs", well=True, message="are read below /scratch")]


@dataclass
class Site:
    """An API process and a worker on one store: two brokers, each with an adapter of its own."""

    api: Kit
    worker: Kit
    jobs: dict[str, str]
    running: list[LogReader] = field(default_factory=list)

    def reader(self, **sees):
        """A log reader that runs, for the backends of its settings; what it sees, by backend."""
        self.worker.broker.context.adapters.update(sees)
        reader = LogReader(self.worker.broker, "login", wait_s=0.05)
        reader.start()
        self.running.append(reader)
        for backend in reader.backends:
            wait_until(lambda name=backend: self.there(name), why="the reader says that it is there")
        return reader

    def there(self, backend="fake"):
        return self.api.store.asks.readers(backend, int(self.api.store.now() * 1000))

    def claims_to_be_there(self, who="elsewhere:1", for_ms=60_000):
        now_ms = int(self.api.store.now() * 1000)
        self.api.store.alive.say(ROLE, "fake", who, now_ms, for_ms)

    def log(self, backend="fake", **query):
        return self.api.broker.log(self.jobs[backend], ANA, LogQuery(**query))

    def ends(self):
        """The job does, and the worker has seen it (by the adapter that sees jobs)."""
        adapters, fake = self.worker.broker.context.adapters, self.worker.fake
        sees = adapters["fake"]
        adapters["fake"] = fake.adapter()
        fake.faults.finish(self.worker.broker.attempts(self.jobs["fake"], ANA)[0].marker)
        self.worker.ended(self.jobs["fake"])
        adapters["fake"] = sees

    def waiting(self):
        return self.api.store.client.llen(f"{self.api.store.prefix}asks:fake")


@pytest.fixture
def site(redis_server, tmp_path):
    with running_fake(tmp_path, run_s=1000) as fake:
        backends = [replace(fake.config(name), log_reader="login") for name in ("fake", "other")]
        settings = settings_for(redis_server, tmp_path, *backends, worker_name="login")
        worker = make_kit(settings, fake)
        api = make_kit(settings, fake, worker.store.prefix)
        jobs = {
            name: worker.submit(spec(placement=Placement(backends=(name,)))) for name in ("fake", "other")
        }
        for job_id in jobs.values():
            worker.reaches(job_id, JobState.RUNNING)
        api.broker.context.adapters.update(fake=Blind(), other=Blind())
        api.broker.relay = LogRelay(api.broker.context, SHORT)
        found = Site(api, worker, jobs)
        try:
            yield found
        finally:
            for reader in found.running:
                reader.stop()
            for kit in (api, worker):
                kit.store.close()


# ---- a page ------------------------------------------------------------------------------------------


def test_a_page_is_as_the_reader_sees_it(site):
    """Bytes that are no text, and the cursor, travel unchanged."""
    sees = Sees(bytes(range(256)) + b"\n\nend")
    site.reader(fake=sees)

    first = site.log(limit_bytes=100, stream="stderr", node=1)
    rest = site.log(cursor=first.cursor)

    assert first.data + rest.data == sees.data
    assert (first.at_end, rest.at_end, rest.complete) == (False, True, False)
    ref, query = sees.reads[0]
    assert query == LogQuery(limit_bytes=100, stream="stderr", node=1)
    assert (ref.job_id, ref.number, ref.owner, bool(ref.handle)) == (site.jobs["fake"], 1, "ana", True)


def test_the_largest_page_that_may_be_asked_for_comes_through(site):
    site.reader(fake=Sees(b"x" * 1024**2))

    assert site.log(limit_bytes=1024**2).data == b"x" * 1024**2


def test_a_page_that_is_too_large_is_refused_and_not_cut(site):
    site.reader(fake=Sees(b"x" * (MOST_BYTES + 1)))

    with pytest.raises(BackendUnavailable, match=f"a page of {MOST_BYTES + 1} bytes"):
        site.log(limit_bytes=MOST_BYTES + 1)


def test_nothing_that_a_job_printed_gets_into_the_files_of_redis(site):
    """Whoever may read them would read passwords; and each page would wait for the disk."""
    site.reader(fake=Sees(SECRET))
    client = site.api.store.client

    assert site.log().data == SECRET

    client.set("canary", "what is stored is found there")
    files = Path(client.config_get("dir")["dir"]) / client.config_get("appenddirname")["appenddirname"]
    written = b"".join(file.read_bytes() for file in files.iterdir())
    client.delete("canary")
    assert b"what is stored is found there" in written
    assert b"hunter2" not in written


# ---- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, raised, words",
    [
        (BadLogQuery("no such cursor"), InvalidRequest, "no such cursor"),
        (BadLogQuery("no such task", "task"), InvalidRequest, "no such task"),
        (BackendError("/scratch is not to be seen"), BackendUnavailable, "/scratch is not to be seen"),
        (ValueError("token=hunter2"), LogReaderUnavailable, "the log reader of fake failed; its own log has"),
    ],
    ids=["query", "task", "backend", "fault"],
)
def test_a_refusal_of_the_reader_is_the_one_that_the_api_would_have_given(site, error, raised, words):
    """What nobody foresaw may hold anything, so it stays in the log of the worker."""
    sees = Sees()
    sees.error = error
    site.reader(fake=sees)

    with pytest.raises(raised, match=words) as told:
        site.log()

    assert "hunter2" not in str(told.value)
    if isinstance(error, BadLogQuery):
        assert [fault.pointer for fault in told.value.faults] == [f"?{error.parameter}"]


def test_after_a_fault_the_reader_goes_on(site):
    sees = Sees(b"one")
    sees.error = ValueError("broken")
    site.reader(fake=sees)
    for _ in range(THREADS + 1):
        with pytest.raises(LogReaderUnavailable):
            site.log()

    sees.error = None

    assert site.log().data == b"one"


def test_a_job_that_is_forgotten_meanwhile_is_a_reason(site):
    site.reader(fake=Sees())
    attempt = replace(site.api.store.jobs.parts(site.jobs["fake"]).attempts[0], number=9)

    with pytest.raises(BackendError, match="is no longer known"):
        site.api.broker.relay.page(site.jobs["fake"], attempt, LogQuery())


def test_an_answer_of_another_release_is_a_reason(site):
    site.claims_to_be_there()
    with ThreadPoolExecutor(1) as pool:
        page = pool.submit(site.log)
        question = site.api.store.asks.take("fake", 5)
        site.api.store.asks.tell(question, Said(facts={"page": {"rows": []}}))

        with pytest.raises(LogReaderUnavailable, match="of another release"):
            page.result()


# ---- nobody answers ----------------------------------------------------------------------------------


def test_without_a_reader_the_problem_says_at_once_what_to_do(site):
    site.api.broker.relay = LogRelay(site.api.broker.context)  # patient
    began = time.monotonic()

    with pytest.raises(LogReaderUnavailable, match=r"log reader login is not there.*worker --name login"):
        site.log()

    assert time.monotonic() - began < 2 * PATIENCE
    assert site.waiting() == 0


def test_a_reader_that_has_stopped_is_not_waited_for(site):
    site.reader(fake=Sees(b"one")).stop()

    with pytest.raises(LogReaderUnavailable, match="is not there"):
        site.log()


def test_one_that_falls_silent_is_forgotten(site):
    site.claims_to_be_there(for_ms=1)
    wait_until(lambda: not site.there())

    with pytest.raises(LogReaderUnavailable, match="is not there"):
        site.log()


def test_a_reader_that_takes_nothing_is_told_of_and_the_question_taken_back(site):
    """It hangs, or was killed a moment ago."""
    site.claims_to_be_there()

    with pytest.raises(LogReaderUnavailable, match=r"\(elsewhere:1\) did not take the request within 0.4 s"):
        site.log()

    assert site.waiting() == 0


def test_a_reader_that_goes_before_it_has_taken_the_question_is_noticed(site):
    site.api.broker.relay = LogRelay(site.api.broker.context, replace(SHORT, taken_s=60, answered_s=60))
    site.claims_to_be_there()
    with ThreadPoolExecutor(1) as pool:
        page = pool.submit(site.log)
        wait_until(site.waiting)
        site.api.store.alive.take_back(ROLE, "fake", "elsewhere:1")

        with pytest.raises(LogReaderUnavailable, match="is not there"):
            page.result(60)


def test_a_reader_that_takes_a_question_and_never_answers_is_given_up(site):
    site.api.broker.relay = LogRelay(site.api.broker.context, replace(SHORT, answered_s=0.5))
    sees = Sees()
    sees.gate.clear()
    site.reader(fake=sees)

    try:
        with pytest.raises(LogReaderUnavailable, match=r"did not answer within 0\.5 s; is the file system"):
            site.log()
    finally:
        sees.gate.set()


def dies_with_the_question(site):
    """Takes it, says so, and is gone."""
    question = site.api.store.asks.take("fake", 5)
    assert question is not None
    site.api.store.asks.tell(question, Said(facts={"taken_by": "elsewhere:1"}))
    site.api.store.alive.take_back(ROLE, "fake", "elsewhere:1")


def test_when_the_only_reader_dies_in_the_middle_who_asked_hears_it_soon(site):
    site.api.broker.relay = LogRelay(site.api.broker.context, replace(SHORT, answered_s=60))
    site.claims_to_be_there()
    with ThreadPoolExecutor(1) as pool:
        page = pool.submit(site.log)
        dies_with_the_question(site)

        with pytest.raises(LogReaderUnavailable, match="is not there"):
            page.result(60)


def test_when_a_reader_dies_in_the_middle_another_reads(site):
    site.claims_to_be_there("elsewhere:1")
    site.claims_to_be_there("third:1")
    site.worker.broker.context.adapters.update(fake=Sees(b"by another"))
    with ThreadPoolExecutor(1) as pool:
        page = pool.submit(site.log)
        dies_with_the_question(site)

        assert site.worker.broker.answer_about_logs("fake", "third:1", 5.0)

        assert page.result(60).data == b"by another"


def test_a_store_that_is_away_is_the_problem_of_the_store(site, monkeypatch):
    site.claims_to_be_there()
    monkeypatch.setattr(site.api.store.client, "pubsub", away)

    with pytest.raises(StoreUnavailable):
        site.log()


def away(*_, **__):
    raise redis.ConnectionError("away")


# ---- many --------------------------------------------------------------------------------------------


def test_many_who_follow_one_log_cost_one_read(site):
    sees = Sees(b"one\n")
    sees.gate.clear()
    site.reader(fake=sees)

    with ThreadPoolExecutor(20) as pool:
        pages = [pool.submit(site.log, cursor="0") for _ in range(20)]
        wait_until(lambda: sees.reads)
        sees.gate.set()
        answers = [page.result() for page in pages]

    assert {page.data for page in answers} == {b"one\n"}
    assert len(sees.reads) < 5, "those that came within a moment share a look"


def test_those_who_ask_for_other_pages_get_their_own(site):
    site.reader(fake=Sees(b"0123456789"))

    with ThreadPoolExecutor(10) as pool:
        pages = list(pool.map(lambda at: site.log(cursor=str(at), limit_bytes=1).data, range(10)))

    assert b"".join(pages) == b"0123456789"


def test_a_look_is_shared_for_a_moment_only(site, monkeypatch):
    monkeypatch.setattr(log_relay, "SHARED_S", 0.0)
    site.api.broker.relay = LogRelay(site.api.broker.context, SHORT)
    sees = Sees(b"one\n")
    site.reader(fake=sees)
    assert site.log(cursor="4").data == b""

    sees.data += b"two\n"

    assert site.log(cursor="4").data == b"two\n"


def test_who_knows_that_the_job_has_ended_sees_all_that_it_wrote(site, monkeypatch):
    """The look of somebody who asked before the end may not show the last line."""
    monkeypatch.setattr(log_relay, "SHARED_S", 1000.0)
    site.api.broker.relay = LogRelay(site.api.broker.context, SHORT)
    sees = Sees(b"one\n")
    site.reader(fake=sees)
    assert site.log(cursor="4").data == b""

    sees.data, sees.over = b"one\nlast\n", True
    site.ends()
    last = site.log(cursor="4")

    assert (last.data, last.complete) == (b"last\n", True)


def test_a_hanging_file_system_holds_up_no_other_backend(site):
    hangs, other = Sees(), Sees(b"other")
    hangs.gate.clear()
    site.reader(fake=hangs, other=other)

    with ThreadPoolExecutor(THREADS) as pool:
        pages = [pool.submit(site.log, cursor=str(n)) for n in range(THREADS)]
        wait_until(lambda: len(hangs.reads) == THREADS)
        try:
            assert site.log("other").data == b"other"
            with pytest.raises(LogReaderUnavailable, match="it hangs, or has too much to read"):
                site.log(cursor="99")
        finally:
            hangs.gate.set()
        assert all(page.exception() is None for page in pages)


def test_only_a_share_of_the_api_s_threads_waits_for_readers(site):
    site.api.broker.relay = LogRelay(site.api.broker.context, replace(SHORT, taken_s=30))
    most = site.api.settings.api_threads // log_relay.THREADS_SHARE
    site.claims_to_be_there()

    with ThreadPoolExecutor(most) as pool:
        pages = [pool.submit(site.log, cursor=str(n)) for n in range(most)]
        wait_until(lambda: site.waiting() == most)
        try:
            with pytest.raises(LogReaderUnavailable, match=f"{most} requests wait here"):
                site.log(cursor="99")
        finally:
            site.api.store.alive.take_back(ROLE, "fake", "elsewhere:1")
        assert all(isinstance(page.exception(), LogReaderUnavailable) for page in pages)


# ---- the list ----------------------------------------------------------------------------------------


def test_the_list_of_questions_has_an_end_and_an_expiry(site):
    site.claims_to_be_there()
    asks = site.api.store.asks
    for _ in range(MOST_WAITING):
        asks._put("fake", b"{}")

    with pytest.raises(NotAsked) as refused, asks.asked("fake", {}):
        pytest.fail("it was asked")
    with pytest.raises(LogReaderUnavailable, match="too much to read"):
        site.log()

    assert refused.value.full
    assert 0 < site.api.store.client.pttl(f"{site.api.store.prefix}asks:fake") <= 60_000


def test_where_nobody_could_answer_nothing_is_asked(site):
    asks = site.api.store.asks

    with pytest.raises(NotAsked) as refused, asks.asked("fake", {}):
        pytest.fail("it was asked")

    assert not refused.value.full
    assert site.waiting() == 0


def test_a_question_whose_asker_has_gone_is_not_looked_into(site):
    sees = Sees()
    site.worker.broker.context.adapters.update(fake=sees)
    body = {"what": "page", "job": site.jobs["fake"], "attempt": 1, "query": {}}
    site.claims_to_be_there()
    site.api.store.asks._put("fake", b'{"id":"gone","body":' + str(body).replace("'", '"').encode() + b"}")

    assert site.worker.broker.answer_about_logs("fake", "me:1", 1.0)

    assert not sees.reads


def test_two_who_take_never_get_the_same_question(site):
    site.claims_to_be_there()
    asks = site.api.store.asks
    for number in range(20):
        asks._put("fake", b'{"id":"%d","body":{}}' % number)

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda _: asks.take("fake", 1.0), range(20)))

    assert {one.id for one in taken} == {str(number) for number in range(20)}
    assert asks.take("fake", 0.05) is None


def test_what_is_said_keeps_its_bytes():
    for data in (b"", b"\n", b"a\nb\n", bytes(range(256))):
        said = Said(facts={"note": "zwei\nZeilen"}, data=data)

        assert Said.load(said.dump()) == said


def test_what_nobody_listens_to_is_lost(site):
    assert not site.api.store.asks.tell(Question(id="x", backend="fake", body={}), Said(facts={}))


# ---- check -------------------------------------------------------------------------------------------


def test_of_files_a_check_tells_what_the_reader_sees(site):
    site.reader(fake=Sees())

    found = site.api.broker.check_backend("fake", ANA)

    [name] = site.there()
    assert [(one.subject, one.well, one.message) for one in found] == [
        ("connection", True, "it answers"),
        ("log reader", True, f"login reads the logs ({name})"),
        ("logs", True, "are read below /scratch"),
    ]


def test_a_check_says_that_there_is_no_reader_and_how_to_start_one(site):
    [_, reader] = site.api.broker.check_backend("fake", ANA)

    assert (reader.subject, reader.well) == ("log reader", False)
    assert "broker worker --name login" in reader.message


# ---- who is one --------------------------------------------------------------------------------------


def test_a_worker_with_another_name_or_none_reads_nothing(site):
    for name in (None, "compute"):
        reader = LogReader(site.worker.broker, name)
        reader.start()
        reader.stop()

        assert reader.backends == ()
    assert not site.there()
