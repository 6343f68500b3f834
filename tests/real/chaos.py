"""200 jobs through the whole stack, while what they depend on suffers at random.

    chaos = Chaos(cluster, parts, seed)
    chaos.kills("apiserver")
    ids, said = chaos.over(job)

What then has to be true of the cluster's own records, each test says itself.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from contextlib import suppress

from api_spec.states import FINAL
from tests.helpers import wait_until

JOBS = 200
AT_ONCE = 10
SUFFERS_S = 45.0
ENDS_WITHIN_S = 300.0  # a controller looks now and then only at what a node has lost
STARTS_WITHIN_S = 9.0
WORKERS = ("worker", "worker-2")
SETTINGS = {"lease_s": 4, "poll_s": 0.5, "sweep_s": 0.5}


def seed_of_today(capsys):
    """Told at once: a test that hangs is to be repeated, too."""
    seed = int(os.environ.get("BROKER_TEST_SEED", random.randrange(10**6)))
    with capsys.disabled():
        print(f"\nchaos with BROKER_TEST_SEED={seed}", flush=True)
    return seed


class Chaos:
    """One misfortune at a time, of {name: what it does}; the seed repeats their order, not what they hit."""

    def __init__(self, cluster, parts, seed):
        self.cluster, self.parts, self.random = cluster, parts, random.Random(seed)
        self.happened = Counter()
        self.started_at = 0.0  # the part that was killed last
        self.mend = lambda: None  # as the administrator does, when all is quiet again
        self.misfortunes = {
            "kill_worker": lambda: self.kill_part(*WORKERS),
            "freeze_worker": lambda: self.freeze_part(*WORKERS),
            "kill_controller": lambda: self.kill_part("controller"),
            "freeze_controller": lambda: self.freeze_part("controller"),
        }

    def over(self, job):
        """The ids of jobs that have all ended, and how it went.  ``job``: number to specification."""
        began = time.monotonic()
        ids = self._submit_all(job)
        while time.monotonic() < began + SUFFERS_S and self._ended(ids) < JOBS:
            self.pause(2)
            self.strike()
        wait_until(lambda: self._over_and_mended(ids), ENDS_WITHIN_S, _Told(lambda: self._story(ids)), 0.5)
        took_s = time.monotonic() - began
        # Who has only just been started again would not hear the SIGTERM at the end.
        wait_until(lambda: time.monotonic() > self.started_at + STARTS_WITHIN_S)
        happened = ", ".join(f"{name} {times}" for name, times in sorted(self.happened.items()))
        return ids, f"{JOBS} jobs in {took_s:.0f} s, {happened}"

    def _over_and_mended(self, ids):
        if self._ended(ids) == JOBS:
            return True
        self.mend()
        return False

    def strike(self):
        name = self.random.choice(sorted(self.misfortunes))
        self.happened[name] += 1
        self.misfortunes[name]()

    def pause(self, longest_s):
        until = time.monotonic() + self.random.uniform(0.1, longest_s)
        wait_until(lambda: time.monotonic() > until)

    def freezes(self, daemon, longest_s):
        def freeze():
            self.cluster.freeze(daemon)
            self.pause(longest_s)
            self.cluster.thaw(daemon)

        self.misfortunes[f"freeze_{daemon}"] = freeze

    def kills(self, daemon):
        def kill():
            self.cluster.kill(daemon)
            self.pause(1)
            self.cluster.start(daemon)

        self.misfortunes[f"kill_{daemon}"] = kill

    def kill_part(self, *names):
        """Of the broker."""
        name = self.random.choice(names)
        self.parts.kill(name)
        self.pause(1)
        self.parts.start(name)
        self.started_at = time.monotonic()

    def freeze_part(self, *names):
        """For longer than its leases last, now and then."""
        name = self.random.choice(names)
        self.parts.freeze(name)
        self.pause(1.5 * SETTINGS["lease_s"])
        self.parts.thaw(name)

    def _submit_all(self, job):
        client, ids = self.parts.client(), []
        for first in range(0, JOBS, AT_ONCE):
            taken = client.submit([job(number) for number in range(first, first + AT_ONCE)])
            ids += [one["job"]["id"] for one in taken]
        return ids

    def _ended(self, ids):
        return sum(record.state in FINAL for record in self.parts.store.jobs.read_many(ids))

    def _story(self, ids):
        with suppress(Exception):
            records = self.parts.store.jobs.read_many(ids)
            left = [(one.id, one.state, one.reason, one.message) for one in records if one.state not in FINAL]
            return f"after {dict(self.happened)} {len(left)} of {len(ids)} jobs have not ended: {left[:5]}"
        return "the store does not answer"


class _Told:
    """A text that is made when it is read."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text()
