"""What the commands of one call share: where the broker is, and the client for it, made when first used."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from broker.client.client import Client
    from broker.client.contexts import Connection
    from broker.client.exchange import Wire


@dataclass
class Session:
    """The options stand before the environment.  ``make_wire`` is where a test puts its own network."""

    url: str | None = None
    context: str | None = None
    timeout: float = 30.0
    owner: str | None = None
    make_wire: Callable[[Connection, float], Wire] | None = None
    made: Client | None = field(default=None, repr=False)

    @property
    def client(self) -> Client:
        if self.made is None:
            from broker.client.client import Client
            from broker.client.contexts import resolve

            known = resolve(self.url, context=self.context)
            known = replace(known, owner=self.owner or known.owner)
            self.made = Client(wire=(self.make_wire or quickest_wire)(known, self.timeout))
        return self.made

    def close(self) -> None:
        if self.made is not None:
            self.made.close()


def quickest_wire(known: Connection, timeout: float) -> Wire:
    """The one that loads fast, unless a proxy needs the other."""
    from broker.client.client import httpx_wire
    from broker.client.plain import PlainWire, suits

    return PlainWire(known, timeout) if suits(os.environ) else httpx_wire(known, timeout)


pass_session = click.make_pass_decorator(Session, ensure=True)
