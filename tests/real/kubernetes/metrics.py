"""metrics-server beside the control plane, for real nodes; the API server passes questions on to it."""

from __future__ import annotations

import base64
from typing import Any

from tests.real.kubernetes.api import Api, ApiError
from tests.real.kubernetes.install import Install
from tests.real.kubernetes.layout import Layout

API_SERVICE = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"
SERVICE = {"name": "metrics-server", "namespace": "kube-system"}


def command(at: Layout, install: Install) -> list[str]:
    config = at.kubeconfig("admin")
    options = {
        "kubeconfig": config,
        "authentication-kubeconfig": config,
        "authorization-kubeconfig": config,
        "bind-address": "127.0.0.1",
        "secure-port": at.port("metrics-server"),
        "tls-cert-file": at.certificate("metrics-server"),
        "tls-private-key-file": at.key("metrics-server"),
        "metric-resolution": "10s",  # less is refused
        "kubelet-request-timeout": "5s",
        "kubelet-use-node-status-port": "true",
        "kubelet-preferred-address-types": "Hostname",
        "kubelet-certificate-authority": at.certificate("ca"),
        "kubelet-client-certificate": at.certificate("kubelet-client"),
        "kubelet-client-key": at.key("kubelet-client"),
        "node-selector": "type!=kwok",  # fake nodes measure nothing
    }
    return [install.program("metrics-server"), *(f"--{name}={value}" for name, value in options.items())]


def objects(at: Layout) -> list[dict[str, Any]]:
    """The name localhost, because an address of loopback may not stand in Endpoints."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": SERVICE,
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }
    api_service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {**SERVICE, "port": at.port("metrics-server")},
            "caBundle": base64.b64encode(at.certificate("ca").read_bytes()).decode(),
        },
    }
    return [service, api_service]


def served(api: Api) -> bool:
    try:
        conditions = api.get(API_SERVICE)["status"].get("conditions", [])
    except (ApiError, OSError):
        return False
    return any(one["type"] == "Available" and one["status"] == "True" for one in conditions)
