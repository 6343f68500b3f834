"""A function of a few named values that are mostly the same from one decision to the next."""

from __future__ import annotations

from collections.abc import Callable, Collection
from operator import itemgetter
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")

_RESULTS = 256  # of one function; arbitrary, more than there are kinds of jobs and backends


class Known(Protocol):
    """Values by name; None where nobody knows one."""

    def __getitem__(self, name: str, /) -> Any: ...


class Remembered(Generic[T]):
    """Remembers what ``make`` came to; safe to share between threads.  ``names``: all that it depends on."""

    def __init__(self, names: Collection[str], make: Callable[[Known], T]) -> None:
        self._make = make
        self._arguments_of: Callable[[Known], Any] = itemgetter(*names) if names else lambda _: None
        self._results: dict[Any, T] = {}

    def __call__(self, values: Known) -> T:
        arguments = self._arguments_of(values)
        try:
            return self._results[arguments]
        except KeyError:
            result = self._make(values)
        except TypeError:  # a list or a map among them
            return self._make(values)
        if len(self._results) >= _RESULTS:
            self._results.clear()
        self._results[arguments] = result
        return result
