"""What a real API server refuses for others: an admission webhook, and a quota that was used up meanwhile."""

from __future__ import annotations

import json
import time

import pytest

from adapters.base import Unsettled
from adapters.errors import Busy, Rejected
from api_spec.jobs import Resources, ScaleOn
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests import limit_ranges
from tests.contract.places import new_ref
from tests.helpers import wait_until
from tests.real.kubernetes.api import ApiError
from tests.real.kubernetes.webhook import ALLOWED, Webhook, denied
from tests.real.kubernetes_bench import bench
from tests.real.kubernetes_jobs import ON_TWO, job, service

__all__ = ["bench"]  # a fixture

pytestmark = pytest.mark.process

A = AttemptState


@pytest.fixture
def webhook(bench):
    with Webhook(bench.cluster, bench.namespace) as webhook:

        def is_asked():
            bench.adapter.check()  # its trial is a Job that is not kept
            return webhook.asked

        wait_until(is_asked, 30, "the API server asks the webhook")
        yield webhook


def test_what_a_webhook_refuses_is_refused_for_good(bench, webhook):
    """It has read the object; it would say so again."""
    webhook.verdict = denied("images must have a digest")
    ref = new_ref(job())

    with pytest.raises(Rejected, match="denied the request: images must have a digest"):
        bench.adapter.submit(ref, job())

    assert bench.copies(ref) == 0
    (trial,) = [one for one in bench.adapter.check() if one.subject == "trial"]
    assert "images must have a digest" in trial.message


def test_a_webhook_that_is_out_of_order_refuses_nothing_for_good(bench, webhook):
    webhook.verdict = denied("no database", code=500)

    with pytest.raises(Busy, match="no database"):
        bench.submit(job())
    webhook.verdict = ALLOWED

    assert bench.ended(bench.submit(job())).outcome is JobState.COMPLETED


def test_while_a_webhook_is_away_nothing_was_done_and_all_is_sent_again(bench, webhook):
    """It is asked before anything is stored: so it is Busy, and neither refused for good nor unconfirmed, and
    the backend is not left alone, for reading goes on."""
    running = bench.run(job("hang"))
    webhook.goes_away()
    ref = new_ref(job())

    with pytest.raises(Busy, match="failed calling webhook") as refused:
        bench.adapter.submit(ref, job())

    assert refused.value.reason is not Reason.BACKEND_DOWN
    assert isinstance(bench.adapter.find(ref.marker, time.time()), Unsettled)
    assert bench.look(running).state is A.RUNNING
    assert bench.copies(ref) == 0
    webhook.comes_back()
    wait_until(lambda: submitted(bench, ref), 30, "the API server finds the webhook again")
    assert bench.copies(ref) == 1


def submitted(bench, ref, spec=None):
    try:
        return bench.adapter.submit(ref, spec or job())
    except Busy:
        return None


LIMITS = {
    **{name: (rows, 1024, True) for name, (rows, _) in limit_ranges.REFUSED.items()},
    **{name: (rows, 1024, False) for name, rows in limit_ranges.ALLOWED.items()},
    **{name: (rows, None, told is not None) for name, (rows, told) in limit_ranges.WITHOUT_MEMORY.items()},
}


@pytest.mark.parametrize("case", LIMITS)
def test_what_a_limit_range_refuses_is_told_before(bench, case):
    """The broker and the API server look at the same pod, and agree."""
    rows, memory_mib, refused = LIMITS[case]
    limit = {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "small"},
        "spec": {"limits": rows},
    }
    limit["metadata"]["namespace"] = bench.namespace
    bench.api.create(limit)
    wanted = job(resources=Resources(cpus_per_task=4, memory_per_node_mib=memory_mib))
    rendered = json.loads(bench.adapter.render(wanted, new_ref(wanted)))["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": rendered["spec"]}
    pod["metadata"] = {"generateName": "tried-", "namespace": bench.namespace}

    def said():
        try:
            bench.api.ask("POST", f"/api/v1/namespaces/{bench.namespace}/pods?dryRun=All", pod)
        except ApiError as error:
            return str(error)
        return None

    told = bench.adapter.refusals(wanted, bench.adapter.inventory())
    if not refused:
        assert (told, said()) == ([], None)
    else:
        assert [one.code for one in told] == [Reason.NEVER_FITS]
        assert wait_until(said, 20, "the API server knows the LimitRange")


def test_a_service_of_which_a_part_is_refused_is_not_made_by_halves(bench):
    scaled = service(scale_on=ScaleOn(metric="cpu", target=70))
    ref = new_ref(scaled)
    counted = "count/horizontalpodautoscalers.autoscaling"
    path = bench.tenant.limit({counted: "0"})

    with pytest.raises(Busy, match="exceeded quota"):
        bench.adapter.submit(ref, scaled)

    kinds = ("deployments", "services", "pods")
    assert [bench.tenant.objects(kind, ref.marker) for kind in kinds] == [[], [], []]
    bench.api.patch(path, {"spec": {"hard": {counted: "1"}}})
    wait_until(lambda: submitted(bench, ref, scaled), 30, "there is room")
    assert all(len(bench.tenant.objects(kind, ref.marker)) == 1 for kind in kinds[:2])


def test_a_quota_that_is_used_up_after_the_job_was_taken_is_told(bench):
    """The Job stands and has one of its pods; it gets the other when there is room, and no third."""
    both = job("hang", resources=ON_TWO)
    ref = new_ref(both)
    hold = bench.run(job("hang"))
    path = bench.tenant.limit({"pods": "2"})
    handle = bench.adapter.submit(ref, both)

    seen = bench.until(ref, lambda seen: seen.reason is Reason.QUOTA_EXCEEDED)
    assert (seen.state, seen.handle) == (A.QUEUED, handle)
    assert "exceeded quota" in seen.message
    assert len(bench.tenant.objects("pods", ref.marker)) == 1
    bench.adapter.cancel(hold)
    bench.api.patch(path, {"spec": {"hard": {"pods": "5"}}})

    bench.until(ref, lambda seen: seen.state is A.RUNNING, 60)
    assert len(bench.tenant.objects("pods", ref.marker)) == 2
    assert bench.copies(ref) == 1
