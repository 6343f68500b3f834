"""Who has which connection to Redis, and what becomes of one that breaks."""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import pytest
import redis

from broker.store import connection
from broker.store.connection import connect, probe
from tests.helpers import wait_until


@pytest.fixture
def client(redis_server):
    client = connect(redis_server)
    yield client
    client.close()


def own_id(client):
    return client.execute_command("CLIENT", "ID")


def known(client):
    """The ids of all connections of the server."""
    return {int(one["id"]) for one in client.client_list()}


def in_a_thread(work):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(10.0)


def test_a_thread_keeps_its_connection(client):
    mine = own_id(client)

    other = in_a_thread(lambda: [own_id(client) for _ in range(3)])

    assert {own_id(client) for _ in range(3)} == {mine}
    assert len(set(other)) == 1 and mine not in other


def test_what_a_thread_has_kept_is_there_for_the_next_one(client):
    own_id(client)
    first = in_a_thread(lambda: own_id(client))

    again = {in_a_thread(lambda: own_id(client)) for _ in range(5)}

    assert again == {first}


def test_two_at_a_time_are_two(client):
    with client.pipeline(transaction=True) as pipe:
        pipe.watch("anything")
        watching = pipe.execute_command("CLIENT", "ID")

        assert own_id(client) != watching

    with client.pubsub() as channel:
        channel.subscribe("news")
        assert client.publish("news", "1") == 1, "who listens does not send"
    assert client.publish("news", "2") == 0


def test_a_connection_that_the_server_has_ended_is_made_anew(client, redis_server):
    mine = own_id(client)
    other = connect(redis_server)

    other.client_kill_filter(_id=mine)
    wait_until(lambda: mine not in known(other))

    assert own_id(client) != mine
    other.close()


def test_a_child_makes_its_own(client):
    """Two processes on one socket would read each other's answers."""
    mine = own_id(client)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, str(own_id(client)).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)

    with open(read, "rb") as told:
        assert int(told.read()) not in (0, mine)
    assert own_id(client) == mine


def test_who_closes_closes_what_threads_have_kept(client, redis_server):
    other = connect(redis_server)
    with ThreadPoolExecutor(1) as pool:
        theirs = pool.submit(lambda: own_id(client)).result()
        assert theirs in known(other)

        client.close()

        wait_until(lambda: theirs not in known(other))
    other.close()


def test_threads_that_rest_keep_nobody_from_the_store(client):
    """redis-py would make 100 connections at most."""
    all_there = threading.Barrier(121)

    def rest():
        found = own_id(client)
        all_there.wait(30.0)
        return found

    with ThreadPoolExecutor(120) as pool:
        resting = [pool.submit(rest) for _ in range(120)]
        all_there.wait(30.0)

    assert len({one.result() for one in resting}) == 120


def test_an_answer_that_nobody_waited_for_is_nobody_elses(client):
    """What breaks in between a command and its answer leaves the answer to come, here after half a second."""
    client.set("yours", "2")

    class Interrupted(Exception):
        pass

    def asked(*command):
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command(*command)
            raise Interrupted
        finally:
            client.connection_pool.release(connection)

    with pytest.raises(Interrupted):
        asked("BLPOP", "empty", "0.5")

    assert client.get("yours") == b"2"


def test_a_refusal_costs_no_connection(client):
    """It is an answer like any other, and nothing comes after it."""
    mine = own_id(client)

    with pytest.raises(redis.ResponseError):
        client.execute_command("INCR")

    assert own_id(client) == mine


def test_who_handles_an_exception_keeps_the_connection(client):
    """A worker writes what became of a submission that was refused."""
    mine = own_id(client)

    try:
        raise ValueError
    except ValueError:
        meanwhile = [own_id(client) for _ in range(3)]

    assert {*meanwhile, own_id(client)} == {mine}


def test_what_is_given_back_twice_is_lent_once(client):
    pool = client.connection_pool
    connection = pool.get_connection()
    pool.release(connection)
    pool.release(connection)

    assert pool.get_connection() is not pool.get_connection()


# ---- a server that hangs -------------------------------------------------------------------------------


@contextmanager
def silence():
    """A port where connections are taken and nothing is answered, and what was sent there."""
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()
        listener.settimeout(0.02)

        def listen():
            with ExitStack() as taken:
                while not over.is_set():
                    with suppress(TimeoutError):
                        one = taken.enter_context(listener.accept()[0])
                        heard.append(one.recv(4096))

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}", heard
        finally:
            over.set()
            thread.join()


def test_a_server_that_answers_is_found_so(client):
    probe(client)


def test_a_server_that_hangs_is_found_so_at_once(monkeypatch):
    """A load balancer does not wait for the twenty seconds that a command may take."""
    monkeypatch.setattr(connection, "PROBE_S", 0.05)
    with silence() as (url, heard), pytest.raises(redis.RedisError):
        probe(connect(url))
    assert len(heard) == 1


def test_what_was_not_answered_in_time_is_not_sent_again(monkeypatch):
    monkeypatch.setitem(connection.OPTIONS, "socket_timeout", 0.05)
    with silence() as (url, heard), pytest.raises(redis.RedisError):
        connect(url).ping()
    assert len(heard) == 1
