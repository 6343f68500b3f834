"""A service on a real node is updated, rolled back and scaled down, and nobody who calls it notices."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pytest

from adapters.kubernetes.adapter import KubernetesAdapter
from api_spec.jobs import Health, JobSpec, Kind, Placement, Replicas, Resources, Service
from tests.contract.places import new_ref
from tests.helpers import wait_until
from tests.real.caller import Caller
from tests.real.kubernetes.image import BUSYBOX
from tests.real.kubernetes_kit import a_tenant

pytestmark = pytest.mark.process

PATIENCE_S = 60.0
# As a server that ends well: at the signal, and not before.
SERVE = """trap 'exit 0' TERM
mkdir /tmp/www && echo "$MODEL" >/tmp/www/index.html
httpd -f -p "$BROKER_PORT" -h /tmp/www &
wait"""


def service(model):
    return JobSpec(
        kind=Kind.INFERENCE,
        name="web",
        project="vision",
        image=BUSYBOX,
        command=("sh", "-c", SERVE),
        environment={"MODEL": model},
        resources=Resources(memory_per_node_mib=32),
        placement=Placement(kubernetes={"grace_s": 1}),
        service=Service(port=8000, replicas=Replicas(min=1, max=2), health=Health(path="/")),
    )


@pytest.fixture
def tenant(kubernetes_node, tmp_path):
    with a_tenant(kubernetes_node, tmp_path) as tenant:
        yield tenant


@pytest.fixture
def adapter(tenant):
    with ExitStack() as stack:
        made = KubernetesAdapter(tenant.config())
        stack.callback(made.close)
        yield made


def ready(adapter, ref, replicas):
    def there():
        seen = adapter.observe([ref]).found[ref.marker].service
        return (seen.wanted, seen.ready) == (replicas, replicas)

    wait_until(there, PATIENCE_S, f"{replicas} replicas are ready")


def only(caller, model):
    """From now on all answers are this model's."""

    def switched():
        last = caller.answers[-100:]
        return len(last) == 100 and set(last) == {model}

    try:
        wait_until(switched, PATIENCE_S)
    except AssertionError as error:
        raise AssertionError(
            f"{error}: only {model}; {caller.told}, {caller.failures[:5] or caller.unanswered[:5]}"
        ) from None


def test_no_call_fails_while_a_service_is_updated_rolled_back_and_scaled_down(tenant, adapter):
    """A replica that is told to go is still called, until every proxy has heard of it.

    Of one, since a small machine has two CPUs, and the replica that comes beside it wants one.
    """
    old, new = service("old"), service("new")
    ref = new_ref(old)
    ref = replace(ref, handle=adapter.submit(ref, old))
    ready(adapter, ref, 1)
    [there] = tenant.objects("services", ref.marker)

    with Caller(there["spec"]["clusterIP"], 8000) as caller:
        only(caller, "old")
        adapter.update(replace(ref, revision=2), new)
        only(caller, "new")
        adapter.update(replace(ref, revision=3), old)
        only(caller, "old")
        adapter.update(replace(ref, revision=3, replicas=2), old)
        ready(adapter, ref, 2)
        adapter.update(replace(ref, revision=3, replicas=1), old)
        wait_until(lambda: len(tenant.objects("pods", ref.marker)) == 1, PATIENCE_S, "one has gone")

    adapter.cancel(ref)
    wait_until(lambda: not tenant.live_pods(), PATIENCE_S, "the service is gone")
    assert caller.failures == []
