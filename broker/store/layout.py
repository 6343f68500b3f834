"""The layout of the store: every key there is.  A test holds it against what is really there.

All keys begin with the prefix (``wb:`` unless set), and so do the channels ``said:<question>``, on which log
readers answer and which keep nothing.  A key with expiry RETENTION is removed by the sweeper that long after
the end of its job, unless a live dependant pins it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NEVER, RETENTION, OWN, WHEN_EMPTY = "never", "retention", "its own", "when empty"


@dataclass(frozen=True)
class Key:
    pattern: str  # <id>: a job; <name>: anything
    type: str
    expiry: str
    holds: str


# fmt: off
KEYS: tuple[Key, ...] = (
    Key("meta",                "hash",   NEVER,      "v_max, instance, swept_at; first and last incarnation"),
    Key("limits",              "hash",   NEVER,      "events_kept, retention_ms, as configured"),
    Key("counters",            "hash",   NEVER,      "stale_writes, unknown_words ..."),
    Key("sequences",           "hash",   NEVER,      "project -> sequence number of its last event"),
    Key("job:<id>",            "hash",   RETENTION,  "the hot fields of one job: records.JobRecord"),
    Key("spec:<id>",           "string", RETENTION,  "the specification, packed"),
    Key("attempts:<id>",       "hash",   RETENTION,  "number -> attempt, JSON: records.AttemptRecord"),
    Key("decisions:<id>",      "hash",   RETENTION,  "number -> decision, packed (0: provisional)"),
    Key("history:<id>",        "list",   RETENTION,  "the job's own last 100 events"),
    Key("tasks:<id>",          "string", RETENTION,  "array jobs: the table of tasks, packed"),
    Key("packed:<id>",         "hash",   RETENTION,  "an ended job, all of the above in one"),
    Key("dependants:<id>",     "set",    WHEN_EMPTY, "live jobs that wait for this one, which pins it"),
    Key("releasing:<id>",      "set",    WHEN_EMPTY, "those of them that are still to be judged"),
    Key("release",             "zset",   WHEN_EMPTY, "predecessors whose dependants are to be judged"),
    Key("index:<name>",        "zset",   WHEN_EMPTY, "a project: <letter>=<value>NUL<id>, all scores 0"),
    Key("due:<name>",          "zset",   WHEN_EMPTY, "<lane>:<backend>:<project>: job -> when it is due"),
    Key("turns:<name>",        "zset",   WHEN_EMPTY, "<lane>:<backend>: project -> its last turn"),
    Key("live:<name>",         "hash",   WHEN_EMPTY, "a backend: job -> attempt, fingerprint, handle"),
    Key("ended",               "zset",   WHEN_EMPTY, "job -> when it ended; what is to be packed"),
    Key("packs",               "zset",   WHEN_EMPTY, "job -> when it ended; what is to be forgotten"),
    Key("events:<name>",       "stream", OWN,        "a project: <incarnation>-<sequence>, trimmed"),
    Key("operator",            "stream", NEVER,      "backends, policy, tokens; trimmed"),
    Key("backends",            "set",    NEVER,      "every backend that was ever configured"),
    Key("backend:<name>",      "hash",   NEVER,      "snapshot, freshness, drained, paused, breaker"),
    Key("idempotency:<name>",  "hash",   OWN,        "what a request was answered; 24 h: idempotency.py"),
    Key("lease:<name>",        "hash",   NEVER,      "holder, until, epoch (the fencing token)"),
    Key("slots:<name>",        "zset",   OWN,        "holder -> until when it may work"),
    Key("alive:<name>",        "zset",   OWN,        "<role>:<host>: pid -> until when it is alive"),
    Key("asks:<name>",         "list",   OWN,        "a backend: questions to its log readers; seconds"),
    Key("keeps:<name>",        "zset",   WHEN_EMPTY, "a backend: <job>.<attempt> -> keep log or account"),
    Key("hint:<name>",         "string", OWN,        "a Celery message is outstanding"),
    Key("token:<name>",        "hash",   OWN,        "the record of a bearer token"),
    Key("tokens",              "hash",   WHEN_EMPTY, "token id -> digest of its secret"),
)
# Not the store's own: Celery's queues (celery:) and the counters of the rate limit (rate:).
FOREIGN = ("celery:", "rate:")
# fmt: on


def key_of(name: str) -> Key | None:
    """The row for a key's name without the prefix; None: it should not be there."""
    for key in KEYS:
        pattern = re.escape(key.pattern).replace("<id>", "[0-9A-Z]{26}").replace("<name>", ".+")
        if re.fullmatch(pattern, name):
            return key
    return None
