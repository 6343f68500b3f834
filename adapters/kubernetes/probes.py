"""Where a replica answers, whether it is well, and where it shows its metrics.  Pure."""

from __future__ import annotations

from adapters.kubernetes.names import Manifest
from api_spec.jobs import Service

PREFIX = "prometheus.io"
"""Of the annotations by which the usual configurations of Prometheus find pods."""


def served(service: Service) -> Manifest:
    """Members of the container.  A model may load for half an hour; once it is ready, three failures take
    it out, and six end it."""
    ready, live = _probe(service, service.health.path), _probe(service, service.health.live_path)
    return {
        "ports": _ports(service),
        # Nothing ends it for not being live before it has been ready once.
        "startupProbe": {**ready, "periodSeconds": 2, "failureThreshold": 900, "timeoutSeconds": 2},
        "readinessProbe": {**ready, "periodSeconds": 2, "failureThreshold": 3, "timeoutSeconds": 2},
        "livenessProbe": {**live, "periodSeconds": 10, "failureThreshold": 6, "timeoutSeconds": 5},
    }


def _probe(service: Service, path: str | None) -> Manifest:
    return {"httpGet": {"path": path or service.health.path, "port": service.port}}


def _ports(service: Service) -> list[Manifest]:
    found: list[Manifest] = [{"name": "http", "containerPort": service.port}]
    if service.metrics is not None and service.metrics.port != service.port:
        found.append({"name": "metrics", "containerPort": service.metrics.port})
    return found


def scraped(service: Service | None) -> dict[str, str]:
    if service is None or service.metrics is None:
        return {}
    told = {"scrape": "true", "port": str(service.metrics.port), "path": service.metrics.path}
    return {f"{PREFIX}/{name}": value for name, value in told.items()}
