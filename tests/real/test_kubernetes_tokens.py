"""Tokens of a real Kubernetes that end or are revoked, and are renewed where the broker reads them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from adapters.errors import Busy
from adapters.kubernetes.adapter import KubernetesAdapter
from api_spec.reasons import Reason
from api_spec.states import AttemptState
from tests.contract.places import new_ref
from tests.helpers import wait_until
from tests.real.kubernetes import pki
from tests.real.kubernetes.tokens import ending_in
from tests.real.kubernetes_bench import bench
from tests.real.kubernetes_jobs import job
from tests.real.kubernetes_kit import ACCOUNT, HOME

__all__ = ["bench"]  # a fixture

pytestmark = pytest.mark.process

A = AttemptState
REMEMBERED_S = 40.0  # at most: the API server remembers a token that was good for 10 s
SHORT_S = 3.0


def url_and_token_file(bench, token_file):
    options = {"url": bench.cluster.url, "ca_file": str(bench.cluster.ca_file), "kubeconfig": None}
    return {**options, "token_file": str(token_file)}


def kubeconfig_with_a_token_file(bench, token_file):
    path = bench.tenant.folder / "kubeconfig-of-a-file"
    cluster = {"server": bench.cluster.url, "certificate-authority": str(bench.cluster.ca_file)}
    path.write_text(json.dumps(kubeconfig(cluster, {"tokenFile": str(token_file)})))
    return {"kubeconfig": str(path)}


def kubeconfig_with_a_plug_in(bench, token_file):
    """It is asked again when the API server no longer takes what it gave."""
    program = bench.tenant.folder / "plug-in"
    given = '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}'
    program.write_text(f"#!/bin/sh\nprintf '{given}' \"$(cat {token_file})\"\n")
    program.chmod(0o700)
    plug_in = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(program),
        "interactiveMode": "Never",
    }
    path = bench.tenant.folder / "kubeconfig-of-a-plug-in"
    cluster = {"server": bench.cluster.url, "certificate-authority": str(bench.cluster.ca_file)}
    path.write_text(json.dumps(kubeconfig(cluster, {"exec": plug_in})))
    return {"kubeconfig": str(path)}


def kubeconfig(cluster, user):
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "it", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "current-context": "it",
    }


def adapter_with(bench, options):
    config = bench.tenant.config()
    adapter = KubernetesAdapter(replace(config, options={**config.options, **options}))
    bench.stack.callback(adapter.close)
    return adapter


WAYS = {
    "token_file": url_and_token_file,
    "kubeconfig": kubeconfig_with_a_token_file,
    "plug-in": kubeconfig_with_a_plug_in,
}


def test_a_token_that_has_ended_is_told_and_the_next_one_is_read_wherever_it_stands(bench):
    """All three ways at once, because a token that was good is remembered for ten seconds."""
    ref = bench.run(job("hang"))
    key = bench.cluster.layout.key(pki.SERVICE_ACCOUNTS)
    file = bench.tenant.folder / "token"
    file.write_text(ending_in(bench.tenant.token, SHORT_S, key))
    adapters = {}
    for way, options in WAYS.items():
        adapters[way] = adapter_with(bench, options(bench, file))
        assert adapters[way].observe([ref]).found[ref.marker].state is A.RUNNING

    wait_until(lambda: all(map(is_refused, adapters.values())), REMEMBERED_S, "the token has ended")
    later = new_ref(job())
    for adapter in adapters.values():
        with pytest.raises(Busy, match="does not take the broker's token") as refused:
            adapter.submit(later, job())
        assert refused.value.reason is Reason.BACKEND_DOWN
    assert bench.copies(later) == 0
    file.write_text(bench.tenant.token)

    for way, adapter in adapters.items():
        assert adapter.observe([ref]).found[ref.marker].state is A.RUNNING, way


def is_refused(adapter):
    try:
        adapter.observe([new_ref(job())])
    except Busy as error:
        return "does not take the broker's token" in str(error)
    return False


def test_a_token_that_was_revoked_is_told_and_the_next_one_is_read(bench):
    """It was bound to a Secret that somebody has deleted."""
    ref = bench.run(job("hang"))
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"of-{ref.job_id}", "namespace": HOME},
    }
    uid = bench.api.create(secret)["metadata"]["uid"]
    file = bench.tenant.folder / "token"
    bound = {"kind": "Secret", "apiVersion": "v1", "name": secret["metadata"]["name"], "uid": uid}
    file.write_text(token_bound_to(bench, bound))
    adapter = adapter_with(bench, url_and_token_file(bench, file))
    assert adapter.observe([ref]).found

    bench.api.delete(f"/api/v1/namespaces/{HOME}/secrets/{secret['metadata']['name']}")

    wait_until(lambda: is_refused(adapter), REMEMBERED_S, "the token is refused")
    file.write_text(bench.tenant.token)
    assert adapter.observe([ref]).found[ref.marker].state is A.RUNNING


def token_bound_to(bench, bound):
    path = f"/api/v1/namespaces/{HOME}/serviceaccounts/{ACCOUNT}/token"
    wanted = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 600, "boundObjectRef": bound},
    }
    return json.loads(bench.api.ask("POST", path, wanted))["status"]["token"]
