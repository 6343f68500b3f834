"""Which replica a connection goes to."""

from __future__ import annotations

from collections import Counter

from adapters.local.paths import Home
from adapters.local.proxy import Proxy, Replica


def proxy_of(tmp_path, **replicas):
    proxy = Proxy(Home(str(tmp_path)), 1)
    proxy.replicas = {name: Replica(name, 1, "/", **state) for name, state in replicas.items()}
    return proxy


def test_ready_replicas_take_turns(tmp_path):
    proxy = proxy_of(tmp_path, a={"ready": True}, b={"ready": True}, c={"ready": True})

    first = Counter(proxy._in_turn()[0].launch for _ in range(30))

    assert first == {"a": 10, "b": 10, "c": 10}


def test_what_is_not_ready_or_retires_gets_no_connection(tmp_path):
    proxy = proxy_of(tmp_path, a={"ready": True}, b={}, c={"ready": True, "retiring": True})

    assert {one.launch for _ in range(5) for one in proxy._in_turn()} == {"a"}


def test_the_others_are_tried_when_one_does_not_answer(tmp_path):
    proxy = proxy_of(tmp_path, a={"ready": True}, b={"ready": True})

    assert sorted(one.launch for one in proxy._in_turn()) == ["a", "b"]


def test_without_a_ready_replica_there_is_none(tmp_path):
    assert proxy_of(tmp_path, a={})._in_turn() == []
