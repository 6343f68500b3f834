"""What the broker may send to a cluster, as tables that each object is held to after it was rendered.

``pods`` builds from nothing but what it names.  This is the second lock: a path or the network of the host, a
privilege, a node's name, another namespace, a foreign label are in no row, whatever rendered them.  Pure.

A row is a table of members, a list of what each item has to be, or a condition on the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from adapters.errors import Rejected
from adapters.kubernetes import kueue, names
from adapters.kubernetes.environment import INDEX
from adapters.kubernetes.names import BROKER, SCRIPT, TASKS, Manifest, member
from adapters.kubernetes.options import Options
from adapters.kubernetes.resources import (
    AUTOSCALERS,
    BUDGETS,
    CLAIM_TEMPLATES,
    DEPLOYMENTS,
    JOB_SETS,
    JOBS,
    SCALED_OBJECTS,
    SERVICES,
)

Rule = Any
FIELDS = frozenset({INDEX, "metadata.name", *(f"metadata.annotations['{one}']" for one in (SCRIPT, TASKS))})
LABELS = frozenset(
    {names.MANAGED_BY, names.INSTANCE, names.MARKER, names.REVISION, kueue.QUEUE, kueue.PRIORITY}
)
ANNOTATIONS = re.compile(
    rf"(label\.)?{BROKER}/.+|k8s\.v1\.cni\.cncf\.io/networks|prometheus\.io/(scrape|port|path)"
)
FOLDER = re.compile(r"[0-9A-Za-z]+/[0-9]+")
"""Of outputs, in their claim."""


def text(value: Any) -> bool:
    return isinstance(value, str)


def number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def user(value: Any) -> bool:
    """Not root."""
    return number(value) and value > 0


def folder(value: Any) -> bool:
    return text(value) and FOLDER.fullmatch(value) is not None


def truth(value: Any) -> bool:
    return isinstance(value, bool)


def texts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(one, str) for one in [*value, *value.values()])


def only(*values: Any) -> Callable[[Any], bool]:
    return lambda value: any(type(value) is type(one) and value == one for one in values)


def keys(good: Callable[[str], Any]) -> Callable[[Any], bool]:
    return lambda value: texts(value) and all(good(name) for name in value)


# fmt: off
OURS = {"matchLabels": keys(only(names.MARKER))}
PROBE = {
    "httpGet": {"path": text, "port": number},
    "periodSeconds": number, "failureThreshold": number, "timeoutSeconds": number,
}
ENV = {
    "name": text, "value": text,
    "valueFrom": {"fieldRef": {"fieldPath": only(*FIELDS)}, "secretKeyRef": {"name": text, "key": text}},
}
MOUNT = {"name": text, "mountPath": text, "readOnly": truth, "subPath": folder}
CONTAINER = {
    "name": only(names.MAIN), "image": text, "command": [text], "args": [text], "workingDir": text,
    "env": [ENV],
    "resources": {"requests": texts, "limits": texts, "claims": [{"name": text}]},
    "volumeMounts": [MOUNT],
    "securityContext": {
        "allowPrivilegeEscalation": only(False),
        "capabilities": {"drop": [only("ALL")], "add": [only("IPC_LOCK")]},
    },
    "terminationMessagePolicy": text,
    "ports": [{"name": text, "containerPort": number}],
    "startupProbe": PROBE, "readinessProbe": PROBE, "livenessProbe": PROBE,
    "lifecycle": {"preStop": {"sleep": {"seconds": number}}},
}
VOLUME = {
    "name": text,
    "emptyDir": {"medium": only("Memory"), "sizeLimit": text},
    "persistentVolumeClaim": {"claimName": text, "readOnly": truth},
    "configMap": {"name": text},
    "secret": {"secretName": text},
    "downwardAPI": {
        "defaultMode": number,
        "items": [{"path": only("script", "tasks"), "fieldRef": {"fieldPath": only(*FIELDS)}}],
    },
}
BESIDE = {"topologyKey": text, "labelSelector": OURS}
PLACES = {
    "topologySpreadConstraints": [{
        **BESIDE, "maxSkew": number, "whenUnsatisfiable": text, "matchLabelKeys": [only(names.REVISION)],
    }],
    "affinity": {"podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [BESIDE],
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": number, "podAffinityTerm": BESIDE}],
    }},
    "nodeSelector": texts,
    "tolerations": [{"key": text, "operator": text, "value": text, "effect": text}],
}
SERVICE = {
    "clusterIP": only("None"), "publishNotReadyAddresses": truth, "selector": keys(only(names.MARKER)),
    "ports": [{"name": text, "port": number, "targetPort": text}],
}
OF_THE_DEPLOYMENT = {"apiVersion": only(DEPLOYMENTS.group), "kind": only(DEPLOYMENTS.kind), "name": text}
METRIC = {"name": text, "selector": {"matchLabels": texts}}
TARGET = {"type": text, "averageUtilization": number, "averageValue": text}
AUTOSCALER = {
    "scaleTargetRef": OF_THE_DEPLOYMENT, "minReplicas": number, "maxReplicas": number,
    "metrics": [{
        "type": text,
        "resource": {"name": text, "target": TARGET},
        "pods": {"metric": METRIC, "target": TARGET},
        "external": {"metric": METRIC, "target": TARGET},
    }],
}
BUDGET = {"maxUnavailable": number, "selector": OURS}
CLAIM = {"spec": {"devices": {"requests": [{"name": text, "exactly": {
    "deviceClassName": text, "allocationMode": text, "count": number,
    "selectors": [{"cel": {"expression": text}}],
}}]}}}
# fmt: on


def scaled_object(options: Options) -> Rule:
    """KEDA asks from where it stands, so it asks nobody but the backend's own Prometheus."""
    asked = {"serverAddress": only(options.prometheus), "query": text, "threshold": text}
    return {
        "scaleTargetRef": OF_THE_DEPLOYMENT,
        "minReplicaCount": number,
        "maxReplicaCount": number,
        "triggers": [{"type": only("prometheus"), "metadata": asked}],
    }


def pod(options: Options) -> Rule:
    """What the operator's configuration names, and nobody else, is taken from it."""
    priorities = (*options.priorities.values(), options.preemptible)
    return {
        **PLACES,
        "automountServiceAccountToken": only(False),
        "enableServiceLinks": only(False),
        "securityContext": {
            "runAsNonRoot": only(True),
            "runAsUser": user,
            "runAsGroup": number,
            "fsGroup": number,
            "seccompProfile": {"type": only("RuntimeDefault")},
        },
        "terminationGracePeriodSeconds": number,
        "activeDeadlineSeconds": number,
        "restartPolicy": only("Never"),
        "subdomain": text,
        "containers": [CONTAINER],
        "volumes": [VOLUME],
        "resourceClaims": [{"name": text, "resourceClaimTemplateName": text}],
        "runtimeClassName": only(options.runtime_class),
        "serviceAccountName": only(options.service_account),
        "imagePullSecrets": [{"name": only(*options.image_pull_secrets)}],
        "priorityClassName": only(*priorities),
    }


def specs(options: Options) -> Mapping[str, Rule]:
    """Of each kind that there may be."""
    template = {
        "metadata": {"labels": keys(LABELS.__contains__), "annotations": keys(ANNOTATIONS.fullmatch)},
        "spec": pod(options),
    }
    job = {
        **dict.fromkeys(("completions", "parallelism", "ttlSecondsAfterFinished", "backoffLimit"), number),
        **dict.fromkeys(("backoffLimitPerIndex", "maxFailedIndexes"), number),
        **dict.fromkeys(("completionMode", "podReplacementPolicy"), text),
        "suspend": truth,
        "podFailurePolicy": anything,
        "template": template,
    }
    deployment = {
        **dict.fromkeys(("replicas", "progressDeadlineSeconds", "revisionHistoryLimit"), number),
        "selector": OURS,
        "strategy": anything,
        "template": template,
    }
    job_set = {
        **dict.fromkeys(("network", "successPolicy", "failurePolicy"), anything),
        "suspend": truth,
        "ttlSecondsAfterFinished": number,
        "replicatedJobs": [{"name": text, "replicas": number, "template": {"spec": job}}],
    }
    return {
        JOBS.kind: job,
        DEPLOYMENTS.kind: deployment,
        JOB_SETS.kind: job_set,
        SERVICES.kind: SERVICE,
        AUTOSCALERS.kind: AUTOSCALER,
        SCALED_OBJECTS.kind: scaled_object(options),
        BUDGETS.kind: BUDGET,
        CLAIM_TEMPLATES.kind: CLAIM,
    }


def anything(_: Any) -> bool:
    """What can name nothing outside of its object."""
    return True


# ---- held to them ------------------------------------------------------------------------------------


def check(objects: Sequence[Manifest], namespace: str, options: Options) -> None:
    """Raises ``Rejected`` with all that is in no row."""
    found = [one for each in objects for one in outside(each, namespace, options)]
    if found:
        raise Rejected(f"what was rendered has what the broker never sends: {', '.join(found)}")


def outside(manifest: Any, namespace: str, options: Options) -> list[str]:
    """Pointers to what is in no row."""
    known, kind = specs(options), member(manifest, "kind")
    if not isinstance(kind, str) or kind not in known:
        return ["/kind"]
    whole = {
        "apiVersion": text,
        "kind": text,
        "metadata": {
            "name": text,
            "namespace": only(namespace),
            "labels": keys(LABELS.__contains__),
            "annotations": keys(ANNOTATIONS.fullmatch),
        },
        "spec": known[kind],
    }
    return list(_outside(manifest, whole, ""))


def _outside(value: Any, rule: Rule, at: str) -> Iterator[str]:
    if isinstance(rule, Mapping):
        if not isinstance(value, Mapping):
            yield at
            return
        for name, one in value.items():
            if name in rule:
                yield from _outside(one, rule[name], f"{at}/{name}")
            else:
                yield f"{at}/{name}"
    elif isinstance(rule, list):
        if not isinstance(value, list):
            yield at
            return
        for place, one in enumerate(value):
            yield from _outside(one, rule[0], f"{at}/{place}")
    elif not rule(value):
        yield at
