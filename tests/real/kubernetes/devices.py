"""Devices that pods claim (DRA), without a driver: a class, and slices that say what fake nodes have.

The real scheduler reads them and allocates; nobody prepares a device, and kwok's pods need none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.real.kubernetes.api import Api, Object

GROUP = "resource.k8s.io/v1"
DRIVER = "gpu.example.org"


@contextmanager
def devices(api: Api, name: str, has: dict[str, Sequence[str]]) -> Iterator[None]:
    """A DeviceClass, and on each node a device for each product."""
    made = [device_class(name), *(resource_slice(name, node, products) for node, products in has.items())]
    for one in made:
        api.create(one)
    try:
        yield
    finally:
        for one in made:
            plural = "deviceclasses" if one["kind"] == "DeviceClass" else "resourceslices"
            api.delete(f"/apis/{GROUP}/{plural}/{one['metadata']['name']}")


def device_class(name: str) -> Object:
    chosen = {"cel": {"expression": f"device.driver == '{DRIVER}'"}}
    return {
        "apiVersion": GROUP,
        "kind": "DeviceClass",
        "metadata": {"name": name},
        "spec": {"selectors": [chosen]},
    }


def resource_slice(prefix: str, node: str, products: Sequence[str]) -> Object:
    found = [
        {"name": f"gpu-{number}", "attributes": {"productName": {"string": product}}}
        for number, product in enumerate(products)
    ]
    return {
        "apiVersion": GROUP,
        "kind": "ResourceSlice",
        "metadata": {"name": f"{prefix}-{node}"},
        "spec": {
            "driver": DRIVER,
            "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": found,
        },
    }
