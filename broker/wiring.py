"""Puts the parts together.  Alone names concrete adapters; each is loaded when it is enabled."""

from __future__ import annotations

import importlib
import os
import socket
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from adapters.base import Adapter, BackendConfig
from adapters.extras import StaysBehind
from api_spec.errors import InvalidConfiguration
from broker.blobs import Directory
from broker.lifecycle.broker import Broker
from broker.lifecycle.context import Context
from broker.policy_files import policy_at
from broker.settings import Settings
from broker.store import Store, open_store
from broker.store.store import StoreOptions

# type -> module and class.  Others register the entry point group "workload_broker.adapters".
ADAPTERS = {
    "local": "adapters.local.adapter:LocalAdapter",
    "slurm": "adapters.slurm.adapter:SlurmAdapter",
    "kubernetes": "adapters.kubernetes.adapter:KubernetesAdapter",
    "fake": "adapters.fake.adapter:FakeAdapter",  # tests only
}


@cache  # it looks through every package that is installed
def adapter_class(kind: str) -> Callable[[BackendConfig], Adapter]:
    for entry in entry_points(group="workload_broker.adapters", name=kind):
        found: Callable[[BackendConfig], Adapter] = entry.load()
        return found
    if kind not in ADAPTERS:
        raise InvalidConfiguration(f"there is no adapter for the backend type {kind}")
    module, _, name = ADAPTERS[kind].partition(":")
    made: Callable[[BackendConfig], Adapter] = getattr(importlib.import_module(module), name)
    return made


def make_adapters(settings: Settings) -> dict[str, Adapter]:
    """Each gets a directory of its own below the data directory.  Raises ``InvalidConfiguration`` with the
    faults of all backends."""
    out, faults = {}, []
    for config in settings.backends:
        own = replace(
            config,
            instance=settings.instance,
            data_dir=config.data_dir or str(settings.data_dir / "backends" / config.name),
        )
        try:
            out[config.name] = adapter_class(config.type)(own)
        except (InvalidConfiguration, ValueError) as error:
            faults.append(f"backend {config.name}: {error}")
    if faults:
        raise InvalidConfiguration("; ".join(faults))
    return out


def check_backends(settings: Settings) -> None:
    """Raises as ``make_adapters``, and leaves nothing on the machine."""
    with tempfile.TemporaryDirectory() as nowhere:
        elsewhere = [replace(config, data_dir=f"{nowhere}/{config.name}") for config in settings.backends]
        make_adapters(replace(settings, backends=tuple(elsewhere)))


def leave_when_idle(settings: Settings) -> None:
    """Of a broker that was alone on its machine and has stopped: nothing idle is to stay behind."""
    for adapter in make_adapters(settings).values():
        if isinstance(adapter, StaysBehind):
            adapter.leave_when_idle()


def store_options(settings: Settings) -> StoreOptions:
    return StoreOptions(
        instance=settings.instance,
        allow_volatile=settings.allow_volatile,
        events_kept=settings.events_kept,
        retention_s=settings.retention_s,
        sweep_s=settings.sweep_s,
    )


def build(
    settings: Settings, publish: Callable[[str], None] | None = None, store: Store | None = None
) -> Broker:
    """A broker on its store.  Without ``publish`` hints go out over Celery."""
    adapters = make_adapters(settings)
    if store is None:
        store = open_store(settings.redis_url, store_options(settings))
    for name, adapter in adapters.items():
        store.backends.declare(name, adapter.type)
    return Broker(
        Context(
            store=store,
            adapters=adapters,
            policy=policy_at(settings.policy_file),
            settings=settings,
            publish=publish or _celery_publisher(settings),
            blobs=Directory(settings.blobs_at),
            holder=f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}",
        )
    )


def _celery_publisher(settings: Settings) -> Callable[[str], None]:
    from broker.queue import make_app

    return hints_over(make_app(settings, settings.redis_url), settings)


def hints_over(app: Any, settings: Settings) -> Callable[[str], None]:
    """``app``: a Celery application."""
    from broker.tasks import publisher

    names = frozenset(backend.name for backend in settings.backends)
    # A hint is sent again each sweep, so an old one is of no use; but a busy worker needs some time.
    return publisher(app, names, expires_s=max(10.0, 4 * settings.sweep_s))
