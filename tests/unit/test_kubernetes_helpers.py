"""What the helpers of the real Kubernetes say when there is none, and what they refuse."""

from __future__ import annotations

import json

import pytest

from tests.real.kubernetes import parts
from tests.real.kubernetes.api import Api, place_of
from tests.real.kubernetes.install import PROGRAMS, Install
from tests.real.kubernetes.layout import LISTENERS, Layout
from tests.real.kubernetes.stages import OUTCOMES, stages

CLUSTER = {"server": "http://127.0.0.1:1"}


def test_what_is_not_built_is_named_with_the_command_that_builds_it(tmp_path):
    (tmp_path / "kwok").touch(0o755)

    missing = Install(tmp_path).missing

    assert missing is not None
    assert missing.startswith(
        "Kubernetes is not built: plane, metrics-server (tests/real/kubernetes/plane/build.sh"
    )


def test_nothing_is_missing_where_all_programs_are(tmp_path):
    for name in PROGRAMS:
        (tmp_path / name).touch(0o755)

    assert Install(tmp_path).missing is None


@pytest.mark.parametrize(
    "kind, group, path",
    [
        ("Pod", "v1", "/api/v1/namespaces/n/pods"),
        ("Job", "batch/v1", "/apis/batch/v1/namespaces/n/jobs"),
        ("NetworkPolicy", "networking.k8s.io/v1", "/apis/networking.k8s.io/v1/namespaces/n/networkpolicies"),
        ("Ingress", "networking.k8s.io/v1", "/apis/networking.k8s.io/v1/namespaces/n/ingresses"),
        (
            "Gateway",
            "gateway.networking.k8s.io/v1",
            "/apis/gateway.networking.k8s.io/v1/namespaces/n/gateways",
        ),
    ],
)
def test_an_object_is_created_where_its_kind_belongs(kind, group, path):
    assert place_of({"apiVersion": group, "kind": kind, "metadata": {"namespace": "n"}}) == path


def test_an_object_without_a_namespace_belongs_to_the_cluster():
    assert place_of({"apiVersion": "v1", "kind": "Node", "metadata": {}}) == "/api/v1/nodes"


def test_a_kubeconfig_is_read_as_it_was_written(tmp_path):
    path = parts.write_kubeconfig(tmp_path / "config", CLUSTER, {"token": "secret"})

    assert Api(path).server.port == 1
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("way", ["exec", "auth-provider"])
def test_a_way_to_sign_in_that_is_not_known_is_refused(tmp_path, way):
    """Else everything would be asked by nobody, and refused as if rights were missing."""
    path = parts.write_kubeconfig(tmp_path / "config", CLUSTER, {way: {}})

    with pytest.raises(ValueError, match=f"cannot sign in with {way}"):
        Api(path)


def test_no_two_parts_listen_on_one_port(tmp_path):
    at = Layout(tmp_path, 20000)

    assert len({at.port(name) for name in LISTENERS}) == len(LISTENERS)


def test_every_outcome_is_known_to_some_stage():
    told = json.dumps(stages())

    assert [outcome for outcome in OUTCOMES if f'"{outcome}"' not in told] == []
