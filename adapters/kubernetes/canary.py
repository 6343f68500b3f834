"""A canary, which gets a part of the calls, is what this backend cannot make yet: it says what it would take.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from adapters.base import Inventory
from adapters.kubernetes import native
from adapters.kubernetes.options import Options
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec
from api_spec.reasons import Reason

SPLITTERS = {
    "gateway.networking.k8s.io": "weights of Gateway API's HTTPRoute",
    "serving.knative.dev": "Knative's traffic",
}
FIELD = "/placement/kubernetes/canary"


def refusals(spec: JobSpec, inventory: Inventory | None, options: Options, backend: str) -> Iterator[Refusal]:
    percent = native.chosen(spec, options, backend).canary
    if percent is None:
        return
    served = inventory.details.get("apis", {}) if inventory is not None else {}
    ways = [how for group, how in SPLITTERS.items() if group in served]
    can = f"the cluster could by {' or '.join(ways)}, and the broker makes none yet"
    cannot = f"the cluster is not known to serve any API that could: {', '.join(SPLITTERS)}"
    why = f"{can if ways else cannot}; an update goes replica by replica"
    message = f"sends {percent} % of the calls to a new revision; {why}"
    yield Refusal(Reason.UNSUPPORTED, message, FIELD)
