"""What the server keeps on disk while it runs."""

from __future__ import annotations

import os
import subprocess

from broker.web.server import METRICS_PREFIX, forget_the_dead


def test_the_metrics_of_the_killed_are_removed_and_those_of_the_living_stay(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    names = {pid: f"{METRICS_PREFIX}{pid}-abc" for pid in (dead.pid, os.getpid())}
    for name in (*names.values(), f"{METRICS_PREFIX}abc", "else-1-abc"):
        (tmp_path / name).mkdir()

    forget_the_dead(tmp_path)

    left = {path.name for path in tmp_path.iterdir()}
    assert left == {names[os.getpid()], f"{METRICS_PREFIX}abc", "else-1-abc"}
