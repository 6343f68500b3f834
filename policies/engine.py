"""The placement: ``decide`` is a pure function of the specification, the facts and the policy.

Every configured backend gets one verdict.  It loses, in this order of precedence, because the job does not
allow it, because it cannot hold the job (its adapter says so), because a rule speaks against it, or because
it takes nothing now.  A refusal is a proof when waiting cannot change it: only if each backend has one does
nothing fit.  Of the others the one with the most points wins; ties are broken by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from api_spec.decisions import Decision, Outcome, Refusal, ScorePart, Verdict
from api_spec.jobs import JobSpec
from api_spec.reasons import Reason
from policies.facts import BackendFacts, Facts
from policies.look import Look
from policies.policy import Policy
from policies.preferences import POINTS_DIGITS
from policies.rules import Deny, Require
from policies.sentences import Sentence
from policies.summaries import some_of, summary_of
from policies.variables import JobValues, Values, own_options

R = Reason

# fmt: off
PRECEDENCE: tuple[R, ...] = (   # of several refusals of one backend the first is the one to tell
    R.NOT_ALLOWED, R.INVALID_SPEC, R.UNSUPPORTED, R.NEVER_FITS, R.REJECTED, R.POLICY,
    R.QUOTA_EXCEEDED, R.DRAINED, R.BACKEND_DOWN,
)
PROOFS = frozenset({R.NOT_ALLOWED, R.INVALID_SPEC, R.UNSUPPORTED, R.NEVER_FITS, R.REJECTED, R.POLICY})
# fmt: on


def decide(
    spec: JobSpec, facts: Facts, policy: Policy, *, binding: bool, attempt: int | None = None
) -> Decision:
    """The same arguments give the same decision, to the last character."""
    job, trace = JobValues(spec, facts), _Trace()
    looks = [_Look(Values(job, backend), trace.of(backend.name), backend) for backend in facts.backends]
    judged = sorted((_judge(look, spec, policy) for look in looks), key=_rank)
    winner = judged[0] if judged and judged[0].verdict.eligible else None
    verdicts = tuple(one.verdict for one in judged)
    outcome = _outcome(judged)
    return Decision(
        outcome=outcome,
        chosen=winner.verdict.backend if winner else None,
        summary=summary_of(outcome, verdicts, spec),
        verdicts=verdicts,
        binding=binding,
        policy=policy.name,
        policy_digest=policy.digest,
        decided_at=facts.now,
        attempt=attempt,
        options=_options(winner.look, policy) if winner else {},
        warnings=(*(_warnings(winner.look, policy) if winner else ()), *trace.sentences()),
    )


def with_options(spec: JobSpec, decision: Decision) -> JobSpec:
    """The spec as the chosen backend gets it: options of ``set`` rules added where the user said nothing."""
    chosen = next((one for one in decision.verdicts if one.backend == decision.chosen), None)
    if chosen is None or not decision.options:
        return spec
    mine = {**decision.options, **own_options(spec, chosen.type, chosen.backend)}
    options = {**spec.placement.options, chosen.backend: mine}
    return replace(spec, placement=replace(spec.placement, options=options))


def why_waiting(decision: Decision) -> Refusal | None:
    """The one refusal to tell for a job that no backend takes now; None if one does.

    What may pass comes from a backend that may yet take the job, so backends with a proof are left out.
    """
    if decision.outcome is Outcome.PLACED:
        return None
    tops = [verdict.refusals[0] for verdict in decision.verdicts if verdict.refusals]
    passing = [refusal for refusal in tops if refusal.code not in PROOFS]
    return min(passing or tops, key=lambda refusal: _precedence(refusal.code), default=None)


# ---- one backend -------------------------------------------------------------------------------------


class _Trace:
    """What had no value when it was evaluated, once for all backends that it concerns."""

    def __init__(self) -> None:
        self._failures: dict[tuple[str, str], list[str]] = {}

    def of(self, backend: str) -> Callable[[str, str], None]:
        return lambda rule, message: self._failures.setdefault((rule, message), []).append(backend)

    def sentences(self) -> Iterator[str]:
        for (rule, message), backends in self._failures.items():
            yield f"rule '{rule}' has no value for {some_of(sorted(backends))}: {message}"


@dataclass
class _Look(Look):
    """One backend, with the values that rules see of it."""

    facts: BackendFacts
    values: Values


@dataclass
class _Judged:
    look: _Look
    verdict: Verdict
    proof: bool  # waiting cannot change that it loses


def _judge(look: _Look, spec: JobSpec, policy: Policy) -> _Judged:
    backend = look.facts
    not_allowed = _not_allowed(backend, spec)
    if not_allowed:
        return _Judged(look, _verdict(backend, (not_allowed,)), proof=True)
    by_rules = list(_refused_by_rules(look, policy))
    refusals = [*backend.refusals, *(refusal for refusal, _ in by_rules), *_takes_nothing_now(backend)]
    proof = any(refusal.code in PROOFS for refusal in backend.refusals) or any(proof for _, proof in by_rules)
    parts = () if refusals else _points(look, policy)
    refusals.sort(key=lambda refusal: _precedence(refusal.code))
    return _Judged(look, _verdict(backend, refusals, parts), proof)


def _verdict(
    backend: BackendFacts, refusals: Iterable[Refusal], parts: tuple[ScorePart, ...] = ()
) -> Verdict:
    return Verdict(
        backend=backend.name,
        type=backend.type,
        refusals=tuple(refusals),
        score=round(sum((part.points for part in parts), 0.0), POINTS_DIGITS),
        parts=parts,
        snapshot_age_s=backend.snapshot_age_s,
    )


def _not_allowed(backend: BackendFacts, spec: JobSpec) -> Refusal | None:
    allowed = spec.placement.backends
    if not allowed or backend.name in allowed:
        return None
    return Refusal(R.NOT_ALLOWED, f"the job allows only {', '.join(allowed)}", "/placement/backends")


def _refused_by_rules(look: _Look, policy: Policy) -> Iterator[tuple[Refusal, bool]]:
    """Each with whether it is a proof: neither the moment nor a missing inventory had a part in it."""
    for rule in policy.hard:
        if look.matches(rule) and _speaks_against(look, rule):
            unseen = look.facts.shapes is None and rule.rests_on_the_inventory
            proof = not rule.rests_on_the_moment and not unseen
            yield Refusal(R.POLICY, rule.sentence.render(look.values)), proof


def _speaks_against(look: _Look, rule: Deny | Require) -> bool:
    """A required condition that has no value does not hold."""
    return isinstance(rule, Deny) or look.value_of(rule.condition, rule) is not True


def _takes_nothing_now(backend: BackendFacts) -> Iterator[Refusal]:
    if backend.max_live_jobs is not None and backend.live_jobs >= backend.max_live_jobs:
        limit = f"has {backend.live_jobs} live jobs of this broker; {backend.max_live_jobs} are allowed"
        yield Refusal(R.QUOTA_EXCEEDED, limit)
    if backend.drained:
        yield Refusal(R.DRAINED, "is drained: it takes no new jobs until an operator resumes it")
    elif backend.paused:
        yield Refusal(R.DRAINED, "is paused: nothing is submitted to it until an operator resumes it")
    if backend.reachable is False:
        yield Refusal(R.BACKEND_DOWN, f"does not answer{_why(backend.message)}")
    elif backend.reachable is None or backend.shapes is None:
        yield Refusal(R.BACKEND_DOWN, "has not told yet what it has")


def _why(message: str | None) -> str:
    return f": {message}" if message else ""


def _points(look: _Look, policy: Policy) -> tuple[ScorePart, ...]:
    said = policy.preferences.of(look.values)
    for rule, why in said.unknown:
        look.note(rule, why)
    return said.parts


# ---- all of them -------------------------------------------------------------------------------------


def _rank(judged: _Judged) -> tuple[bool, float, str]:
    verdict = judged.verdict
    return not verdict.eligible, -verdict.score, verdict.backend


def _precedence(code: R) -> int:
    return PRECEDENCE.index(code) if code in PRECEDENCE else len(PRECEDENCE)


def _outcome(judged: Sequence[_Judged]) -> Outcome:
    if any(one.verdict.eligible for one in judged):
        return Outcome.PLACED
    if all(one.proof for one in judged):
        return Outcome.NOTHING_FITS
    return Outcome.NOTHING_REACHABLE


def _options(look: _Look, policy: Policy) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for rule in policy.settings:
        if look.matches(rule):
            merged |= {name: _rendered(value, look.values) for name, value in rule.options.items()}
    return merged


def _rendered(value: Any, values: Values) -> Any:
    return value.render(values) if isinstance(value, Sentence) else value


def _warnings(look: _Look, policy: Policy) -> Iterator[str]:
    return (rule.sentence.render(look.values) for rule in policy.warnings if look.matches(rule))
