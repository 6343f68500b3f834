"""What makes frozen dataclasses cheap where many are made: on the way of each submission and each row.

The constructor that ``dataclass`` writes for a frozen class calls ``object.__setattr__`` for each field.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, TypeVar

T = TypeVar("T")


def quick(cls: type[T]) -> type[T]:
    """Gives a frozen, keyword-only dataclass a constructor that fills the whole object at once."""
    names = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    values = {f.name: f.default for f in fields(cls) if f.default is not MISSING}  # type: ignore[arg-type]
    factories = [
        (field.name, field.default_factory)
        for field in fields(cls)  # type: ignore[arg-type]
        if field.default_factory is not MISSING
    ]

    def __init__(self: Any, **members: Any) -> None:  # noqa: N807
        itself = self.__dict__
        itself.update(values)
        itself.update(members)
        for name, make in factories:
            if name not in members:
                itself[name] = make()
        if itself.keys() != names:
            wrong = ", ".join(sorted(itself.keys() ^ names))
            raise TypeError(f"{cls.__name__} lacks, or does not have: {wrong}")

    cls.__init__ = __init__  # type: ignore[method-assign]
    return cls


def changed(thing: T, **members: Any) -> T:
    """As ``dataclasses.replace``, but no constructor is called and no name is checked."""
    copy = object.__new__(type(thing))
    copy.__dict__.update(thing.__dict__)
    copy.__dict__.update(members)
    return copy
