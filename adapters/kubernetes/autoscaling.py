"""Who says how many replicas a service has: its user, Kubernetes' own autoscaler, or KEDA's.  Pure.

what the job says                  becomes                                          where is served
cpu, memory                        HorizontalPodAutoscaler, of resources            metrics.k8s.io
another metric                     HorizontalPodAutoscaler, of pods                 custom.metrics.k8s.io
measured: external                 HorizontalPodAutoscaler, external                external.metrics.k8s.io
measured: external, replicas from 0   ScaledObject of KEDA, which asks Prometheus   keda.sh

What is served is known from the last inventory; an optional API that is not known to be there is not used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from adapters.kubernetes.names import Manifest
from adapters.kubernetes.options import Options
from adapters.kubernetes.resources import AUTOSCALERS, DEPLOYMENTS, SCALED_OBJECTS, Resource
from api_spec.decisions import Refusal
from api_spec.jobs import Measured, ScaleOn, Service
from api_spec.reasons import Reason

OF_RESOURCES = ("cpu", "memory")
RESOURCES, CUSTOM, EXTERNAL = "metrics.k8s.io", "custom.metrics.k8s.io", "external.metrics.k8s.io"
KEDA = "keda.sh"
PROVIDERS = {
    RESOURCES: "metrics-server",
    CUSTOM: "a metrics adapter such as prometheus-adapter",
    EXTERNAL: "a metrics adapter such as prometheus-adapter, or KEDA",
    KEDA: "KEDA",
}
SERIES = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
"""A metric by its name alone, in Prometheus' language."""

Apis = Mapping[str, Sequence[str]]


# ---- refused ------------------------------------------------------------------------------------------


def refusals(service: Service, options: Options) -> Iterator[Refusal]:
    """What holds whatever the cluster has."""
    scale_on = service.scale_on
    if scale_on is None or service.replicas.min > 0:
        return
    if scale_on.measured is not Measured.EXTERNAL:
        message = (
            f"scales to no replica by {scale_on.metric}, which is measured at the replicas: where there is "
            "none, nothing would ask for one.  A metric from elsewhere (measured: external) can"
        )
        yield Refusal(Reason.UNSUPPORTED, message, "/service/replicas/min")
    elif options.prometheus is None:
        message = (
            "scales to no replica; this backend names no Prometheus that KEDA could ask (option prometheus)"
        )
        yield Refusal(Reason.UNSUPPORTED, message, "/service/replicas/min")
    elif not SERIES.fullmatch(scale_on.metric):
        message = f"scales to no replica by {scale_on.metric}, which is no name of a metric in Prometheus"
        yield Refusal(Reason.UNSUPPORTED, message, "/service/scale_on/metric")


def not_served(service: Service, served: Apis) -> Iterator[Refusal]:
    """``served``: of the cluster; empty where nobody knows, which is no ground to refuse what every cluster
    is made with."""
    scale_on = service.scale_on
    if scale_on is None:
        return
    group = api_of(scale_on, service.replicas.min)
    if group in served or (group == RESOURCES and not served):
        return
    how = f"by {scale_on.metric}" if service.replicas.min else "to no replica"
    message = f"scales {how}; the cluster does not serve {group}, which {PROVIDERS[group]} would bring"
    field = "/service/scale_on/metric" if service.replicas.min else "/service/replicas/min"
    yield Refusal(Reason.UNSUPPORTED, message, field)


def api_of(scale_on: ScaleOn, least: int) -> str:
    """The group of the API without which nothing would be scaled."""
    if least == 0:
        return KEDA
    if scale_on.measured is Measured.EXTERNAL:
        return EXTERNAL
    return RESOURCES if scale_on.metric in OF_RESOURCES else CUSTOM


# ---- rendered -----------------------------------------------------------------------------------------


def scaler(service: Service, name: str, options: Options) -> Iterator[tuple[Resource, Manifest]]:
    """The one object that scales the Deployment ``name``; never two, which would fight over it."""
    scale_on = service.scale_on
    if scale_on is None:
        return
    target = {"apiVersion": DEPLOYMENTS.group, "kind": DEPLOYMENTS.kind, "name": name}
    if service.replicas.min == 0:
        trigger = {"type": "prometheus", "metadata": _asked(scale_on, str(options.prometheus))}
        yield (
            SCALED_OBJECTS,
            {
                "scaleTargetRef": target,
                "minReplicaCount": 0,
                "maxReplicaCount": service.replicas.max,
                "triggers": [trigger],
            },
        )
        return
    yield (
        AUTOSCALERS,
        {
            "scaleTargetRef": target,
            "minReplicas": service.replicas.min,
            "maxReplicas": service.replicas.max,
            "metrics": [_metric(scale_on)],
        },
    )


def _metric(scale_on: ScaleOn) -> Manifest:
    metric: Manifest = {"name": scale_on.metric}
    average = {"type": "AverageValue", "averageValue": quantity_of(scale_on.target)}
    if scale_on.measured is Measured.EXTERNAL:
        if scale_on.selector:
            metric["selector"] = {"matchLabels": dict(scale_on.selector)}
        return {"type": "External", "external": {"metric": metric, "target": average}}
    if scale_on.metric not in OF_RESOURCES:
        return {"type": "Pods", "pods": {"metric": metric, "target": average}}
    percent = {"type": "Utilization", "averageUtilization": max(1, round(scale_on.target))}
    return {"type": "Resource", "resource": {**metric, "target": percent}}


def quantity_of(target: float) -> str:
    """In thousandths where it is not whole; a smaller part than that is rounded up."""
    return f"{math.ceil(target * 1000)}m" if target % 1 else str(int(target))


def _asked(scale_on: ScaleOn, prometheus: str) -> dict[str, str]:
    """KEDA's trigger has text for everything."""
    chosen = ",".join(f'{name}="{_quoted(value)}"' for name, value in scale_on.selector)
    series = f"{scale_on.metric}{{{chosen}}}" if chosen else scale_on.metric
    threshold = scale_on.target if scale_on.target % 1 else int(scale_on.target)
    return {"serverAddress": prometheus, "query": f"sum({series})", "threshold": str(threshold)}


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
