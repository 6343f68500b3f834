"""The strict door for specifications: one schema for each kind, and ``load_spec``.

``oneof`` joins the three into one with a discriminator, for the OpenAPI document; here the kind is looked up
first, so that a client can read specs without the library for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from marshmallow import ValidationError, fields, post_load
from marshmallow.validate import Equal, Regexp

from api_spec import jobs
from api_spec.errors import Fault, InvalidSpec, summary_of
from api_spec.schemas import hints
from api_spec.schemas.fields import REQUIRED, Choice, Part, Sequence, Table, Text, Truth, Words, about
from api_spec.schemas.parts import (
    VARIABLE,
    ArraySchema,
    DependencySchema,
    InputSchema,
    Name,
    OutputSchema,
    Path,
    PlacementSchema,
    ResourcesSchema,
    RetrySchema,
    SecretRefSchema,
    ServiceSchema,
    TimeLimit,
    VolumeSchema,
    repeated,
)
from api_spec.schemas.secrecy import looks_like_a_secret
from api_spec.schemas.strict import Broken, Ruled

FAULTS_AT_MOST = 100  # nobody reads more, and the answer stays small
LONGEST_NAME_SHOWN = 300  # of a member in a pointer; more than any that is allowed
LONGEST_ARGUMENT = 128 * 1024 - 1  # MAX_ARG_STRLEN of Linux, with the closing NUL
LONGEST_SCRIPT = 512 * 1024

_MADE_OF = "must be made of letters, digits, {}, with a letter or digit at both ends"
LABEL_KEY = Regexp(
    r"^[A-Za-z0-9]([-A-Za-z0-9._/]*[A-Za-z0-9])?$", error=_MADE_OF.format("'-', '.', '_' and '/'")
)
LABEL_VALUE = Regexp(
    r"^([A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?)?$", error=_MADE_OF.format("'-', '.' and '_'")
)


class CommonSpecSchema(Ruled):
    """What all kinds share."""

    name = Name(required=True)
    project = Name(load_default=None, metadata=about("null: the project of the token."))
    image = Text(1024, load_default=None, metadata=about("A container image."))
    command = Words(
        Text(LONGEST_ARGUMENT, shortest=0, lines=True),
        4096,
        least=1,
        starts_a_program=True,
        metadata=about("Program and arguments; no shell sees it."),
    )
    script = Text(LONGEST_SCRIPT, lines=True, load_default=None, metadata=about("A whole batch script."))
    arguments = Words(Text(LONGEST_ARGUMENT, shortest=0, lines=True), 4096)
    environment = Table(Text(255, pattern=VARIABLE), Text(LONGEST_ARGUMENT, shortest=0, lines=True), 1000)
    secrets = Table(
        Text(255, pattern=VARIABLE),
        Part(SecretRefSchema),
        100,
        metadata=about("Environment names, by reference."),
    )
    working_directory = Path(load_default=None)
    resources = Part(ResourcesSchema)
    time_limit_s = TimeLimit(load_default=None)
    priority = Choice(jobs.Priority, load_default=jobs.Priority.NORMAL)
    preemptible = Truth(load_default=False)
    depends_on = Sequence(Part(DependencySchema), 1000)
    retry = Part(RetrySchema)
    volumes = Sequence(Part(VolumeSchema), 100)
    inputs = Sequence(Part(InputSchema), 100)
    outputs = Sequence(Part(OutputSchema), 100)
    labels = Table(Text(63, pattern=LABEL_KEY), Text(63, shortest=0, pattern=LABEL_VALUE), 8)
    placement = Part(PlacementSchema)
    hold = Truth(load_default=False)

    def rules(self, given: dict[str, Any], loaded: dict[str, Any]) -> Broken:
        yield from _rules_of_the_program(given, loaded)
        yield from _rules_of_the_environment(given, loaded)
        yield from _rules_of_lists(loaded)

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> jobs.JobSpec:
        data["kind"] = jobs.Kind(data["kind"])
        return jobs.JobSpec(**data)


class TrainingSpecSchema(CommonSpecSchema):
    kind = fields.String(required=True, validate=Equal("training"))
    array = Part(ArraySchema, load_default=None)


class BatchSpecSchema(CommonSpecSchema):
    kind = fields.String(required=True, validate=Equal("batch"))
    array = Part(ArraySchema, load_default=None)


class InferenceSpecSchema(CommonSpecSchema):
    kind = fields.String(required=True, validate=Equal("inference"))
    service = Part(ServiceSchema, required=True)


class AnyKindSchema(CommonSpecSchema):
    """For a spec whose kind cannot be read: so that its other faults are told as well."""

    kind = fields.Raw()
    array = Part(ArraySchema, load_default=None)
    service = Part(ServiceSchema)

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> None:
        """There is nothing to build."""


def _rules_of_the_program(given: dict[str, Any], loaded: dict[str, Any]) -> Broken:
    has = {name for name in ("command", "script", "image") if given.get(name) is not None}
    if {"command", "script"} <= has:
        yield "script", "stands beside command; leave one of them out"
    if not has:
        yield "command", "is required, unless there is a script, or an image that knows what to run"
    script = loaded.get("script")
    if script and not script.startswith("#!"):
        yield "script", "must begin with the program that reads it, such as #!/bin/bash"
    if script and "\r\n" in script:
        yield "script", "has Windows line ends (CR LF); save it with LF"
    if loaded.get("command", ())[:1] == ("",):
        yield "command", "begins with an empty string; the first item is the program"


def _rules_of_the_environment(given: dict[str, Any], loaded: dict[str, Any]) -> Broken:
    environment, secrets = loaded.get("environment", {}), loaded.get("secrets", {})
    for name, value in environment.items():
        if looks_like_a_secret(name, value):
            hint = f'secrets: {{{name}: {{name: "...", key: "..."}}}}'
            yield "environment", {name: [f"looks like a secret; refer to it instead: {hint}"]}
    for name in (*environment, *secrets):
        if name.startswith("BROKER_"):
            yield (
                ("environment" if name in environment else "secrets"),
                {name: ["BROKER_ names are the broker's own"]},
            )
    for name in environment.keys() & secrets.keys():
        yield "secrets", {name: ["is in environment as well"]}


def _rules_of_lists(loaded: dict[str, Any]) -> Broken:
    for name, what, key in _UNIQUE:
        for twice in repeated(loaded.get(name, ()), key):
            yield name, f"holds {what} {twice} twice"


def _variable(item: jobs.Input) -> str:
    """Inputs reach the job as BROKER_INPUT_<NAME>, where a-b and A_B are the same."""
    return re.sub("[-.]", "_", item.name).upper()


_UNIQUE = (
    ("depends_on", "the job", lambda dependency: dependency.job or dependency.name),
    ("volumes", "the mount path", lambda volume: volume.mount_path),
    ("inputs", "the name", _variable),
    ("outputs", "the name", lambda output: output.name),
)

BY_KIND: Mapping[str, type[CommonSpecSchema]] = {
    "training": TrainingSpecSchema,
    "batch": BatchSpecSchema,
    "inference": InferenceSpecSchema,
}
_READY = {kind: schema() for kind, schema in BY_KIND.items()}  # making one costs more than using it
_ANY = AnyKindSchema()


def load_spec(document: Any, pointer: str = "") -> jobs.JobSpec:
    """A checked spec.  Raises ``InvalidSpec`` with every fault, each at a JSON pointer below ``pointer``."""
    if not isinstance(document, dict):
        raise _invalid([Fault(pointer, "must be an object")])
    kind = document.get("kind")
    schema = _READY.get(kind) if isinstance(kind, str) else None
    faults = []
    if schema is None:
        missing = f"{REQUIRED}: training, batch or inference"
        faults = [Fault(f"{pointer}/kind", missing if kind is None else hints.of_an_unknown_kind(kind))]
    try:
        spec: jobs.JobSpec = (schema or _ANY).load(document)
    except ValidationError as error:
        raise _invalid([*faults, *_faults(error.messages, pointer)]) from None
    if faults:
        raise _invalid(faults)
    return spec


def _invalid(faults: list[Fault]) -> InvalidSpec:
    faults = sorted(faults, key=_rank)
    return InvalidSpec(summary_of(faults, "the specification"), faults=faults[:FAULTS_AT_MOST])


def _rank(fault: Fault) -> int:
    """A member that does not exist explains one that is missing, so it is told first."""
    if fault.message.startswith(hints.UNKNOWN):
        return 0
    return 2 if fault.message.startswith(REQUIRED) else 1


def _faults(messages: Any, pointer: str) -> Iterator[Fault]:
    """marshmallow nests its messages as the document is nested; ``_schema`` is the object itself."""
    if isinstance(messages, dict):
        for name, inner in messages.items():
            below = pointer if name == "_schema" else f"{pointer}/{_escaped(str(name))}"
            yield from _faults(inner, below)
    elif isinstance(messages, list):
        for message in messages:
            yield from _faults(message, pointer)
    else:
        yield Fault(pointer, str(messages))


def _escaped(name: str) -> str:
    shown = name if len(name) <= LONGEST_NAME_SHOWN else f"{name[:LONGEST_NAME_SHOWN]}..."
    return shown.replace("~", "~0").replace("/", "~1")
