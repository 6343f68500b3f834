"""Loads the Lua scripts and runs them; every call of a script goes through ``Scripts.run``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

from redis.exceptions import NoScriptError

from api_spec.encoding import encode
from broker.store.connection import Client

Watcher = Callable[[str], None]


class Scripts:
    """``watch`` is called with the name of each script just before it runs (tests count effects with it)."""

    def __init__(self, client: Client, prefix: str) -> None:
        self.prefix = prefix
        self.watch: Watcher | None = None
        self._client = client
        folder = resources.files("broker.store") / "scripts"
        common = (folder / "common.lua").read_text()
        self._scripts = {
            path.name.removesuffix(".lua"): client.register_script(common + "\n" + path.read_text())
            for path in folder.iterdir()
            if path.name.endswith(".lua") and path.name != "common.lua"
        }

    def run(self, name: str, request: dict[str, Any], *blobs: bytes) -> Any:
        if self.watch:
            self.watch(name)
        script, written = self._scripts[name], encode(request)
        try:  # what the library does for a script, without its steps before and after
            return self._client.execute_command("EVALSHA", script.sha, 1, self.prefix, written, *blobs)
        except NoScriptError:  # a server that has been started since
            return script(keys=[self.prefix], args=[written, *blobs])
