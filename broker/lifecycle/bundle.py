"""The jobs of one submission as they speak of each other: names, dependencies, inputs from outputs.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from api_spec.errors import Fault, InvalidSpec, summary_of
from api_spec.jobs import Dependency, Input, JobSpec, OutputOf, When

Place = Callable[[int], str]
"""Where a job of the submission stands in the body, as a JSON pointer."""


def resolve_names(specs: Sequence[JobSpec], ids: Sequence[str], place: Place) -> list[JobSpec]:
    """Names of jobs in the same submission become ids; an input from a job is a dependency on its success."""
    by_name: dict[str, str] = {}
    faults = []
    for i, (spec, job_id) in enumerate(zip(specs, ids, strict=True)):
        if spec.name in by_name and len(specs) > 1:
            faults.append(Fault(f"{place(i)}/name", f"two jobs of this submission are named {spec.name}"))
        by_name[spec.name] = job_id
    resolved = [_resolve_one(place(i), spec, by_name, faults) for i, spec in enumerate(specs)]
    if not faults:
        faults += _cycles(resolved, ids, place)
    if faults:
        raise InvalidSpec(summary_of(faults), faults=faults)
    return resolved


def resolve_update(spec: JobSpec, predecessors: Mapping[str, str]) -> JobSpec:
    """Of a job that exists: names of what it waits for already become ids."""
    faults: list[Fault] = []
    resolved = _resolve_one("/spec", spec, predecessors, faults)
    if faults:
        raise InvalidSpec(summary_of(faults), faults=faults)
    return resolved


def _resolve_one(at: str, spec: JobSpec, by_name: Mapping[str, str], faults: list[Fault]) -> JobSpec:
    if not spec.depends_on and not spec.inputs:
        return spec
    edges: dict[tuple[str, When], Dependency] = {}
    for n, dependency in enumerate(spec.depends_on):
        job_id = dependency.job or by_name.get(dependency.name or "")
        if job_id is None:
            message = (
                f"no job of this submission is named {dependency.name}; for another one give its id as job"
            )
            faults.append(Fault(f"{at}/depends_on/{n}/name", message))
            continue
        edges[job_id, dependency.when] = Dependency(job=job_id, when=dependency.when)
    inputs = []
    for item in spec.inputs:
        source = item.from_output
        if source is not None:
            job_id = by_name.get(source.job, source.job)
            item = Input(name=item.name, from_output=OutputOf(job=job_id, output=source.output))
            edges.setdefault((job_id, When.SUCCEEDED), Dependency(job=job_id, when=When.SUCCEEDED))
        inputs.append(item)
    return replace(spec, depends_on=tuple(edges.values()), inputs=tuple(inputs))


def mentions(specs: Sequence[JobSpec], job_id: str, place: Place) -> str:
    """Where the submission speaks of a job first, as a JSON pointer."""
    for i, spec in enumerate(specs):
        for n, item in enumerate(spec.inputs):
            if item.from_output is not None and item.from_output.job == job_id:
                return f"{place(i)}/inputs/{n}/from/job"
        for n, dependency in enumerate(spec.depends_on):
            if dependency.job == job_id:
                return f"{place(i)}/depends_on/{n}/job"
    return ""


def _cycles(specs: Sequence[JobSpec], ids: Sequence[str], place: Place) -> list[Fault]:
    if not any(spec.depends_on for spec in specs):
        return []
    before = {
        job_id: {d.job for d in spec.depends_on if d.job in ids}
        for job_id, spec in zip(ids, specs, strict=True)
    }
    while free := [job_id for job_id, edges in before.items() if not edges]:
        for job_id in free:
            del before[job_id]
        for edges in before.values():
            edges.difference_update(free)
    return [
        Fault(f"{place(ids.index(job_id))}/depends_on", "these jobs wait for each other in a circle")
        for job_id in before
    ]


def refuse_missing_outputs(
    specs: Sequence[JobSpec], ids: Sequence[str], place: Place, known: Callable[[str], JobSpec | None]
) -> None:
    """An input from a job that promises no such output would fail hours later.  ``known``: the spec of an
    earlier job."""
    ours = dict(zip(ids, specs, strict=True))
    faults = []
    for i, spec in enumerate(specs):
        for n, item in enumerate(spec.inputs):
            if item.from_output is None:
                continue
            source = ours.get(item.from_output.job) or known(item.from_output.job)
            names = [output.name for output in source.outputs] if source else []
            if source is not None and item.from_output.output not in names:
                message = f"{source.name} has no output {item.from_output.output}; it has {names or 'none'}"
                faults.append(Fault(f"{place(i)}/inputs/{n}/from", message))
    if faults:
        raise InvalidSpec(summary_of(faults), faults=faults)
