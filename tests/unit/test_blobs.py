"""Blobs in a directory: whole or not there, seen by all, nobody else's to read, and gone in time."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from broker.blobs import Directory

JOB, OTHER = "01JABCDEFGHJKMNPQRSTVWXYZ0", "01JABCDEFGHJKMNPQRSTVWXYZ1"
LOG = f"{JOB}.1.log"


@pytest.fixture
def blobs(tmp_path):
    return Directory(tmp_path / "blobs")


def files(blobs):
    return sorted(one.name for one in blobs.root.rglob("*") if one.is_file())


def test_what_was_put_is_there_for_every_process(blobs):
    blobs.put(LOG, b"one")
    blobs.put(LOG, b"two")

    assert Directory(blobs.root).get(LOG) == b"two"
    assert blobs.get(f"{JOB}.2.log") is None
    assert files(blobs) == [LOG]


def test_only_the_brokers_user_may_read_it(blobs):
    """Logs hold what users print, passwords included."""
    blobs.put(LOG, b"secret")

    (file,) = (one for one in blobs.root.rglob("*") if one.is_file())
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert blobs.root.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "name", ["", "..", "../../etc/passwd", f"{JOB}.1.log/../x", f"{JOB}.1.LOG", f"{LOG}\n"]
)
def test_a_name_is_no_path(blobs, name):
    for act in (blobs.get, lambda name: blobs.put(name, b"")):
        with pytest.raises(ValueError, match="is no name of a blob"):
            act(name)


def test_what_could_not_be_written_leaves_what_was_there(blobs, monkeypatch):
    blobs.put(LOG, b"before")
    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match="full"):
        blobs.put(LOG, b"after")

    assert blobs.get(LOG) == b"before"
    assert files(blobs) == [LOG]


def full(_):
    raise OSError("the disk is full")


def test_a_job_goes_with_all_that_it_has_and_no_other(blobs):
    for name in (LOG, f"{JOB}.2.log", f"{OTHER}.1.log"):
        blobs.put(name, b"x")

    blobs.drop(JOB)
    blobs.drop(JOB)

    assert files(blobs) == [f"{OTHER}.1.log"]


def test_what_nobody_has_dropped_goes_when_it_is_old(blobs):
    blobs.put(LOG, b"old")
    os.utime(next(blobs.root.rglob(LOG)), (0, 0))
    blobs.put(f"{OTHER}.1.log", b"new")

    assert blobs.drop_older(3600) == 1
    assert files(blobs) == [f"{OTHER}.1.log"]
    assert blobs.drop_older(-3600) == 0, "it has just looked"
    assert Directory(blobs.root / "nowhere").drop_older(0) == 0


def test_two_that_change_one_blob_lose_nothing_of_each_other(blobs):
    begin = threading.Barrier(4)

    def add(_):
        begin.wait(60)
        for _ in range(25):
            with blobs.alone(LOG):
                blobs.put(LOG, (blobs.get(LOG) or b"") + b".")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))

    assert blobs.get(LOG) == b"." * 100
