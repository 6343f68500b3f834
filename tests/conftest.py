"""Fixtures of every test: a real server for the state, and no network but this machine."""

from __future__ import annotations

import gc
import ipaddress
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from redis import Redis

from broker.embedded.server import EmbeddedServer
from tests.real.daemons import STARTED_AGAIN
from tests.real.kubernetes.layout import SERVICES
from tests.real.kubernetes.leftovers import BRIDGE

pytest_plugins = ["tests.real.kubernetes.fixtures"]

# A shared machine may stop for a moment, and examples are not kept.  CI runs the deep one as well.
settings.register_profile("quick", deadline=None, database=None, max_examples=40)
settings.register_profile("deep", deadline=None, database=None, max_examples=300)
settings.load_profile("quick")


def only_this_machine(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "socket.connect" or not isinstance(arguments[1], tuple):
        return  # a path: a Unix socket
    host = str(arguments[1][0])
    if host != "localhost" and not is_here(ipaddress.ip_address(host)):
        raise PermissionError(f"a test must not call {host}")


def is_here(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Services of the tests' own Kubernetes node, while there is one, are on this machine too."""
    on_node = address in ipaddress.ip_network(SERVICES) and Path("/sys/class/net", BRIDGE).exists()
    return address.is_loopback or on_node


def pytest_configure() -> None:
    sys.addaudithook(only_this_machine)  # a hook cannot be patched away by a library
    gc.disable()  # nothing becomes garbage while thousands of tests are collected


def pytest_collection_finish() -> None:
    gc.freeze()  # and what was collected and imported stays to the end
    gc.enable()


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Nothing is tried twice in silence."""
    while STARTED_AGAIN:
        item.user_properties.append(("summary", STARTED_AGAIN.pop()))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What tests have to say beside that they passed: ``record_property("summary", line)``."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    told = {
        value
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "summary"
    }
    for line in [*sorted(told), *on_real_clusters(terminalreporter.stats.get("passed", []))]:
        terminalreporter.write_line(line)


def on_real_clusters(passed: list[Any]) -> list[str]:
    """How many cases ran on which cluster: Slurm's kind begins the id, others are told by ``ran_on``."""
    on_one = [
        report.nodeid for report in passed if report.nodeid.startswith(("tests/contract/", "tests/real/"))
    ]
    kinds = Counter(
        f"Slurm {found[1]}"
        for name in on_one
        if (found := re.search(r"\[(\d\d\.\d\d(-accounting)?)\b", name))
    )
    kinds.update(
        value
        for report in passed
        for name, value in getattr(report, "user_properties", ())
        if name == "ran_on"
    )
    return [f"{count} cases passed on a real {kind}" for kind, count in sorted(kinds.items())]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """The URL of a server that all tests of this process share."""
    # everysec: the tests of durability start their own; the others need not wait for the disk.
    with EmbeddedServer(tmp_path_factory.mktemp("redis"), appendfsync="everysec") as server:
        yield server.url


@pytest.fixture
def clean_redis(redis_server):
    """The same URL, with nothing in it."""
    with Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server
