"""The fields of which every schema is made: strict, each with an error that says what would be right.

Validators are marshmallow's own wherever there is one, because the OpenAPI document is made from them.
"""

# marshmallow declares its tables of messages as instance variables
# ruff: noqa: RUF012

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any, ClassVar, cast

from marshmallow import ValidationError, fields, missing
from marshmallow.validate import Length, OneOf, Range, Regexp

from api_spec.quantities import InvalidQuantity, parse_duration, parse_indices, parse_memory
from api_spec.schemas import hints

DEPTH_AT_MOST = 6  # of free-form options; arbitrary, deeper than any backend's own
REQUIRED = "is required"
LARGEST_INTEGER = 2**63 - 1

Messages = dict[str, Any]

# Lone surrogates are legal in JSON and in Python, but in no encoding.
_NOT_IN_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NOT_IN_TEXT = re.compile("[\x00\ud800-\udfff]")


class _Said(fields.Field[Any]):
    """What every field says of a member that is missing or null."""

    default_error_messages: Messages = {
        "required": REQUIRED,
        "null": "must not be null; leave it out instead",
    }

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **options: Any) -> Any:
        """As marshmallow does it, without the steps before and after that no field here has."""
        if value is None or value is missing:
            return super().deserialize(value, attr, data, **options)
        read = self._deserialize(value, attr, data, **options)
        for validator in self.validators:
            validator(read)
        return read

    def _validate(self, value: Any) -> None:
        """The first fault of a value is enough; marshmallow's own makes an object to collect them all."""
        for validator in self.validators:
            validator(value)


class Part(_Said, fields.Nested):
    """An object within an object.  A faulty one is not passed on to the rules, not even in part."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, partial: Any = None, **_: Any) -> Any:
        try:
            return self.schema.load(value)
        except ValidationError as error:
            raise ValidationError(error.messages) from None


def about(description: str, **more: Any) -> dict[str, Any]:
    """Metadata that stands in the OpenAPI document."""
    return {"description": description, **more}


class Text(_Said, fields.String):
    """One line of text; ``lines=True`` takes everything that an argument of a process can hold."""

    default_error_messages: Messages = {
        "invalid": "must be a string",
        "unquoted": "must be a string; put quotes around it",
        "line": "must not contain control characters, line ends or lone surrogates",
        "text": "must not contain NUL or lone surrogates",
    }

    def __init__(self, longest: int = 255, *, shortest: int = 1, lines: bool = False, **options: Any) -> None:
        pattern: Regexp | OneOf | None = options.pop("pattern", None)
        checks = [Length(shortest, longest, error=_length_error(shortest, longest))]
        super().__init__(validate=[*checks, *([pattern] if pattern else [])], **options)
        self._key, self._refused = ("text", _NOT_IN_TEXT) if lines else ("line", _NOT_IN_A_LINE)
        self._is_good = _all_at_once(self._refused, shortest, longest, pattern)

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **options: Any) -> Any:
        """In one look: most of a specification is text.  What fails here is told by the slower way."""
        if type(value) is str and self._is_good(value):
            return value
        return super().deserialize(value, attr, data, **options)

    def takes_all(self, values: Iterable[Any]) -> bool:
        is_good = self._is_good
        return all(type(value) is str and is_good(value) for value in values)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> str:
        if type(value) is not str:
            raise self.make_error("unquoted" if type(value) in (int, float, bool) else "invalid")
        if self._refused.search(value):
            raise self.make_error(self._key)
        return value


def _are_good(field: fields.Field[Any], values: Iterable[Any]) -> bool:
    """Whether all are texts, and good ones: in one look, as most of a specification is text."""
    return type(field) is Text and field.takes_all(values)


def _length_error(shortest: int, longest: int) -> str:
    return (
        f"must have {shortest} to {longest} characters" if shortest else f"has more than {longest} characters"
    )


def _all_at_once(
    refused: re.Pattern[str], shortest: int, longest: int, pattern: Regexp | OneOf | None
) -> Callable[[str], object]:
    """Something true for a text that has the length, holds nothing refused and fits the pattern."""
    if isinstance(pattern, OneOf):
        return frozenset(pattern.choices).__contains__
    taken = f"[^{refused.pattern[1:]}{{{shortest},{longest}}}"
    fits = "" if pattern is None else f"(?:{cast(str, pattern.regex.pattern)})"
    return re.compile(rf"(?={taken}\Z){fits}").match


class Whole(_Said, fields.Integer):
    """An integer and nothing that looks like one: neither ``"4"`` nor ``4.0`` nor ``true``."""

    default_error_messages: Messages = {
        "invalid": "must be a whole number",
    }

    def __init__(self, least: int, most: int, **options: Any) -> None:
        limits = Range(least, most, error=f"must be a whole number from {least} to {most}")
        super().__init__(strict=True, validate=limits, **options)
        self._least, self._most = least, most

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **options: Any) -> Any:
        """As with ``Text``."""
        if type(value) is int and self._least <= value <= self._most:
            return value
        return super().deserialize(value, attr, data, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> int:
        if type(value) is not int:
            raise self.make_error("invalid")
        return value


class Number(_Said, fields.Float):
    default_error_messages: Messages = {
        "invalid": "must be a number",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> float:
        if type(value) not in (int, float) or not isfinite(value):
            raise self.make_error("invalid")
        return float(value)


class Truth(_Said, fields.Boolean):
    default_error_messages: Messages = {"invalid": "must be true or false"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> bool:
        if type(value) is not bool:
            raise self.make_error("invalid")
        return value


class Choice(_Said, fields.Enum[Any]):
    """An enumeration by its values."""

    default_error_messages: Messages = {
        "unknown": "must be one of: {choices}",
    }

    def __init__(self, enum: type[Any], **options: Any) -> None:
        super().__init__(enum, by_value=fields.String, **options)
        self._members = {member.value: member for member in enum}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:
        if type(value) is not str or value not in self._members:
            raise self.make_error("unknown", choices=", ".join(self._members))
        return self._members[value]


class _Quantity(_Said, fields.String):
    """On the wire as people write it, a number inside."""

    parse: ClassVar[Any]

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:
        try:
            return type(self).parse(value)
        except InvalidQuantity as error:
            raise ValidationError(str(error)) from error


class Memory(_Quantity):
    parse = staticmethod(parse_memory)


class Duration(_Quantity):
    parse = staticmethod(parse_duration)


class Indices(_Quantity):
    parse = staticmethod(parse_indices)


class Sequence(_Said, fields.List[Any]):
    """A list that becomes a tuple."""

    default_error_messages: Messages = {"invalid": "must be a list"}

    def __init__(self, item: Any, most: int, *, least: int = 0, **options: Any) -> None:
        super().__init__(
            item, validate=Length(least, most, error=f"must have {least} to {most} items"), **options
        )

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:
        if type(value) is not list:
            raise self.make_error("invalid")
        self._validate(value)  # its length, before anything is paid for its items
        if _are_good(self.inner, value):
            return tuple(value)
        loaded, errors = [], {}
        for index, item in enumerate(value):
            try:
                loaded.append(self.inner.deserialize(item))
            except ValidationError as error:
                errors[index] = error.messages
        if errors:
            raise ValidationError(errors, valid_data=loaded)
        return tuple(loaded)


class Words(Sequence):
    """The arguments of a program, which people also write as one string."""

    def __init__(self, item: Any, most: int, *, starts_a_program: bool = False, **options: Any) -> None:
        super().__init__(item, most, **options)
        self._starts_a_program = starts_a_program

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        if type(value) is str:
            raise ValidationError(hints.of_a_command_line(value, starts_a_program=self._starts_a_program))
        return super()._deserialize(value, attr, data, **options)


class Table(_Said, fields.Dict):
    """An object with names of the user's choice; a fault stands at the name it belongs to."""

    default_error_messages: Messages = {"invalid": "must be an object"}

    def __init__(self, keys: Any, values: Any, most: int, **options: Any) -> None:
        super().__init__(keys, values, **options)
        self.metadata = {**self.metadata, "maxProperties": most}
        self._most = most  # marshmallow's Length would say minLength in the OpenAPI document

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise self.make_error("invalid")
        if len(value) > self._most:
            raise ValidationError(f"has {len(value)} entries; {self._most} is the most")
        key_field = cast("fields.Field[Any]", self.key_field)
        value_field = cast("fields.Field[Any]", self.value_field)
        if _are_good(key_field, value) and _are_good(value_field, value.values()):
            return dict(value)
        loaded, errors = {}, {}
        for key, member in value.items():
            try:
                key_field.deserialize(key)
                loaded[key] = value_field.deserialize(member)
            except ValidationError as error:
                errors[key] = error.messages
        if errors:
            raise ValidationError(errors, valid_data=loaded)
        return loaded


class Scalar(_Said, fields.Raw):
    """A string, number or truth value: what one task of an array gets as a parameter."""

    default_error_messages: Messages = {
        "invalid": "must be a string, a finite number, true or false",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:
        if not _is_scalar(value):
            raise self.make_error("invalid")
        return value


class Options(_Said, fields.Dict):
    """Free-form JSON for one backend: checked for depth, numbers and text only."""

    default_error_messages: Messages = {"invalid": "must be an object"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise self.make_error("invalid")
        if fault := _fault_of_json(value, DEPTH_AT_MOST):
            raise ValidationError(fault)
        return value


def _is_scalar(value: object) -> bool:
    if type(value) is str:
        return not _NOT_IN_TEXT.search(value)
    if type(value) is float:
        return isfinite(value)
    return type(value) is bool or (type(value) is int and abs(value) <= LARGEST_INTEGER)


def _fault_of_json(value: Any, depth: int) -> str | None:
    if type(value) not in (dict, list):
        return (
            None if value is None or _is_scalar(value) else "holds a number or text that no backend can take"
        )
    if depth == 0:
        return f"is nested more than {DEPTH_AT_MOST} deep"
    if type(value) is dict and not all(key and _is_scalar(key) for key in value):
        return "holds a name that no backend can take"
    members = value.values() if type(value) is dict else value
    return next(filter(None, (_fault_of_json(member, depth - 1) for member in members)), None)
