"""Kinds as their projects publish them: ``recorded/kubernetes/schemas``, without the descriptions.

Of JobSet, KEDA and Kueue, all Apache-2.0; each file says from which release and which file of it it is.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).parent / "recorded" / "kubernetes" / "schemas"
UNKNOWN_MAY_BE = "x-kubernetes-preserve-unknown-fields"
Json = dict[str, Any]


@cache
def published(plural: str) -> Json:
    found: Json = json.loads((SCHEMAS / f"{plural}.json").read_text())
    return found


def faults(plural: str, manifest: Json) -> list[str]:
    """What the schema does not allow, and members that it does not know, which an API server would drop."""
    validator = Draft202012Validator(_strict(published(plural)["schema"]))
    found = sorted(validator.iter_errors(manifest), key=lambda one: one.json_path)
    return [f"{one.json_path}: {one.message[:200]}" for one in found]


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(one) for one in node]
    if not isinstance(node, dict):
        return node
    out = {name: _strict(one) for name, one in node.items()}
    knows_its_members = node.get("type") == "object" and isinstance(node.get("properties"), dict)
    if knows_its_members and UNKNOWN_MAY_BE not in node:
        out["additionalProperties"] = False
    return out


def definition(plural: str) -> Json:
    """A CustomResourceDefinition of the one version."""
    found = published(plural)
    version = {"name": found["version"], "served": True, "storage": True, "subresources": {"status": {}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{found['group']}",
            # Kubernetes asks that whoever defines a kind under k8s.io says where it was agreed on.
            "annotations": {"api-approved.kubernetes.io": "unapproved, a test"},
        },
        "spec": {
            "group": found["group"],
            "scope": found["scope"],
            "names": found["names"],
            "versions": [{**version, "schema": {"openAPIV3Schema": found["schema"]}}],
        },
    }
