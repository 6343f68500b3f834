"""The kinds of object that the adapter reads and writes, and where the API server has them.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, kw_only=True)
class Resource:
    kind: str
    group: str  # and version: "batch/v1"; "v1" alone is the core's
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None, part: str | None = None) -> str:
        """Of a collection, of one object, or of a part of it such as its ``log``."""
        found = f"/apis/{self.group}" if "/" in self.group else f"/api/{self.group}"
        if namespace is not None:
            found += f"/namespaces/{quote(namespace, safe='')}"
        found += f"/{self.plural}"
        if name is not None:
            found += f"/{quote(name, safe='')}"
        return f"{found}/{part}" if part else found


JOBS = Resource(kind="Job", group="batch/v1", plural="jobs")
DEPLOYMENTS = Resource(kind="Deployment", group="apps/v1", plural="deployments")
PODS = Resource(kind="Pod", group="v1", plural="pods")
SERVICES = Resource(kind="Service", group="v1", plural="services")
EVENTS = Resource(kind="Event", group="v1", plural="events")
NODES = Resource(kind="Node", group="v1", plural="nodes")
QUOTAS = Resource(kind="ResourceQuota", group="v1", plural="resourcequotas")
LIMITS = Resource(kind="LimitRange", group="v1", plural="limitranges")
CLAIMS = Resource(kind="PersistentVolumeClaim", group="v1", plural="persistentvolumeclaims")
AUTOSCALERS = Resource(
    kind="HorizontalPodAutoscaler", group="autoscaling/v2", plural="horizontalpodautoscalers"
)
SCALED_OBJECTS = Resource(kind="ScaledObject", group="keda.sh/v1alpha1", plural="scaledobjects")
BUDGETS = Resource(kind="PodDisruptionBudget", group="policy/v1", plural="poddisruptionbudgets")
JOB_SETS = Resource(kind="JobSet", group="jobset.x-k8s.io/v1alpha2", plural="jobsets")
CLAIM_TEMPLATES = Resource(
    kind="ResourceClaimTemplate", group="resource.k8s.io/v1", plural="resourceclaimtemplates"
)
DEVICE_CLASSES = Resource(kind="DeviceClass", group="resource.k8s.io/v1", plural="deviceclasses")
METRICS = Resource(kind="PodMetrics", group="metrics.k8s.io/v1beta1", plural="pods")
REVIEWS = Resource(kind="SelfSubjectReview", group="authentication.k8s.io/v1", plural="selfsubjectreviews")
ACCESS = Resource(
    kind="SelfSubjectAccessReview", group="authorization.k8s.io/v1", plural="selfsubjectaccessreviews"
)

ROOTS = {one.kind: one for one in (JOBS, DEPLOYMENTS, JOB_SETS)}
"""What an attempt is; all else belongs to one of them."""
