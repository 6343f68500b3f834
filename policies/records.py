"""Decisions as the store keeps them: positional JSON, compressed with a dictionary of the phrases they share.

    b"1" + raw deflate of [outcome, chosen, summary, binding, policy, digest, decided_at, attempt, warnings,
                           options, verdicts]
    verdict:   [backend, type, snapshot age or null, score, refusals, parts]
    refusal:   [code, message] or [code, message, field]
    part:      [rule, points, message]

The first byte is the version.  A dictionary and a layout belong to their version for ever: another
phrase or field is a new version beside it, and what this release wrote must stay readable.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from api_spec.decisions import Decision, Outcome, Refusal, ScorePart, Verdict
from api_spec.encoding import encode
from api_spec.reasons import Reason

VERSION = b"1"
_WINDOW, _MEMORY = -13, 5
"""Enough for a decision and its phrases.  The usual size would clear 256 KiB of memory to write 100 bytes,
which costs five times as much as the work."""


class UnreadableRecord(Exception):
    """Written by a newer release, or damaged."""


def pack(decision: Decision) -> bytes:
    text = encode(_row(decision))
    squeeze = _BEGUN.copy()
    return VERSION + squeeze.compress(text) + squeeze.flush()


def unpack(record: bytes) -> Decision:
    """Raises ``UnreadableRecord``."""
    read = _READERS.get(record[:1])
    if read is None:
        raise UnreadableRecord(f"a decision of version {record[:1]!r}; this release reads {VERSION!r}")
    try:
        return read(record[1:])
    except (zlib.error, ValueError, TypeError, KeyError) as error:
        raise UnreadableRecord(f"a damaged decision: {error}") from error


def _row(decision: Decision) -> list[Any]:
    return [
        decision.outcome.value,
        decision.chosen,
        decision.summary,
        int(decision.binding),
        decision.policy,
        decision.policy_digest,
        decision.decided_at,
        decision.attempt,
        decision.warnings,
        dict(decision.options),
        [_verdict_row(verdict) for verdict in decision.verdicts],
    ]


def _verdict_row(verdict: Verdict) -> list[Any]:
    return [
        verdict.backend,
        verdict.type,
        verdict.snapshot_age_s,
        verdict.score,
        [
            [refusal.code.value, refusal.message, *([] if refusal.field is None else [refusal.field])]
            for refusal in verdict.refusals
        ],
        [[part.rule, part.points, part.message] for part in verdict.parts],
    ]


def _read_version_1(packed: bytes) -> Decision:
    text = zlib.decompressobj(wbits=-15, zdict=_PHRASES).decompress(packed)
    outcome, chosen, summary, binding, policy, digest, at, attempt, warnings, options, verdicts = json.loads(
        text
    )
    return Decision(
        outcome=Outcome(outcome),
        chosen=chosen,
        summary=summary,
        verdicts=tuple(_verdict(*row) for row in verdicts),
        binding=bool(binding),
        policy=policy,
        policy_digest=digest,
        decided_at=at,
        attempt=attempt,
        warnings=tuple(warnings),
        options=options,
    )


def _verdict(
    backend: str, kind: str, age_s: float | None, score: float, refusals: list[Any], parts: list[Any]
) -> Verdict:
    return Verdict(
        backend=backend,
        type=kind,
        snapshot_age_s=age_s,
        score=score,
        refusals=tuple(Refusal(Reason(code), *rest) for code, *rest in refusals),
        parts=tuple(ScorePart(rule=rule, points=points, message=message) for rule, points, message in parts),
    )


_READERS: Mapping[bytes, Callable[[bytes], Decision]] = {b"1": _read_version_1}

# Nearer is cheaper, so the most frequent phrases stand last.  Line ends are not part of it.
_PHRASES = (
    b"""
["Rejected","["InvalidSpec","["QuotaExceeded","No backend is configured.
"nothing_fits",null,"No backend can ever run this job.
"nothing_reachable",null,"No backend takes this job now; it waits. No backend is called
 has to offer was last seen  min ago rule ' has no value for : Key not found in map is not known
a service needs an image, and there is no container runtime
 live jobs of this broker;  are allowed is paused: nothing is submitted to it until an operator resumes it
is drained: it takes no new jobs until an operator resumes it does not answer: connection refused timed out
has not told yet what it has the largest node has  cores asks for  MiB  GiB of memory a node;
nodes are large enough; the time limit is longer than the limit of the partition
"/placement/backends"]"/resources/gpus_per_node"]"/resources/memory_per_node"]"/resources/nodes"]"/time_limit"]
"/resources/gpu_type"]"/resources/cpus_per_task"]"/resources/fabric"]"/image"]"/service"]"/array"]"/volumes"]
; level with , and first by name more lost. has no GPUs of type h100 a100 cannot honour
training"batch"inference"local",0.0,["NotAllowed","the job allows only ["Drained","["BackendDown","
["Unsupported","["Policy","["NeverFits","asks for 8 GPUs a node; the largest node has 4"
 wins with 170 points: training jobs belong on Slurm; a cluster comes before the broker's own machine;
has room for  such jobs now. has 50 points;  lost: asks for "placed","default","
","slurm",0.0,[],[["training-and-batch-belong-on-slurm",100.0,"training jobs belong on Slurm"],
["batch jobs belong on Slurm"],["services-belong-on-kubernetes",100.0,"services belong on Kubernetes"],
["clusters-before-this-machine",50.0,"a cluster comes before the broker's own machine"],
["free-now",20.0,"has room for  such jobs now"],["short-queue",-10.0," jobs are ahead"]]],["
","kubernetes",0.0,[["Unsupported","
"""
).replace(b"\n", b"")
_BEGUN = zlib.compressobj(3, wbits=_WINDOW, memLevel=_MEMORY, zdict=_PHRASES)
"""Has read the phrases; each decision goes on with a copy.  A higher level saves two bytes of 170."""
