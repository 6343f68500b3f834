"""State in Redis.  The only package that knows Redis, its keys and its scripts.

Every step that must be whole is one script (``scripts/*.lua``, with ``common.lua`` in front).  The keys, what
they hold and when they expire stand in ``layout.KEYS``.  Times are milliseconds of Redis' own clock.
"""

from broker.store.store import Store, open_store

__all__ = ["Store", "open_store"]
