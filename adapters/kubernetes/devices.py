"""GPUs as devices that a pod claims (Dynamic Resource Allocation, resource.k8s.io/v1).  Pure.

Each pod gets a claim of its own, made from a template that belongs to the attempt.  A template cannot be
changed: its name says what is in it, and a revision that claims something else has another one.
"""

from __future__ import annotations

from collections.abc import Iterator

from adapters.kubernetes import names
from adapters.kubernetes.names import Manifest
from adapters.kubernetes.options import Options
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec
from api_spec.reasons import Reason

GPUS = "gpus"
"""Of the request, and of the claim in the pod."""


def are_claimed(spec: JobSpec, options: Options) -> bool:
    return options.device_class is not None and spec.resources.gpus_per_node > 0


def class_of(spec: JobSpec, options: Options) -> str:
    """A slice's own goes before that of the GPU it is of."""
    found = [options.device_classes[one] for one in _sorts(spec) if one in options.device_classes]
    return found[-1] if found else str(options.device_class)


def _sorts(spec: JobSpec) -> list[str]:
    wanted = spec.resources
    return [one for one in (wanted.gpu_type, wanted.mig_profile) if one is not None]


def claim(spec: JobSpec, options: Options) -> Manifest:
    """The spec of the template."""
    selectors = [options.device_selectors[one] for one in _sorts(spec) if one in options.device_selectors]
    asked: Manifest = {
        "deviceClassName": class_of(spec, options),
        "allocationMode": "ExactCount",
        "count": spec.resources.gpus_per_node,
    }
    if selectors:
        asked["selectors"] = [{"cel": {"expression": one}} for one in selectors]
    return {"spec": {"devices": {"requests": [{"name": GPUS, "exactly": asked}]}}}


def template_name(spec: JobSpec, marker: str, options: Options) -> str:
    return f"{marker}-{names.digest_of(claim(spec, options))[:8]}"


def of_pod(spec: JobSpec, marker: str, options: Options) -> Manifest:
    """Members of its spec."""
    if not are_claimed(spec, options):
        return {}
    template = template_name(spec, marker, options)
    return {"resourceClaims": [{"name": GPUS, "resourceClaimTemplateName": template}]}


def of_container(spec: JobSpec, options: Options) -> Manifest:
    """Members of its resources."""
    return {"claims": [{"name": GPUS}]} if are_claimed(spec, options) else {}


def refusals(spec: JobSpec, options: Options) -> Iterator[Refusal]:
    """A sort of GPUs that nobody has described would be any sort."""
    if not are_claimed(spec, options):
        return
    for name, value in (("gpu_type", spec.resources.gpu_type), ("mig_profile", spec.resources.mig_profile)):
        if value is not None and value not in {**options.device_classes, **options.device_selectors}:
            rows = "device_classes and device_selectors have no row for it"
            message = f"asks for GPUs with the {name} {value}; this backend claims devices, and its {rows}"
            yield Refusal(Reason.UNSUPPORTED, message, f"/resources/{name}")
