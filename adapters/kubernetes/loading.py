"""Reads what an operator has set for a ``kubernetes`` backend; each fault names its key.  Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from adapters import option_readers as read
from adapters.kubernetes import capacity
from adapters.kubernetes.identity import BLANKS, is_allowed
from adapters.kubernetes.names import is_namespace
from adapters.kubernetes.native import LABEL_NAME, QUEUE
from adapters.kubernetes.options import FabricOptions, Impersonate, NodeGroup, Options, Toleration
from adapters.kubernetes.volumes import NAME
from adapters.option_readers import Reader

T = TypeVar("T")

RESOURCE = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
LONGEST_DRAIN_S = 3600
LONGEST_EXPRESSION = 10 * 1024
"""Kubernetes takes no longer one."""
LARGEST_GROUP = 5000
"""Nodes; Kubernetes itself supports no more in a cluster."""
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def load(given: Mapping[str, Any], name: str) -> Options:
    """Raises ``ValueError`` for what is not known, is missing, contradicts itself or has the wrong type."""
    options = Options(**read.table(name, "", given, Options, READERS))
    for check in (_check_way, _check_namespaces, _check_devices, _check_withdrawal):
        if fault := check(options):
            raise ValueError(f"{name}: {fault}")
    return options


# ---- values ------------------------------------------------------------------------------------------


def _namespace(key: str, value: Any) -> str:
    if not is_namespace(read.text(key, value)):
        raise ValueError(f"{key} is the name of a namespace, not {value!r}")
    return str(value)


def _name(key: str, value: Any) -> str:
    """Of an object: unlike a namespace's it may have dots."""
    if not NAME.fullmatch(read.text(key, value)):
        raise ValueError(f"{key} is the name of an object of Kubernetes, not {value!r}")
    return str(value)


def _queue(key: str, value: Any) -> str:
    if not QUEUE.fullmatch(read.text(key, value)):
        raise ValueError(f"{key} is the name of a queue, of at most 63 characters, not {value!r}")
    return str(value)


def _names(key: str, value: Any) -> tuple[str, ...]:
    return tuple(_name(f"{key}[{index}]", one) for index, one in enumerate(read.texts(key, value)))


def _expression(key: str, value: Any) -> str:
    if len(read.text(key, value)) > LONGEST_EXPRESSION:
        raise ValueError(f"{key} is an expression of at most {LONGEST_EXPRESSION} characters")
    return str(value)


def _resource(key: str, value: Any) -> str:
    if not RESOURCE.fullmatch(read.text(key, value)):
        raise ValueError(f"{key} is the name of a resource, such as nvidia.com/gpu, not {value!r}")
    return str(value)


def _user(key: str, value: Any) -> int:
    """0 would be root."""
    return read.whole(key, value)


def _drain(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LONGEST_DRAIN_S:
        raise ValueError(f"{key} is a whole number of seconds up to {LONGEST_DRAIN_S}, not {value!r}")
    return value


def _fabric(key: str, value: Any) -> FabricOptions:
    return FabricOptions(**read.table("", f"{key}.", value, FabricOptions, FABRIC))


def _tables(key: str, value: Any, one: Callable[[str, Any], T]) -> tuple[T, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{key} is a list of tables, not {value!r}")
    return read.unprefixed(lambda: tuple(one(f"{key}[{index}]", row) for index, row in enumerate(value)))


def _tolerations(key: str, value: Any) -> tuple[Toleration, ...]:
    def one(where: str, row: Any) -> Toleration:
        found = Toleration(**read.table("", f"{where}.", row, Toleration, TOLERATION))
        if found.operator == "Exists" and found.value is not None:
            raise ValueError(f"{where}.value goes with the operator Equal")
        if found.operator == "Equal" and found.key is None:
            raise ValueError(f"{where}.key is missing, which the operator Equal needs")
        return found

    return _tables(key, value, one)


def _node_groups(key: str, value: Any) -> tuple[NodeGroup, ...]:
    def one(where: str, row: Any) -> NodeGroup:
        given = read.table("", f"{where}.", row, NodeGroup, NODE_GROUP)
        for name in ("labels", "resources", "most"):
            if not given.get(name):
                raise ValueError(f"{where}.{name} is missing")
        if missing := sorted({"cpu", "memory"} - given["resources"].keys()):
            raise ValueError(f"{where}.resources has no {' and no '.join(missing)}")
        if given["most"] > LARGEST_GROUP:
            raise ValueError(f"{where}.most is at most {LARGEST_GROUP}, not {given['most']}")
        return NodeGroup(**given)

    return _tables(key, value, one)


def _amount(key: str, value: Any) -> str:
    """A table of Kubernetes has both numbers and texts."""
    if isinstance(value, bool) or capacity.quantity(value) <= 0:
        raise ValueError(f"{key} is an amount such as 96 or 1152Gi, not {value!r}")
    return str(value)


def _label(key: str, value: Any) -> str:
    if not LABEL_NAME.fullmatch(read.text(key, value)):
        raise ValueError(f"{key} is the name of a label, such as example.org/rack, not {value!r}")
    return str(value)


def _address(key: str, value: Any) -> str:
    """It stands in objects that others can read, so nobody's password does."""
    try:
        parts = urlsplit(read.text(key, value))
        well = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well = False
    if not well or parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"{key} is such as http://prometheus.monitoring:9090, not {value!r}")
    return str(value)


def _identity(key: str, value: Any) -> str:
    """With its places for owner and project empty."""
    rest = BLANKS.sub("x", read.text(key, value))
    if not is_allowed(rest) or "{" in rest:
        raise ValueError(f"{key} is a name, such as ml:{{owner}}, and none of Kubernetes' own, not {value!r}")
    return str(value)


def _identities(key: str, value: Any) -> tuple[str, ...]:
    return tuple(_identity(f"{key}[{index}]", one) for index, one in enumerate(read.texts(key, value)))


def _one_identity(key: str, value: Any) -> str:
    if not is_allowed(read.text(key, value)):
        raise ValueError(f"{key} is the name of a user, and none of Kubernetes' own, not {value!r}")
    return str(value)


def _impersonate(key: str, value: Any) -> Impersonate:
    def one() -> Impersonate:
        found = Impersonate(**read.table("", f"{key}.", value, Impersonate, IMPERSONATE))
        if (found.user is None) != bool(found.table):
            raise ValueError(
                f"{key} needs either user (a name with {{owner}} in it) or table (owner to user)"
            )
        return found

    return read.unprefixed(one)


# fmt: off
IMPERSONATE: Mapping[str, Reader] = {
    "user": _identity, "table": partial(read.of_names, _one_identity), "groups": _identities,
}
FABRIC: Mapping[str, Reader] = {
    "resource": _resource, "network": read.text, "ipc_lock": read.truth,
    "node_labels": partial(read.of_names, read.text), "environment": read.variables,
}
TOLERATION: Mapping[str, Reader] = {
    "key": read.text, "operator": read.choice("Exists", "Equal"), "value": read.text,
    "effect": read.choice(*EFFECTS),
}
NODE_GROUP: Mapping[str, Reader] = {
    "labels": partial(read.of_names, read.text), "resources": partial(read.of_names, _amount),
    "most": read.whole,
}
READERS: Mapping[str, Reader] = {
    "kubeconfig": read.path, "context": read.text, "in_cluster": read.truth,
    "url": read.text, "ca_file": read.path, "token_file": read.path,
    "namespace": _namespace, "namespaces": partial(read.of_names, _namespace),
    "connect_s": read.seconds, "answer_s": read.seconds, "settle_s": read.seconds,
    "drain_s": _drain, "watch": read.truth, "watch_s": read.seconds,
    "service_account": _name, "image_pull_secrets": _names, "runtime_class": _name,
    "run_as_user": _user, "run_as_group": _user,
    "priorities": partial(read.priorities, _name), "preemptible": _name, "tolerations": _tolerations,
    "node_groups": _node_groups,
    "gpu_resource": _resource, "gpu_types": partial(read.of_names, read.text),
    "mig_profiles": partial(read.of_names, _resource), "device_class": _name,
    "device_classes": partial(read.of_names, _name), "device_selectors": partial(read.of_names, _expression),
    "queue": _queue, "queues": partial(read.of_names, _queue),
    "queue_priorities": partial(read.priorities, _name), "job_sets": read.truth,
    "fabrics": partial(read.fabrics, _fabric),
    "environment": read.variables, "shared_memory_mib": read.whole, "outputs_claim": _name,
    "keep_s": read.whole, "domain": read.text, "rack_label": _label, "prometheus": _address,
    "partial_start_s": read.seconds, "impersonate": _impersonate,
}
# fmt: on


# ---- what has to agree -------------------------------------------------------------------------------


def _check_way(options: Options) -> str | None:
    ways = [way for way in ("kubeconfig", "in_cluster", "url") if getattr(options, way)]
    if len(ways) != 1:
        found = " and ".join(ways) or "none"
        return f"exactly one of kubeconfig, in_cluster and url says where the cluster is; found {found}"
    if options.context and not options.kubeconfig:
        return "context goes with kubeconfig"
    if not options.url:
        return "ca_file and token_file go with url" if options.ca_file or options.token_file else None
    try:
        parts = urlsplit(options.url)
        well = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well = False
    if not well or parts.username or parts.password or parts.query or parts.fragment:
        return f"url is such as https://kubernetes.example:6443, not {options.url!r}"
    return None if options.token_file else "token_file is missing: who the broker is to the API server"


def _check_namespaces(options: Options) -> str | None:
    if not options.namespace and not options.namespaces:
        return "namespace (of all projects) or namespaces (project to namespace) is missing"
    return None


def _check_devices(options: Options) -> str | None:
    if options.device_class is None and (options.device_classes or options.device_selectors):
        return "device_classes and device_selectors go with device_class"
    return None


def _check_withdrawal(options: Options) -> str | None:
    """It is written in a pass, which does not know whose a job is."""
    if options.partial_start_s is not None and options.impersonate is not None:
        return "partial_start_s does not go with impersonate: nobody but its owner could withdraw a job"
    return None
