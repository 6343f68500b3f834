"""The transport against a slurmrestd that answers as real ones did, or breaks off in every way."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from adapters.slurm import transport as errors
from adapters.slurm.options import Options, TokenSource, Users
from adapters.slurm.records import Changes
from adapters.slurm.rest import client
from adapters.slurm.rest.answers import Answer
from adapters.slurm.rest.transport import RestTransport
from tests.unit import slurm_stub as stubs
from tests.unit.slurm_recorded import DIALECTS, recorded
from tests.unit.slurm_stub import Serving, Stub
from tests.unit.test_slurm_rest_bodies import submission

ANSWER_S = 0.4


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "jwt.key"
    path.write_bytes(b"k" * 32)
    return str(path)


@pytest.fixture
def stub(request):
    with Serving(Stub(getattr(request, "param", "v0.0.42"))) as stub:
        yield stub


@pytest.fixture
def connect(stub, key):
    opened = []

    def connect(**changes):
        token = changes.pop("token", TokenSource(key_file=key, user="slurm"))
        given = {"directory": "/tmp", "url": stub.url, "token": token, "users": Users(), "answer_s": ANSWER_S}
        opened.append(RestTransport(Options(**{**given, **changes})))
        return opened[-1]

    yield connect
    for transport in opened:
        transport.close()


old = pytest.mark.parametrize("stub", ["v0.0.38"], indirect=True)
every = pytest.mark.parametrize("stub", DIALECTS, indirect=True)


def entry(code, status=500, **more):
    return Answer.of({"errors": [{"error_number": code, "description": "it"}], **more}, status)


# ---- as it should be ---------------------------------------------------------------------------------


@every
def test_a_cluster_is_asked_what_it_is_once(stub, connect):
    stub.answers["GET", "/openapi/v3"] = only(stub.dialect)
    transport = connect()

    found = transport.cluster()
    transport.ping()

    assert (found.dialect, found.accounting) == (stub.dialect, False)
    assert found.has_states == (stub.dialect != "v0.0.38")
    assert stub.calls().count("GET /openapi/v3") == 1


@every
def test_a_job_is_submitted_as_its_user(stub, connect):
    stub.answers["GET", "/openapi/v3"] = only(stub.dialect)

    assert connect().submit(submission()) == 1

    (sent,) = (one for one in stub.seen if one.method == "POST")
    assert sent.headers["X-SLURM-USER-NAME"] == "ana"
    assert sent.headers["Content-Type"] == "application/json"
    assert (sent.body["job"]["name"], "script" in sent.body) == ("wb-a-1", stub.dialect == "v0.0.38")


def only(dialect):
    paths = {f"/slurm/{dialect}/ping": {}}
    if dialect != "v0.0.38":
        paths[f"/slurm/{dialect}/jobs/state"] = {}
    return Answer.of({"paths": paths})


@every
def test_a_cancel_of_an_unknown_job_is_told_by_every_dialect(stub, connect):
    stub.answers["GET", "/openapi/v3"] = only(stub.dialect)
    stub.answers["GET", "job/1"] = recorded(stub.dialect, "job")
    transport = connect()

    transport.cancel("1", "ana")
    with pytest.raises(errors.NotKnown):
        transport.cancel("99999", "ana")


def test_a_change_of_nothing_sends_nothing(stub, connect):
    connect().change("1", Changes(), "ana")

    assert stub.calls("POST") == []


@old
def test_the_name_of_an_older_cluster_is_learned_from_its_jobs(stub, connect):
    transport = connect()
    before = transport.cluster().name

    transport.jobs()

    assert (before, transport.cluster().name) == (None, "lab")


def test_a_cluster_without_a_database_says_so(connect):
    for call in ("history", "associations", "qos"):
        with pytest.raises(errors.NoAccounting):
            getattr(connect(), call)()


def test_a_socket_is_called_like_an_address(tmp_path, key):
    path = tmp_path / "s"
    with Serving(Stub("v0.0.42"), path):
        transport = RestTransport(
            Options(
                directory="/tmp",
                socket=str(path),
                token=TokenSource(key_file=key, user="slurm"),
                users=Users(),
            )
        )

        assert transport.submit(submission()) == 1
        transport.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Its own authority, and the key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    about = ["-subj", "/CN=slurmrestd", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    where = ["-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run([*command, *about, *where], check=True, capture_output=True)
    return files


def test_a_server_is_trusted_by_the_authority_that_was_configured(connect, certificate):
    with Serving(Stub("v0.0.42"), certificate=certificate) as secured:
        trusting = connect(url=secured.url, ca_file=str(certificate[0]), answer_s=5.0)
        assert trusting.submit(submission()) == 1

        secured.seen.clear()
        with pytest.raises(errors.NotReached, match="certificate"):
            connect(url=secured.url).submit(submission())
        assert secured.seen == []


# ---- nothing was sent --------------------------------------------------------------------------------


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"url": f"http://127.0.0.1:{closed_port()}"},
        {"url": "ftp://127.0.0.1/"},
        # The library leaves a socket that it could not connect to the garbage collector.
        pytest.param(
            {"url": None, "socket": "/nowhere/slurmrestd.socket"},
            marks=pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
        ),
        {"url": "https://127.0.0.1", "ca_file": "/nowhere/ca.pem"},
        {"url": "http://127.0.0.1:99999"},
    ],
    ids=["refused", "scheme", "socket", "certificates", "port"],
)
def test_a_server_that_is_not_there_was_sent_nothing(connect, changes):
    with pytest.raises(errors.NotReached):
        connect(**changes).submit(submission())


def test_a_server_without_tls_was_sent_nothing(stub, connect):
    with pytest.raises(errors.NotReached):
        connect(url=stub.url.replace("http:", "https:")).submit(submission())

    assert stub.seen == []


def test_a_connection_that_takes_too_long_was_sent_nothing(connect):
    """A full backlog: the kernel does not answer a further connection."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)

        with pytest.raises(errors.NotReached):
            connect(url=f"http://127.0.0.1:{address[1]}", connect_s=0.2).submit(submission())

        for one in waiting:
            one.close()


# ---- nobody knows ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [stubs.hangs_up, stubs.stops_half_way, stubs.is_silent, stubs.talks_nonsense, stubs.resets]
)
def test_a_write_without_a_whole_answer_is_unknown_and_sent_once(stub, connect, fault):
    stub.answers["POST", "job/submit"] = fault

    with pytest.raises(errors.NoAnswer):
        connect().submit(submission())

    assert stub.calls("POST") == ["POST job/submit"]


def test_an_answer_that_trickles_is_given_up(stub, connect, monkeypatch):
    monkeypatch.setattr(client, "LONGEST", 0.0)

    with pytest.raises(errors.NoAnswer, match="end of its answer"):
        connect().cluster()


def test_an_answer_that_is_too_large_is_not_kept(connect, monkeypatch):
    monkeypatch.setattr(client, "LARGEST_BODY", 100)

    with pytest.raises(errors.NoAnswer, match="more than"):
        connect().cluster()


def test_a_connection_that_was_closed_while_idle_is_not_used_for_a_write(stub, connect):
    """Else a restart of slurmrestd would make the next submission of everybody unknown."""
    transport = connect()
    stub.answers["GET", "ping"] = [recorded("v0.0.42", "ping"), stubs.hangs_up]
    transport.cluster()
    with pytest.raises(errors.NoAnswer):
        transport.ping()

    assert transport.submit(submission()) == 1


def test_calls_share_a_connection(stub, connect):
    transport = connect()

    for _ in range(5):
        transport.submit(submission())

    assert len({one.connection for one in stub.seen}) == 1


# ---- a job that is not as asked ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [recorded("v0.0.42", "submit_unknown_key"), entry(2063, job_id=11)],
    ids=["dropped", "error and id"],
)
def test_a_job_that_is_not_as_asked_is_cancelled_and_refused(stub, connect, answer):
    stub.answers["POST", "job/submit"] = answer
    stub.answers["DELETE", "job/11"] = recorded("v0.0.42", "cancel")

    with pytest.raises(errors.Refused):
        connect().submit(submission())

    assert stub.calls("DELETE") == ["DELETE job/11"]


@pytest.mark.parametrize(
    "answer, kind",
    [
        (recorded("v0.0.42", "cancel_unknown"), errors.Refused),  # it is gone: as it should be
        (entry(5004, 504), errors.NoAnswer),
        (stubs.hangs_up, errors.NoAnswer),
    ],
    ids=["gone", "frozen", "hangs up"],
)
def test_a_wrong_job_that_may_still_be_there_is_unknown(stub, connect, answer, kind):
    stub.answers["POST", "job/submit"] = entry(2063, job_id=11)
    stub.answers["DELETE", "job/11"] = answer

    with pytest.raises(kind):
        connect().submit(submission())


# ---- who we are --------------------------------------------------------------------------------------


def test_a_token_that_is_refused_is_renewed_once(stub, connect, tmp_path):
    file = tmp_path / "token"
    file.write_text("first")
    transport = connect(token=TokenSource(file=str(file), user="slurm"))
    transport.cluster()

    stamp = os.stat(file).st_mtime_ns

    def refuses(handler, _):
        file.write_text("other")
        os.utime(file, ns=(stamp, stamp))  # so that nothing but the refusal tells that it is another
        content = recorded("v0.0.42", "wrong_token").content
        handler.wfile.write(b"HTTP/1.1 511 X\r\nContent-Length: %d\r\n\r\n" % len(content) + content)

    stub.answers["POST", "job/submit"] = [refuses, recorded("v0.0.42", "submit")]
    assert transport.submit(submission()) == 1

    sent = [one.headers["X-SLURM-USER-TOKEN"] for one in stub.seen if one.method == "POST"]
    assert sent == ["first", "other"]


def test_a_token_that_is_no_other_when_renewed_is_not_sent_again(stub, connect, tmp_path):
    file = tmp_path / "token"
    file.write_text("first")
    stub.answers["POST", "job/submit"] = recorded("v0.0.42", "wrong_token_submit")

    with pytest.raises(errors.NotAuthenticated) as raised:
        connect(token=TokenSource(file=str(file), user="slurm")).submit(submission())

    assert len(stub.calls("POST")) == 1
    assert "first" not in repr(raised.value)


@old
def test_22_05_refuses_a_token_at_once_where_an_outage_takes_its_time(stub, connect):
    transport = connect()
    transport.cluster()
    stub.answers["POST", "job/submit"] = recorded("v0.0.38", "wrong_token_submit")
    stub.answers["GET", "ping"] = recorded("v0.0.38", "wrong_token_ping")

    with pytest.raises(errors.NotAuthenticated):
        transport.submit(submission())


@old
def test_22_05_whose_controller_answers_a_ping_has_lost_the_answer(stub, connect):
    transport = connect()
    stub.answers["POST", "job/submit"] = entry(-1)

    with pytest.raises(errors.NoAnswer):
        transport.submit(submission())


@old
def test_22_05_whose_controller_took_long_is_not_asked_why(stub, connect, monkeypatch):
    monkeypatch.setattr("adapters.slurm.rest.connection.AT_ONCE_S", -1.0)
    transport = connect()
    stub.answers["POST", "job/submit"] = entry(-1)

    with pytest.raises(errors.NoAnswer):
        transport.submit(submission())

    assert stub.calls("GET").count("GET ping") == 1


def test_a_ping_that_finds_the_controller_down_tells_it_from_a_wrong_token(stub, connect):
    """Newer servers say "DOWN" in both cases."""
    transport = connect()
    transport.cluster()
    stub.answers["GET", "ping"] = recorded("v0.0.42", "wrong_token_ping")
    stub.answers["GET", "licenses"] = recorded("v0.0.42", "wrong_token")
    with pytest.raises(errors.NotAuthenticated):
        transport.ping()

    stub.answers["GET", "licenses"] = recorded("v0.0.42", "licenses")
    with pytest.raises(errors.NotReached):
        transport.ping()


# ---- it changes --------------------------------------------------------------------------------------


def test_a_server_of_another_release_is_asked_anew(stub, connect):
    transport = connect()
    transport.cluster()
    body = recorded("v0.0.42", "nodes").body
    meta = {**body["meta"], "slurm": {**body["meta"]["slurm"], "release": "25.11.2"}}
    stub.answers["GET", "nodes"] = Answer.of({**body, "meta": meta})

    transport.nodes()
    transport.cluster()

    assert stub.calls().count("GET /openapi/v3") == 2


def test_another_cluster_behind_the_same_address_is_noticed(stub, connect):
    transport = connect()
    transport.cluster()
    body = recorded("v0.0.42", "nodes").body
    meta = {**body["meta"], "slurm": {**body["meta"]["slurm"], "cluster": "spare"}}
    stub.answers["GET", "nodes"] = Answer.of({**body, "meta": meta})

    transport.nodes()
    transport.cluster()

    assert stub.calls().count("GET /openapi/v3") == 2


def test_a_path_that_is_gone_is_tried_later_in_another_dialect(stub, connect):
    transport = connect()
    transport.cluster()
    stub.answers["POST", "job/submit"] = recorded("v0.0.42", "unknown_path")

    with pytest.raises(errors.TryLater):
        transport.submit(submission())

    transport.cluster()
    assert stub.calls().count("GET /openapi/v3") == 2
    assert stub.calls("POST") == ["POST job/submit"]


# ---- many at once ------------------------------------------------------------------------------------


def test_more_threads_than_connections_wait_for_each_other(stub, connect):
    transport = connect(answer_s=10.0)

    with ThreadPoolExecutor(24) as threads:
        ids = list(threads.map(transport.submit, [submission()] * 96))

    assert ids == [1] * 96
    assert len({one.connection for one in stub.seen}) <= client.CONNECTIONS


def test_a_call_that_finds_no_free_connection_was_not_sent(stub, connect):
    transport = connect(answer_s=1.5)
    transport.cluster()
    stub.answers["POST", "job/submit"] = stubs.is_silent
    outcomes = []

    def submit():
        try:
            transport.submit(submission())
        except errors.SlurmError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=submit) for _ in range(client.CONNECTIONS + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes.count(errors.NoAnswer) == len(stub.calls("POST"))


def test_a_forked_process_opens_its_own_connections(stub, connect):
    """Two processes on one connection would read each other's answers."""
    transport = connect(answer_s=10.0)
    transport.submit(submission())
    before = len(stub.calls("POST"))

    children = []
    for _ in range(2):
        if (child := os.fork()) == 0:
            try:
                ok = all(transport.submit(submission()) == 1 for _ in range(20))
            finally:
                os._exit(0 if ok else 1)
        children.append(child)
    mine = [transport.submit(submission()) for _ in range(20)]

    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert mine == [1] * 20
    assert len(stub.calls("POST")) == before + 60


# ---- the accounting database -------------------------------------------------------------------------


@pytest.fixture
def database(stub):
    prefix = "/slurm/v0.0.42"
    paths = {f"{prefix}/ping": {}, "/slurmdb/v0.0.42/jobs": {}}
    stub.answers["GET", "/openapi/v3"] = Answer.of({"paths": paths})
    stub.answers["GET", "jobs"] = recorded("v0.0.42", "past_names")
    return stub


def test_the_past_is_sorted_by_all_that_was_asked_for(database, connect):
    found = connect().history(names=["wb-never-1", "wb-array-1"], users=["ana"])
    array = connect().history(names=["wb-array-1"])

    assert {row.name for row in found} == {"wb-never-1", "wb-array-1"}
    assert {row.name for row in array} == {"wb-array-1"}
    assert connect().history(names=["wb-never-1"], users=["bo"]) == []
    assert connect().history(names=["wb-never-1"], since=4e9) == []


def test_a_user_whom_slurm_does_not_know_hides_nobody_else(database, connect):
    everyone = recorded("v0.0.42", "past_names")
    database.answers["GET", "jobs"] = [recorded("v0.0.42", "past_unknown_user"), everyone]

    found = connect().history(users=["ana", "no-such-user"])

    assert {row.user for row in found} == {"ana"}
    assert [one.path.count("users=") for one in database.seen if "jobs?" in one.path] == [2, 0]


def test_associations_of_other_clusters_are_left_out(database, connect):
    rows = recorded("v0.0.42", "associations").body["associations"]
    others = [{**row, "cluster": "elsewhere", "user": "eve"} for row in rows]
    database.answers["GET", "associations"] = Answer.of({"associations": [*rows, *others]})

    assert {row.user for row in connect().associations()} == {"ana", "bo", "cy", "root"}


@old
def test_an_older_cluster_is_named_by_its_database_when_that_serves_no_other(stub, connect):
    paths = {"/slurm/v0.0.38/ping": {}, "/slurmdb/v0.0.38/jobs": {}}
    stub.answers["GET", "/openapi/v3"] = Answer.of({"paths": paths})
    stub.answers["GET", "clusters"] = [Answer.of({"clusters": [{"name": name} for name in ("a", "b")]})]
    unsure = connect().cluster().name

    stub.answers["GET", "clusters"] = [recorded("v0.0.38", "clusters")]

    assert (unsure, connect().cluster().name) == (None, "lab")
