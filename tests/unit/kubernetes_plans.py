"""Jobs as the objects that the broker renders of them: of project ``vision``, in its namespace."""

from __future__ import annotations

from dataclasses import replace

from adapters.kubernetes import loading, render
from tests.contract.places import new_ref
from tests.fakes import INSTANCE
from tests.unit.kubernetes_objects import MARKER

GIVEN = {"kubeconfig": "/etc/kube", "namespace": "jobs", "namespaces": {"vision": "ml-vision"}}


def options(**changes):
    return loading.load({**GIVEN, **changes}, "k8s")


def ref(wanted, **changes):
    same = {"marker": MARKER, "job_id": "01JABCDEFGHJKMNPQRSTVWXYZ0", "submitted_at": None}
    return new_ref(wanted, **{**same, **changes})


def plan(wanted, **changes):
    given = changes.pop("options", options())
    wanted = replace(wanted, image=wanted.image or "registry.example/train:1")
    return render.plan(wanted, ref(wanted, **changes), given, INSTANCE, "k8s")


def pod(wanted, **changes):
    return plan(wanted, **changes).root["spec"]["template"]


def container(wanted, **changes):
    return pod(wanted, **changes)["spec"]["containers"][0]


def environment(wanted, **changes):
    return {
        one["name"]: one.get("value", one.get("valueFrom")) for one in container(wanted, **changes)["env"]
    }
