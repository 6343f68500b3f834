"""What goes wrong on a real node, with a real kubelet and containers: state, reason and message.  As root."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adapters.base import LogQuery
from api_spec.jobs import JobSpec, Kind, Placement, Resources
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.helpers import wait_until
from tests.real.kubernetes.image import BUSYBOX
from tests.real.kubernetes.layout import NODE_NAME
from tests.real.kubernetes_bench import SLOW_S, a_bench

pytestmark = pytest.mark.process

A = AttemptState
ORDER = (None, A.QUEUED, A.RUNNING, A.ENDED)


@pytest.fixture
def bench(kubernetes_node, tmp_path):
    kubernetes_node.calm()
    with a_bench(kubernetes_node, tmp_path) as bench:
        yield bench


def command(*words, memory_mib=50, image=BUSYBOX):
    return JobSpec(
        kind=Kind.BATCH,
        name="job",
        project="vision",
        image=image,
        command=words,
        resources=Resources(memory_per_node_mib=memory_mib),
        placement=Placement(kubernetes={"grace_s": 1}),
    )


def test_a_command_that_is_not_there_is_told(bench):
    seen = bench.ended(bench.submit(command("/no/such")))

    assert (seen.outcome, seen.reason) == (JobState.FAILED, Reason.LAUNCH_FAILED)
    assert "no such file or directory" in seen.message


def test_a_process_that_wants_more_memory_than_it_has_is_told(bench):
    ref = bench.submit(command("tail", "/dev/zero", memory_mib=100))

    seen = bench.ended(ref)

    assert (seen.outcome, seen.reason, seen.signal) == (JobState.FAILED, Reason.OUT_OF_MEMORY, 9)
    assert len(bench.tenant.objects("pods", ref.marker)) == 1


def test_the_node_that_failed_says_why_in_a_log_of_its_own(bench):
    text = 'echo "this is $BROKER_NODE_RANK of $PET_NNODES"; exit $((3 * BROKER_NODE_RANK))'
    wanted = command("sh", "-c", text)
    ref = bench.submit(replace(wanted, resources=replace(wanted.resources, nodes=2)))
    seen = bench.ended(ref)

    pages = [bench.adapter.logs(ref, LogQuery(node=rank)) for rank in (None, 0, 1)]

    assert (seen.reason, seen.exit_code) == (Reason.NON_ZERO_EXIT, 3)
    assert [page.data for page in pages] == [b"this is 0 of 2\n", b"this is 0 of 2\n", b"this is 1 of 2\n"]
    assert [page.note for page in pages] == ["of 2 nodes this is the log of the first", None, None]


def test_an_image_that_nobody_has_is_told_until_somebody_cancels(bench):
    """Nothing listens there, so the node asks nobody outside."""
    ref = bench.submit(command("true", image="127.0.0.1:1/none:1"))

    seen = bench.until(ref, lambda seen: seen.reason is Reason.IMAGE_PULL, SLOW_S)

    assert seen.state is A.QUEUED
    assert "127.0.0.1:1/none:1" in seen.message
    bench.adapter.cancel(ref)
    assert bench.ended(ref).outcome is JobState.CANCELLED


def test_a_pod_that_is_drained_says_so_as_long_as_it_is_there(bench):
    """Here until the test has looked; later only the Job is left, which does not say who took its pod."""
    ref = bench.run(command("sleep", "600"))
    (pod,) = bench.tenant.objects("pods", ref.marker)
    name = {"name": pod["metadata"]["name"], "namespace": bench.namespace}
    path = f"/api/v1/namespaces/{bench.namespace}/pods/{name['name']}"
    stays = [*pod["metadata"]["finalizers"], "broker-test.example.org/stays"]
    bench.api.patch(path, {"metadata": {"finalizers": stays}})

    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": name}
    bench.api.ask("POST", f"{path}/eviction", eviction)
    leaving = bench.until(ref, lambda seen: seen.message is not None)
    end = bench.ended(ref)
    bench.api.patch(path, {"metadata": {"finalizers": None}})
    wait_until(lambda: not bench.tenant.objects("pods"), SLOW_S, "its pod is gone")
    later = bench.look(ref)

    assert (leaving.state, leaving.nodes) == (A.RUNNING, (NODE_NAME,))
    assert "Eviction API: evicting" in leaving.message
    assert (end.outcome, end.reason) == (JobState.FAILED, Reason.PREEMPTED)
    assert (later.outcome, later.reason) == (JobState.FAILED, Reason.NODE_LOST)
    assert bench.copies(ref) == 1


def test_a_short_pod_need_never_be_seen_running(bench):
    ref, seen = bench.submit(command("true")), [None]

    def over():
        seen.append(bench.look(ref).state)
        return seen[-1] is A.ENDED

    wait_until(over, SLOW_S, "it ended")

    assert bench.look(ref).outcome is JobState.COMPLETED
    places = [ORDER.index(state) for state in seen]
    assert places == sorted(places), "it never goes back"


def test_a_killed_kubelet_loses_the_job_once_and_starts_nothing_again(bench):
    """The container runs on; the job is over only when the node is back, or is removed."""
    ref = bench.run(command("sleep", "86399"))
    (pod,) = bench.tenant.objects("pods", ref.marker)
    assert len(containers()) == 1

    bench.cluster.kill("kubelet")
    seen = bench.until(ref, lambda seen: seen.message is not None, SLOW_S)
    alone = containers()
    bench.cluster.start("kubelet")
    end = bench.ended(ref)

    assert (seen.state, seen.nodes) == (A.RUNNING, (NODE_NAME,))
    assert f"the pod on {NODE_NAME} is being taken away" in seen.message
    assert len(alone) == 1
    assert (end.outcome, end.reason) == (JobState.FAILED, Reason.NODE_LOST)
    wait_until(lambda: not containers(), SLOW_S, "its process is gone")
    assert {one["metadata"]["name"] for one in bench.tenant.objects("pods", ref.marker)} <= {
        pod["metadata"]["name"]
    }
    assert bench.copies(ref) == 1


def containers():
    """Processes of the job, on this machine."""
    wanted = b"sleep\x0086399\x00"
    return [folder.name for folder in Path("/proc").glob("[0-9]*") if commanded(folder) == wanted]


def commanded(folder):
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""  # it has ended
