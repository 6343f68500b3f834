"""How a cluster comes up and goes down; ``cluster.py`` is what tests use."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.helpers import wait_until
from tests.real import ports
from tests.real.daemons import Daemon
from tests.real.guard import Guard
from tests.real.kubernetes import fake_nodes, leftovers, metrics, node, parts
from tests.real.kubernetes.api import Api, ApiError, Object
from tests.real.kubernetes.install import PATH, Install
from tests.real.kubernetes.layout import LISTENERS, NODE_NAME, Layout, Options

LONGEST_DIRECTORY = 60  # a socket's whole path has at most 107 bytes
READY_WITHIN_S = 60.0


class Machinery:
    def __init__(self, directory: Path | None, *, install: Install, options: Options) -> None:
        if missing := install.node_missing if options.real_node else install.missing:
            raise FileNotFoundError(missing)
        self.install, self.options = install, options
        self.directory = directory or Path(tempfile.mkdtemp(prefix="kubernetes-"))
        if len(os.fsencode(self.directory)) > LONGEST_DIRECTORY:
            raise ValueError(f"{self.directory} is too long a name for the sockets in it")
        self.layout = Layout(self.directory, ports.free_block(len(LISTENERS)))
        self.scratch, self.kubeconfig = self.directory, self.layout.kubeconfig("admin")
        self.daemons: dict[str, Daemon] = {}
        self.fake_nodes: dict[str, list[str]] = {}  # names, by the kwok that looks after them
        self.api: Api
        self.boot_s = 0.0
        self._guard: Guard | None = None
        self._held = ExitStack()

    # ---- up ------------------------------------------------------------------------------------------

    def start_all(self) -> None:
        """Again after ``close``: as new, with other keys."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        keeps = [self._held.enter_context(node.lock()).fileno()] if self.options.real_node else []
        began = time.monotonic()
        self._guard = Guard(leftovers, str(self.directory), keeps=keeps)
        parts.write_files(self.layout)
        self.api = Api(self.kubeconfig)
        self._start_control_plane()
        self._add_fake_nodes(fake_nodes.GROUPS[0], fake_nodes.wanted(self.options))
        if self.options.real_node:
            self._start_node()
        wait_until(self.nodes_are_ready, READY_WITHIN_S, "all nodes are ready")
        self.boot_s = time.monotonic() - began

    def _start_control_plane(self) -> None:
        at = self.layout
        listens = {name: partial(ports.answers, at.port(name)) for name in LISTENERS}
        self._add_part("etcd", parts.etcd(at), listens["etcd"])
        self._add_part("apiserver", parts.apiserver(at), self.api.answers)
        self._add_part(
            "controller-manager", parts.controller_manager(at), listens["controller-manager"], wait=False
        )
        self._add_part("scheduler", parts.scheduler(at), listens["scheduler"], wait=False)
        # The first thing that tells of working controllers, and without it no pod can be.
        wait_until(
            lambda: self.api.exists("/api/v1/namespaces/default/serviceaccounts/default"),
            READY_WITHIN_S,
            "the controllers work",
        )

    def _add_fake_nodes(self, group: str, nodes: list[Object]) -> None:
        """With a kwok of their own; the daemon has the name of the group."""
        command = fake_nodes.kwok(self.layout, self.install, group)
        self._add(group, command, partial(ports.answers, self.layout.port(group)))
        for one in nodes:
            self.api.create(fake_nodes.in_group(one, group))
        self.fake_nodes[group] = [one["metadata"]["name"] for one in nodes]

    @contextmanager
    def more_fake_nodes(self, nodes: list[Object]) -> Iterator[str]:
        """Gives the name of the daemon that keeps these nodes: freeze it, and they alone are lost."""
        group = next(name for name in fake_nodes.GROUPS if name not in self.daemons)
        self._add_fake_nodes(group, nodes)
        wait_until(self.nodes_are_ready, READY_WITHIN_S, "the new nodes are ready")
        try:
            yield group
        finally:
            self.daemons.pop(group).kill()
            for name in self.fake_nodes.pop(group):
                self.api.delete(f"/api/v1/nodes/{name}")

    def _start_node(self) -> None:
        at, extra = self.layout, self.options.extra
        node.write_files(at)
        self._add("containerd", node.containerd(at), partial(node.containerd_answers, at))
        node.import_images(at)
        node.open_network()
        listens = partial(ports.answers, at.port("kubelet"))
        self._add("kubelet", node.kubelet(at, self.install, extra.get("kubelet", ())), listens)
        wait_until(lambda: self.api.exists(f"/api/v1/nodes/{NODE_NAME}"), READY_WITHIN_S, "the node is known")
        listens = partial(ports.answers, at.port("proxy-health"))
        self._add("proxy", node.proxy(at, self.install, extra.get("proxy", ())), listens)
        for thing in metrics.objects(at):
            self.api.create(thing)
        self._add("metrics-server", metrics.command(at, self.install), partial(metrics.served, self.api))

    def _add_part(
        self, name: str, options: dict[str, object], ready: Callable[[], object], *, wait: bool = True
    ) -> None:
        command = parts.command(self.install, name, options, self.options.extra.get(name, ()))
        self._add(name, command, ready, wait=wait)

    def _add(self, name: str, command: list[str], ready: Callable[[], object], *, wait: bool = True) -> None:
        environment = {"PATH": PATH, "HOME": str(self.directory), "LANG": "C.UTF-8"}
        log = self.layout.logs / f"{name}.log"
        self.daemons[name] = Daemon(name, command, log=log, environment=environment, ready=ready)
        self.daemons[name].start(wait=wait)

    # ---- is it up? -----------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[str]:
        real = [NODE_NAME] if self.options.real_node else []
        return [*real, *(name for names in self.fake_nodes.values() for name in names)]

    def nodes_are_ready(self) -> bool:
        """Each is there, ready, and no longer marked as lost."""
        try:
            found = {one["metadata"]["name"]: one for one in self.api.items("/api/v1/nodes")}
        except (ApiError, OSError):
            return False
        return all(name in found and is_ready(found[name]) for name in self.nodes)

    # ---- down ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends all that runs and removes every trace; again: does nothing."""
        if not self.directory.exists():
            return
        with self._held:
            if self._guard:
                self._guard.dismiss()
            for daemon in reversed(self.daemons.values()):
                daemon.kill()  # the API server takes a minute to end nicely while somebody watches
            leftovers.remove(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_ready(node: Object) -> bool:
    lost = any(taint["key"].startswith("node.kubernetes.io/") for taint in node["spec"].get("taints", ()))
    conditions = node["status"].get("conditions", ())
    return not lost and any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
