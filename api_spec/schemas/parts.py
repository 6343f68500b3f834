"""The parts of a specification, each a schema that builds its dataclass; ``job`` puts them together.

They check form: type, range, pattern, and rules between fields of one part.  What a backend can do is the
policy's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from marshmallow import post_load
from marshmallow.validate import OneOf, Regexp

from api_spec import jobs
from api_spec.ids import is_id
from api_spec.presets import PRESETS
from api_spec.quantities import MAX_TASKS
from api_spec.reasons import RETRYABLE
from api_spec.schemas.fields import (
    REQUIRED,
    Choice,
    Duration,
    Indices,
    Memory,
    Number,
    Options,
    Part,
    Scalar,
    Sequence,
    Table,
    Text,
    Truth,
    Whole,
    about,
)
from api_spec.schemas.secrecy import has_a_password, looks_like_a_secret
from api_spec.schemas.strict import Broken, Ruled, Strict

_MADE_OF = "must be made of {}, '-', '.' and '_', and begin with a letter or digit"
NAME = Regexp(r"^[a-z0-9]([-a-z0-9._]*)?$", error=_MADE_OF.format("a-z, 0-9"))
WORD = Regexp(r"^[A-Za-z0-9][-A-Za-z0-9._]*$", error=_MADE_OF.format("letters, digits"))
VARIABLE = Regexp(
    r"^[A-Za-z_][A-Za-z0-9_]*$", error="must be made of letters, digits and '_', and not begin with a digit"
)
ABSOLUTE = Regexp(r"^/", error="must be an absolute path, such as /scratch/vision")
METRIC = Regexp(
    r"^[A-Za-z0-9_][-A-Za-z0-9._:]*$",
    error="must be made of letters, digits, '-', '.', '_' and ':', and begin with a letter, digit or '_'",
)
ADDRESS = Regexp(
    r"^([a-z][a-z0-9+.-]*:|/)", error="must be a URI such as s3://bucket/key, or an absolute path"
)
MIG = Regexp(r"^([0-9]+c\.)?[0-9]+g\.[0-9]+gb(\+[a-z0-9.]+)*$", error="must be a MIG profile such as 1g.10gb")

AS_IT_IS = "must not carry a password, since everybody in the project can read it; see secrets"
Name = partial(Text, 63, pattern=NAME)
Path = partial(Text, 4096, pattern=ABSOLUTE)


def repeated(items: Any, key: Any) -> Iterator[str]:
    """Keys that come more than once."""
    seen = set()
    for item in items:
        if key(item) in seen:
            yield key(item)
        seen.add(key(item))


class ResourcesSchema(Ruled):
    builds = jobs.Resources
    remembers = True

    nodes = Whole(1, 100_000, load_default=1)
    tasks_per_node = Whole(1, 4096, load_default=1)
    cpus_per_task = Whole(1, 4096, load_default=1)
    memory_per_node_mib = Memory(
        data_key="memory_per_node",
        load_default=None,
        metadata=about("With a unit; GB is 10^9 bytes, GiB 2^30. Rounded up to MiB.", example="200GiB"),
    )
    gpus_per_node = Whole(0, 1024, load_default=0)
    gpu_type = Text(63, pattern=WORD, load_default=None, metadata=about("null: any.", example="h100"))
    mig_profile = Text(
        63, pattern=MIG, load_default=None, metadata=about("A slice of a GPU.", example="1g.10gb")
    )
    fabric = Choice(jobs.Fabric, load_default=jobs.Fabric.NONE)

    def rules(self, given: dict[str, Any], loaded: dict[str, Any]) -> Broken:
        if given.get("gpus_per_node", 0) != 0:
            return
        for name in ("gpu_type", "mig_profile"):
            if loaded.get(name):
                yield name, "asks for a kind of GPU, but gpus_per_node is 0"
        if loaded.get("fabric") is jobs.Fabric.GPUDIRECT:
            yield "fabric", "gpudirect needs GPUs, but gpus_per_node is 0"


class ArraySchema(Ruled):
    builds = jobs.Array

    indices = Indices(
        load_default=None,
        metadata=about(f"Ranges with steps; at most {MAX_TASKS} tasks.", example="0-99:2,7"),
    )
    parameters = Sequence(
        Table(Text(63, pattern=VARIABLE), Scalar(), 100),
        MAX_TASKS,
        least=1,
        metadata=about("One task for each set; indices count from 0."),
    )
    max_running = Whole(1, MAX_TASKS, load_default=None)

    def rules(self, given: dict[str, Any], loaded: dict[str, Any]) -> Broken:
        if (given.get("indices") is None) == ("parameters" not in given):
            yield "_schema", "needs either indices or parameters"
        for index, parameters in enumerate(loaded.get("parameters", ())):
            variables: set[str] = set()
            for name, value in parameters.items():
                if name.upper() in variables:
                    hint = f"is BROKER_PARAM_{name.upper()} to the task, as another parameter of this set is"
                    yield "parameters", {index: {name: [hint]}}
                variables.add(name.upper())
                if isinstance(value, str) and looks_like_a_secret(name, value):
                    hint = "looks like a secret, and all tasks have the same: put it into secrets"
                    yield "parameters", {index: {name: [hint]}}


class DependencySchema(Ruled):
    builds = jobs.Dependency

    job = Text(26, load_default=None, metadata=about("The id of a job."))
    name = Name(load_default=None, metadata=about("The name of a job of the same submission."))
    when = Choice(jobs.When, load_default=jobs.When.SUCCEEDED)

    def rules(self, given: dict[str, Any], loaded: dict[str, Any]) -> Broken:
        if (given.get("job") is None) == (given.get("name") is None):
            yield "_schema", "needs either job (an id) or name (of a job in the same submission)"
        if loaded.get("job") and not is_id(loaded["job"]):
            yield "job", "is not a job id (26 characters); a job of the same submission goes by name"


class RetrySchema(Ruled):
    builds = jobs.Retry
    remembers = True

    max_attempts = Whole(1, 100, load_default=1)
    on = Sequence(
        Text(63, pattern=OneOf(sorted(RETRYABLE), error="cannot be retried; choose of: {choices}")),
        len(RETRYABLE),
        load_default=(),
        metadata=about("The reasons after which another attempt is made."),
    )

    def rules(self, given: dict[str, Any], loaded: dict[str, Any]) -> Broken:
        more_than_one = loaded.get("max_attempts", 1) > 1
        if more_than_one and not given.get("on"):
            yield (
                "on",
                "is empty, so that nothing would be retried; name reasons, such as NodeLost, Preempted",
            )
        if loaded.get("on") and given.get("max_attempts", 1) == 1:
            yield "max_attempts", "is 1, so that nothing would be retried; make it 2 or more"
        for reason in repeated(loaded.get("on", ()), str):
            yield "on", f"names {reason} twice"


class SecretRefSchema(Strict):
    builds = jobs.SecretRef

    name = Text(253, pattern=WORD, required=True, metadata=about("The secret in the backend's own store."))
    key = Text(253, pattern=WORD, required=True)


class VolumeSchema(Strict):
    builds = jobs.Volume
    remembers = True

    source = Text(
        1024, required=True, metadata=about("A claim or a path of the backend.", example="pvc:datasets")
    )
    mount_path = Path(required=True)
    read_only = Truth(load_default=False)


class OutputOfSchema(Strict):
    builds = jobs.OutputOf

    job = Text(63, pattern=WORD, required=True, metadata=about("An id, or a name in the same submission."))
    output = Text(63, pattern=WORD, required=True)


class InputSchema(Ruled):
    builds = jobs.Input

    name = Text(63, pattern=WORD, required=True)
    uri = Text(2048, pattern=ADDRESS, load_default=None)
    from_output = Part(OutputOfSchema, data_key="from", load_default=None)

    def rules(self, given: dict[str, Any], loaded: dict[str, Any]) -> Broken:
        if (given.get("uri") is None) == (given.get("from") is None):
            yield "_schema", "needs either uri or from (an output of another job)"
        if has_a_password(loaded.get("uri") or ""):
            yield "uri", AS_IT_IS


class OutputSchema(Ruled):
    builds = jobs.Output
    remembers = True

    name = Text(63, pattern=WORD, required=True)
    path = Text(4096, required=True, metadata=about("A relative one is below BROKER_OUTPUT_DIR."))

    def rules(self, given: dict[str, Any], loaded: dict[str, Any]) -> Broken:
        if ".." in loaded.get("path", "").split("/"):
            yield "path", 'must not contain ".."'


class ReplicasSchema(Ruled):
    min = Whole(0, 10_000, load_default=1, metadata=about("0 only with scale_on, which brings it back."))
    max = Whole(1, 10_000, metadata=about("As many as min when left out."))

    def rules(self, given: dict[str, Any], loaded: dict[str, Any]) -> Broken:
        if loaded.get("max", 10_000) < loaded.get("min", 1):
            yield "max", f"is below min, {loaded.get('min', 1)}"

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> jobs.Replicas:
        least = data.get("min", 1)
        return jobs.Replicas(min=least, max=data.get("max", max(least, 1)))


class ScaleOnSchema(Ruled):
    metric = Text(
        253,
        pattern=METRIC,
        required=True,
        metadata=about("cpu, memory, or what the backend knows by that name.", example="cpu"),
    )
    target = Number(required=True, metadata=about("Per replica; of cpu and memory in percent.", example=70))
    measured = Choice(jobs.Measured, load_default=jobs.Measured.REPLICAS)
    selector = Table(
        Text(63, pattern=VARIABLE),
        Text(253),
        8,
        metadata=about("Of an external metric: labels of its series.", example={"queue": "chat"}),
    )

    def rules(self, given: dict[str, Any], loaded: dict[str, Any]) -> Broken:
        if not 0 < loaded.get("target", 1) <= 1e12:
            yield "target", "must be above 0 and at most 10^12"
        external = loaded.get("measured") is jobs.Measured.EXTERNAL
        if external and loaded.get("metric") in ("cpu", "memory"):
            yield "measured", f"is external, and {loaded['metric']} is measured at the replicas"
        if loaded.get("selector") and not external:
            yield "selector", "goes with an external metric (measured: external)"

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> jobs.ScaleOn:
        return jobs.ScaleOn(**{**data, "selector": tuple(sorted(data.get("selector", {}).items()))})


class HealthSchema(Strict):
    """Stays a dict: what it leaves out is the preset's to say, or the dataclass'."""

    path = Path(metadata=about("Answers once it can be called: start-up and readiness; or /health."))
    live_path = Path(metadata=about("Answers while it need not be started again; or path."))


class MetricsSchema(Strict):
    builds = jobs.Metrics

    port = Whole(1, 65535, required=True)
    path = Path(load_default="/metrics")


class ModelSchema(Ruled):
    builds = jobs.Model

    uri = Text(2048, pattern=ADDRESS, required=True, metadata=about("", example="models:/resnet@champion"))

    def rules(self, given: dict[str, Any], loaded: dict[str, Any]) -> Broken:
        if has_a_password(loaded.get("uri", "")):
            yield "uri", AS_IT_IS


class ServiceSchema(Ruled):
    remembers = True

    preset = Choice(
        jobs.Preset,
        load_default=None,
        metadata=about("Fills port, health and metrics, each where it is left out."),
    )
    port = Whole(1, 65535, metadata=about("Required without a preset."))
    replicas = Part(ReplicasSchema)
    scale_on = Part(ScaleOnSchema, load_default=None)
    health = Part(HealthSchema)
    metrics = Part(MetricsSchema)
    model = Part(ModelSchema, load_default=None)

    def rules(self, given: dict[str, Any], loaded: dict[str, Any]) -> Broken:
        if given.get("port") is None and given.get("preset") is None:
            yield "port", REQUIRED
        replicas = loaded.get("replicas")
        if replicas is not None and replicas.min == 0 and given.get("scale_on") is None:
            yield "replicas", {"min": ["is 0, which needs scale_on: nothing else would start a replica"]}

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> jobs.Service:
        preset = data.get("preset")
        filled = dict(vars(PRESETS[preset])) if preset is not None else {"health": jobs.Health()}
        health = replace(filled.pop("health"), **data.pop("health", {}))
        return jobs.Service(**{**filled, **data, "health": health})


class PlacementSchema(Ruled):
    builds = jobs.Placement

    backends = Sequence(Name(), 100, load_default=(), metadata=about("The only ones allowed; empty: any."))
    slurm = Options(metadata=about("In Slurm's own words: partition, account, qos ..."))
    kubernetes = Options(metadata=about("In Kubernetes' own words: namespace, queue ..."))
    local = Options()
    options = Table(Name(), Options(), 100, metadata=about("By the name of a backend."))

    def rules(self, given: dict[str, Any], loaded: dict[str, Any]) -> Broken:
        for name in repeated(loaded.get("backends", ()), str):
            yield "backends", f"names {name} twice"
        allowed = loaded.get("backends")
        for name in loaded.get("options", ()):
            if allowed and name not in allowed:
                yield "options", f"has options for {name}, which backends does not allow"


TimeLimit = partial(
    Duration, data_key="time_limit", metadata=about("With units, or as sbatch and ISO 8601.", example="1h30m")
)
