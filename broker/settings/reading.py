"""Settings from a TOML file and from the environment, checked as a whole.

The file's path is given or in ``BROKER_CONFIG``; ``BROKER_<FIELD>`` goes before it, and
``BROKER_<FIELD>_FILE`` names a file with the value, for mounted secrets.  A process does not start with a
fault in either.  The only module that knows environs.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast, get_type_hints

from environs import Env, EnvValidationError
from marshmallow import Schema, fields, validate

from api_spec.errors import Fault, InvalidConfiguration
from broker.settings.knobs import BACKEND_NAME, CAPS, WORKER_NAME, ConfiguredBackend, Settings

PREFIX = "BROKER_"
OTHERS = {"BROKER_CONFIG", "BROKER_URL", "BROKER_TOKEN", "BROKER_CONTEXT", "BROKER_OWNER"}

FIELDS: dict[Any, Callable[..., fields.Field[Any]]] = {
    str: fields.String,
    int: partial(fields.Integer, strict=True),
    float: fields.Float,
    bool: partial(fields.Boolean, truthy={True}, falsy={False}),
    Path: fields.String,
    Path | None: fields.String,
    str | None: fields.String,
}
PARSERS = {int: "int", float: "float", bool: "bool", tuple[ConfiguredBackend, ...]: "json"}  # environs' names
TYPES = get_type_hints(Settings)
KNOBS = {knob.name: knob for knob in dataclasses.fields(Settings)}
REQUIRED = {name for name, knob in KNOBS.items() if knob.default is dataclasses.MISSING}


class TableSchema(Schema):
    """One backend, but for its caps and its log reader."""

    name = fields.String(required=True, validate=BACKEND_NAME)
    type = fields.String(required=True, validate=validate.Length(min=1))
    options = fields.Dict(keys=fields.String(), load_default=dict)


# Unknown keys are errors, marshmallow's own default.
BackendSchema = TableSchema.from_dict(
    {name: FIELDS[TYPES[name]](validate=KNOBS[name].metadata["check"]) for name in CAPS}
    | {"log_reader": fields.String(validate=WORKER_NAME)}
)
FIELDS[tuple[ConfiguredBackend, ...]] = partial(fields.List, fields.Nested(BackendSchema))
SettingsSchema = Schema.from_dict(
    {
        name: FIELDS[TYPES[name]](required=name in REQUIRED, validate=knob.metadata["check"])
        for name, knob in KNOBS.items()
    }
)


# ---- reading -----------------------------------------------------------------------------------------


def load_settings(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Raises ``InvalidConfiguration`` with every fault there is, not only the first."""
    if path is None and environ.get("BROKER_CONFIG"):
        path = Path(environ["BROKER_CONFIG"])
    given, faults = read_environment(environ)
    values = {**(read_file(path) if path else {}), **given}
    faults += schema_faults(values, known={fault.pointer for fault in faults})
    if not faults:
        settings = build(values, path.parent if path else Path())
        faults = contradictions(settings)
    if faults:
        refuse(faults, values)
    return settings


def refuse(faults: Sequence[Fault], values: Mapping[str, Any]) -> NoReturn:
    listed = "; ".join(f"{place(fault.pointer, values)}: {fault.message}" for fault in faults)
    raise InvalidConfiguration(f"the settings are not valid: {listed}", faults=faults)


def place(pointer: str, values: Mapping[str, Any]) -> str:
    """As people say it: a backend by its name, unless that is what is wrong."""
    match pointer.split("/")[1:]:
        case ["backends", index, key, *rest] if key != "name":
            table = values["backends"][int(index)]
            name = table.get("name") if isinstance(table, dict) else None
            return ".".join(["backends", name if isinstance(name, str) else index, key, *rest])
        case parts:
            return ".".join(parts) or "file"


def read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        message = f"the settings file {path} cannot be read: {error.strerror}"
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"the settings file {path} is not TOML: {error}"
    raise InvalidConfiguration(message, faults=[Fault("", message)])


class Variables(Env):
    """environs over a given mapping, where ``NAME_FILE`` names a file that holds the value of ``NAME``."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(eager=False, prefix=PREFIX)
        self.given = environ

    def _get_value(self, env_key: str, default: Any) -> Any:
        file = self.given.get(f"{env_key}_FILE")
        if file is None:
            return self.given.get(env_key, default)
        return Path(file).read_text().strip()


def read_environment(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[Fault]]:
    variables, given, faults = Variables(environ), {}, list(misspelt(environ))
    for name in KNOBS:
        key = f"{PREFIX}{name.upper()}"
        if key not in environ and f"{key}_FILE" not in environ:
            continue
        try:
            given[name] = getattr(variables, PARSERS.get(TYPES[name], "str"))(name.upper())
        except (OSError, UnicodeDecodeError) as error:
            faults.append(Fault(f"/{name}", f"the file of {key}_FILE cannot be read: {error}"))
    try:
        variables.seal()
    except EnvValidationError as error:
        for key, messages in cast(Mapping[str, list[str]], error.error_messages).items():
            name = key.removeprefix(PREFIX).lower()
            given.pop(name, None)
            faults.append(Fault(f"/{name}", f"{key}: {' '.join(messages)}"))
    return given, faults


def misspelt(environ: Mapping[str, str]) -> Iterator[Fault]:
    """A variable that nearly is a setting.  Others are left alone: jobs, the client and Kubernetes' service
    links set names with this prefix too."""
    for key, name in unknown(environ).items():
        if meant := nearest(name, KNOBS, 0.8):
            yield Fault(f"/{name}", f"{key} is not a setting; did you mean {PREFIX}{meant.upper()}?")


def not_read(environ: Mapping[str, str]) -> list[str]:
    """Variables with our prefix that are neither settings nor the command line's own."""
    return sorted(unknown(environ).keys() - OTHERS)


def unknown(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables with our prefix that are no settings, and of which setting they would be."""
    named = {
        key: key.removeprefix(PREFIX).removesuffix("_FILE").lower()
        for key in environ
        if key.startswith(PREFIX)
    }
    return {key: name for key, name in named.items() if name not in KNOBS}


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)), None)


# ---- what is wrong with it ---------------------------------------------------------------------------


def schema_faults(values: Mapping[str, Any], known: set[str]) -> list[Fault]:
    errors = SettingsSchema().validate(values)
    found = [Fault(pointer, hint(pointer, message)) for pointer, message in flatten(errors)]
    return [fault for fault in found if fault.pointer not in known]


def flatten(errors: Any, pointer: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(errors, dict):
        for key, inner in errors.items():
            yield from flatten(inner, f"{pointer}/{key}")
    else:
        yield from ((pointer, message) for message in errors)


def hint(pointer: str, message: str) -> str:
    *parents, key = pointer.removeprefix("/").split("/")
    if message == "Missing data for required field.":
        return "is required" if parents else f"is required; set it in the file or as {PREFIX}{key.upper()}"
    if message != "Unknown field.":
        return message
    if parents:
        known = ", ".join(BackendSchema().fields)
        return f"is not a key of a backend ({known}); the adapter's own belong under options"
    meant = nearest(key, KNOBS)
    return "is not a setting" + (f"; did you mean {meant}?" if meant else "")


def build(values: Mapping[str, Any], base: Path) -> Settings:
    """Relative paths count from the directory of the file, ``~`` from the user's home."""
    loaded: dict[str, Any] = SettingsSchema().load(values)
    for name in ("data_dir", "blob_dir", "policy_file"):
        path: Any = loaded.get(name) or KNOBS[name].default
        loaded[name] = path and (base / Path(path).expanduser()).absolute()
    instance = loaded.get("instance", KNOBS["instance"].default)
    loaded["backends"] = tuple(
        ConfiguredBackend(
            **backend, instance=instance, data_dir=str(loaded["data_dir"] / "backends" / backend["name"])
        )
        for backend in loaded.get("backends", ())
    )
    return Settings(**loaded)


def contradictions(settings: Settings) -> list[Fault]:
    """Faults that no single field shows."""
    names = [backend.name for backend in settings.backends]
    found = [
        Fault(f"/backends/{index}/name", f"there is already a backend named {name}")
        for index, name in enumerate(names)
        if name in names[:index]
    ]
    if settings.policy_file and not settings.policy_file.is_file():
        found.append(Fault("/policy_file", f"there is no file {settings.policy_file}"))
    if settings.max_bundle_bytes < settings.max_body_bytes:
        found.append(Fault("/max_bundle_bytes", "must not be less than max_body_bytes"))
    if not settings.sweep_s < settings.lease_s:
        found.append(
            Fault("/sweep_s", "must be less than lease_s, or the sweeper loses its lease at each turn")
        )
    return found + list(shared_local(settings))


def shared_local(settings: Settings) -> Iterator[Fault]:
    local = [backend.name for backend in settings.backends if backend.type == "local"]
    if local and not settings.listens_on_loopback and not settings.allow_shared_local:
        yield Fault(
            "/listen_host",
            f"the API would listen on {settings.listen_host}, beyond this machine, and the local backend "
            f"{local[0]} isolates nobody from nobody; allow_shared_local overrides this",
        )
