"""The base of every schema that reads what users send: it refuses what it does not know, and says why."""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from typing import Any, ClassVar

from marshmallow import RAISE, Schema, ValidationError, post_load, validates_schema

from api_spec.schemas import hints

MEMBERS_AT_MOST = 200  # no schema has near as many; more are not worth a fault each
HINTS_AT_MOST = 20  # a body full of unknown fields must not buy a search for each
REMEMBERED, LONGEST_REMEMBERED = 256, 1024  # parts of one kind, and bytes of each; arbitrary

Broken = Iterator[tuple[str, Any]]
"""A field and a sentence for each broken rule; a dict in place of the sentence goes deeper."""


class Strict(Schema):
    """Unknown fields are errors with a hint; what is loaded becomes ``builds``."""

    builds: ClassVar[type | None] = None
    remembers: ClassVar[bool] = False
    """Many jobs ask for the same, and what is built holds nothing that could be changed: it is built once."""

    class Meta:
        unknown = RAISE

    error_messages = {  # noqa: RUF012 - declared by marshmallow
        "type": "must be an object",
        "unknown": hints.UNKNOWN,
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._by_key = {
            field.data_key or name: (name, field.deserialize) for name, field in self.load_fields.items()
        }
        self._required = {name for name, field in self.load_fields.items() if field.required}
        self._known: dict[bytes, Any] = {}

    def load(self, data: Any, **options: Any) -> Any:
        """As marshmallow loads, at a third of its price where nothing is wrong.

        Only members that are there are looked at; the defaults of the rest are the dataclass' own.  At the
        first fault marshmallow does it all again, and collects every fault.
        """
        if type(data) is dict and len(data) > MEMBERS_AT_MOST:
            raise ValidationError(f"has {len(data)} members; there are {', '.join(sorted(self._by_key))}")
        if not options:
            try:
                return self._load_again(data) if self.remembers else self._load_flawless(data)
            except ValidationError:
                pass  # the slow way collects every fault
        return super().load(data, **options)

    def _load_again(self, data: Any) -> Any:
        try:
            written = marshal.dumps(data, 2)  # this version writes the same for the same
        except ValueError:  # not of JSON's own types
            return self._load_flawless(data)
        known = self._known.get(written)
        if known is None:
            known = self._load_flawless(data)
            if len(written) <= LONGEST_REMEMBERED:
                if len(self._known) >= REMEMBERED:
                    self._known.clear()
                self._known[written] = known
        return known

    def _load_flawless(self, data: Any) -> Any:
        if type(data) is not dict or not self._by_key.keys() >= data.keys():
            raise ValidationError("the slow way knows why")
        loaded = {}
        for key, value in data.items():
            name, deserialize = self._by_key[key]
            loaded[name] = deserialize(value)
        if not self._required <= loaded.keys():
            raise ValidationError("the slow way knows why")
        self._check(loaded, data)
        return self._build(loaded)

    def _check(self, loaded: dict[str, Any], given: Any) -> None:
        """For rules over several fields."""

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> Any:
        return data if self.builds is None else self.builds(**data)

    def handle_error(self, error: ValidationError, data: Any, **_: Any) -> None:
        """Hints are made here, so that a valid document does not pay for them."""
        if not isinstance(error.messages, dict) or not isinstance(data, dict):
            return
        unknown = [name for name in data if name in error.messages and name not in self._by_key]
        for name in unknown[:HINTS_AT_MOST]:
            del error.messages[name]  # marshmallow has them in no order; here they come as they were sent
            error.messages[name] = [hints.of_an_unknown_field(name, self._by_key.keys())]


class Ruled(Strict):
    """Has rules over several fields, which hold whether or not the fields themselves are right."""

    def rules(self, given: dict[str, Any], loaded: dict[str, Any]) -> Broken:
        """Field and sentence of each broken rule; the field ``_schema`` is the whole.

        ``given`` is what was sent, whatever it is; ``loaded`` holds only what could be read.
        """
        raise NotImplementedError

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def _check(self, loaded: dict[str, Any], given: Any, **_: Any) -> None:
        if not isinstance(given, dict):
            return
        broken: dict[str, list[Any]] = {}
        for name, message in self.rules(given, loaded):
            broken.setdefault(name, []).append(message)
        if broken:
            raise ValidationError(broken)
