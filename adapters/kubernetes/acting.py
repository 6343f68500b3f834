"""Writes are made as the attempt's owner, where the operator wants that.

Who the owner is comes from the broker's own record, never from an object of the cluster, which whoever may
edit it could say is somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from adapters.base import AttemptRef
from adapters.kubernetes.errors import DENIED, QUOTA, RIGHTS_S, Forbidden, TryLater, writing
from adapters.kubernetes.identity import identity_of
from adapters.kubernetes.options import Options

if TYPE_CHECKING:
    from adapters.kubernetes.client import Client


@contextmanager
def as_owner(client: Client, ref: AttemptRef, options: Options) -> Iterator[None]:
    """What one owner may not is no fault of the backend, which others may go on using.

    Raises ``KubernetesError``."""
    if options.impersonate is None:
        yield
        return
    who = identity_of(ref.owner, ref.project, options)
    if who is None:
        raise TryLater(
            f"nothing is written for {ref.owner or 'an unknown owner'}, who is nobody there", RIGHTS_S
        )
    with client.acting_as(who):
        try:
            yield
        except Forbidden as error:
            if any(words in str(error) for words in (QUOTA, *DENIED)):
                raise
            raise TryLater(f"{who.user} may not: {error}", RIGHTS_S) from error


@contextmanager
def writing_as_owner(name: str, client: Client, ref: AttemptRef, options: Options) -> Iterator[None]:
    """As ``errors.writing``."""
    with writing(name), as_owner(client, ref, options):
        yield
