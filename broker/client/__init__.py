"""The SDK: a client of the REST API for Python programs and for the command line.

Imports no server library.  What it returns is what the API answers, as plain dicts (``api_spec/openapi.json``
describes them).  Names are loaded at first use, so that the command line starts without the HTTP library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broker.client.client import Client
    from broker.client.errors import ClientError, NotReachable, Refused, WaitTimeout

__all__ = ["Client", "ClientError", "NotReachable", "Refused", "WaitTimeout"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{'client' if name == 'Client' else 'errors'}"), name)
