"""What an operator may set for a Kubernetes backend: every fault is one sentence that names its key."""

from __future__ import annotations

from dataclasses import fields

import pytest

from adapters.kubernetes import loading
from adapters.kubernetes.options import FabricOptions, Impersonate, Options, Toleration

LEAST = {"kubeconfig": "/etc/kube", "namespace": "jobs"}
BY_URL = {"url": "https://k8s.example:6443", "token_file": "/etc/token", "namespace": "jobs"}


def load(**given):
    return loading.load(given, "k8s")


@pytest.mark.parametrize("given", [LEAST, BY_URL, {"in_cluster": True, "namespaces": {"vision": "v"}}])
def test_the_least_that_says_where_and_for_whom(given):
    assert load(**given)


@pytest.mark.parametrize(
    "of, readers",
    [
        (Options, loading.READERS),
        (FabricOptions, loading.FABRIC),
        (Toleration, loading.TOLERATION),
        (Impersonate, loading.IMPERSONATE),
    ],
)
def test_every_option_is_read(of, readers):
    assert set(readers) == {one.name for one in fields(of)}


WELL = {
    "a class with dots": {"preemptible": "team.low", "priorities": {"high": "team.high"}},
    "a group": {
        "node_groups": [{"labels": {"a": "b"}, "resources": {"cpu": 1.5, "memory": "1Gi"}, "most": 9}]
    },
    "all taints": {"tolerations": [{}]},
    "a taint": {"tolerations": [{"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute"}]},
    "racks": {"rack_label": "topology.kubernetes.io/rack"},
    "a prometheus": {"prometheus": "http://prometheus.monitoring:9090/prefix"},
    "a fabric": {"fabrics": {"rdma": {"resource": "rdma/shared_a", "node_labels": {"a": "b"}}}},
}


@pytest.mark.parametrize("case", WELL)
def test_what_is_well_is_taken(case):
    assert load(**LEAST, **WELL[case])


FAULTS = {
    "kubeconfig": {"kubeconfig": "kube"},
    "context": {"context": "a\nb"},
    "in_cluster": {"in_cluster": "yes"},
    "exactly one": {"in_cluster": True},
    "namespace": {"namespace": "Jobs"},
    "namespaces.vision": {"namespaces": {"vision": "../x"}},
    "connect_s": {"connect_s": 0},
    "answer_s": {"answer_s": True},
    "settle_s": {"settle_s": "1m"},
    "service_account": {"service_account": "system:admin"},
    "image_pull_secrets[0]": {"image_pull_secrets": ["A b"]},
    "image_pull_secrets is a list": {"image_pull_secrets": "one"},
    "runtime_class": {"runtime_class": "N/V"},
    "rack_label": {"rack_label": "a b"},
    "prometheus is such as": {"prometheus": "prometheus:9090"},
    "prometheus": {"prometheus": "http://me:secret@prometheus:9090"},
    "prometheus is": {"prometheus": "file:///etc/passwd"},
    "run_as_user": {"run_as_user": 0},
    "run_as_group": {"run_as_group": -1},
    "priorities has a row for urgent": {"priorities": {"urgent": "x"}},
    "priorities.high": {"priorities": {"high": "System Critical"}},
    "preemptible": {"preemptible": ""},
    "tolerations is a list": {"tolerations": {"key": "a"}},
    "tolerations[0].effect": {"tolerations": [{"effect": "Never"}]},
    "tolerations[0].value goes with": {"tolerations": [{"key": "a", "value": "b"}]},
    "tolerations[1].key is missing": {"tolerations": [{"key": "a"}, {"operator": "Equal", "value": "b"}]},
    "node_groups is a list": {"node_groups": {"most": 1}},
    "node_groups[0].labels is missing": {
        "node_groups": [{"resources": {"cpu": 1, "memory": "1Gi"}, "most": 1}]
    },
    "node_groups[0].most is missing": {"node_groups": [{"labels": {"a": "b"}, "resources": {"cpu": 1}}]},
    "node_groups[0].resources has no memory": {
        "node_groups": [{"labels": {"a": "b"}, "resources": {"cpu": 1}, "most": 1}]
    },
    "node_groups[0].resources.cpu is an amount": {
        "node_groups": [{"labels": {"a": "b"}, "resources": {"cpu": "many", "memory": 1}, "most": 1}]
    },
    "node_groups[0].most is a whole number": {"node_groups": [{"most": 0}]},
    "node_groups[0].most is at most 5000": {
        "node_groups": [{"labels": {"a": "b"}, "resources": {"cpu": 1, "memory": "1Gi"}, "most": 5001}]
    },
    "node_groups[0].size": {"node_groups": [{"size": 1}]},
    "tolerations[0].seconds": {"tolerations": [{"seconds": 3}]},
    "gpu_resource": {"gpu_resource": "nvidia gpu"},
    "gpu_types.h100": {"gpu_types": {"h100": 1}},
    "mig_profiles.1g": {"mig_profiles": {"1g": "a b"}},
    "fabrics has a row for ethernet": {"fabrics": {"ethernet": {}}},
    "fabrics.rdma.ipc_lock": {"fabrics": {"rdma": {"ipc_lock": 1}}},
    "fabrics.rdma.resource": {"fabrics": {"rdma": {"resource": "rdma//a"}}},
    "fabrics.rdma.hostPath": {"fabrics": {"rdma": {"hostPath": "/"}}},
    "environment.BROKER_X": {"environment": {"BROKER_X": "1"}},
    "shared_memory_mib": {"shared_memory_mib": 0},
    "outputs_claim": {"outputs_claim": "Data"},
    "keep_s": {"keep_s": 0},
    "domain": {"domain": ""},
    "no option hostNetwork": {"hostNetwork": True},
}


@pytest.mark.parametrize("words", FAULTS)
def test_a_fault_names_its_key(words):
    with pytest.raises(ValueError) as raised:
        load(**{**LEAST, **FAULTS[words]})

    assert str(raised.value).startswith("k8s: ")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


CONTRADICTIONS = {
    "exactly one of kubeconfig, in_cluster and url": {"namespace": "jobs"},
    "token_file is missing": {**BY_URL, "token_file": None},
    "url is such as https": {**BY_URL, "url": "http://k8s.example"},
    "not 'https://a:b@c'": {**BY_URL, "url": "https://a:b@c"},
    "not 'https://k8s:x'": {**BY_URL, "url": "https://k8s:x"},
    "context goes with kubeconfig": {**BY_URL, "context": "a"},
    "ca_file and token_file go with url": {**LEAST, "ca_file": "/etc/ca"},
    "namespace (of all projects)": {"kubeconfig": "/etc/kube"},
}


@pytest.mark.parametrize("words", CONTRADICTIONS)
def test_what_contradicts_itself_is_a_fault(words):
    with pytest.raises(ValueError) as raised:
        load(**CONTRADICTIONS[words])

    assert words in str(raised.value)
