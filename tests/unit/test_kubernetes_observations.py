"""What a Job and its pods say of an attempt: every rule, in any order in which the cluster tells."""

from __future__ import annotations

import pytest

from adapters.kubernetes import names, observations
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.unit.kubernetes_objects import (
    BEGAN_S,
    ENDED_S,
    MARKER,
    RUNNING,
    bundle,
    condition,
    event,
    job,
    pod,
    terminated,
    waiting,
)

A, J = AttemptState, JobState
COMPLETE = condition("Complete", "CompletionsReached")
FAILED = condition("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
TAKEN = f"Pod jobs/{MARKER}-0-abcde has condition DisruptionTarget matching FailJob rule at index 0"
SUSPENDED = condition("Suspended", "JobSuspended")
CANCELLED = {names.CANCELLED: "2026-01-01T00:00:15+00:00"}


def seen(root, *pods, tasks=(), events=()):
    return observations.of_job(bundle(root, *pods, events=events), tasks)


def unscheduled(message):
    return pod("Pending", None, condition("PodScheduled", "Unschedulable", message, "False"))


# ---- while it lasts --------------------------------------------------------------------------------------

WAITS = {
    "no pod yet": ((), Reason.STARTING, "its pods have not been made yet"),
    "no room": (
        (unscheduled("0/3 nodes are available: 3 Insufficient cpu."),),
        Reason.CAPACITY,
        "0/3 nodes are available: 3 Insufficient cpu.",
    ),
    "no claim": (
        (unscheduled('persistentvolumeclaim "data" not found'),),
        Reason.INVALID_SPEC,
        'persistentvolumeclaim "data" not found',
    ),
    "claim not bound": (
        (unscheduled("pod has unbound immediate PersistentVolumeClaims"),),
        Reason.STARTING,
        "pod has unbound immediate PersistentVolumeClaims",
    ),
    "image": ((pod("Pending", waiting("ErrImagePull", "not found")),), Reason.IMAGE_PULL, "not found"),
    "image name": ((pod("Pending", waiting("InvalidImageName")),), Reason.IMAGE_PULL, "InvalidImageName"),
    "secret": (
        (pod("Pending", waiting("CreateContainerConfigError", 'secret "x" not found')),),
        Reason.INVALID_SPEC,
        'secret "x" not found',
    ),
    "being made": ((pod("Pending", waiting("ContainerCreating")),), Reason.STARTING, "ContainerCreating"),
    "a new word": ((pod("Pending", waiting("Pondering", "wait")),), Reason.STARTING, "wait"),
    "placed": ((pod("Pending", None, condition("PodScheduled")),), Reason.STARTING, None),
}


@pytest.mark.parametrize("case", WAITS)
def test_why_it_waits(case):
    pods, reason, message = WAITS[case]
    found = seen(job(), *pods)

    assert (found.state, found.reason, found.message) == (A.QUEUED, reason, message)


def test_a_held_job_says_so():
    found = seen(job(SUSPENDED, suspend=True))

    assert (found.state, found.reason, found.native_state) == (A.QUEUED, Reason.HELD, "Suspended")


def test_of_several_reasons_the_one_of_precedence_is_shown():
    pods = [
        pod("Pending", waiting("ContainerCreating"), index=0),
        pod("Pending", waiting("ErrImagePull"), index=1),
    ]

    assert seen(job(count=2), *pods).reason is Reason.IMAGE_PULL


def test_what_keeps_pods_from_being_made_is_said_by_the_last_event():
    events = (
        event(
            "FailedCreate", 'pods "a" is forbidden: violates PodSecurity "restricted"', "2026-01-01T00:00:01Z"
        ),
        event("FailedCreate", 'pods "b" is forbidden: exceeded quota: small', "2026-01-01T00:00:02Z"),
        event("SuccessfulCreate", "created", "2026-01-01T00:00:03Z"),
    )
    found = seen(job(), events=events)

    assert (found.reason, found.message) == (Reason.QUOTA_EXCEEDED, events[1]["message"])


def test_a_job_runs_when_its_container_has_started():
    found = seen(job(), pod("Running", RUNNING))

    assert (found.state, found.started_at, found.nodes) == (A.RUNNING, BEGAN_S, ("node-0",))


def test_a_job_on_several_nodes_runs_when_all_have_started():
    """Without a gang some may wait for long: that is said, and is not RUNNING."""
    one, other = pod("Running", RUNNING, index=0), pod("Pending", waiting("ContainerCreating"), index=1)

    found = seen(job(count=2), one, other)

    assert (found.state, found.message) == (A.QUEUED, "1 of 2 pods have started; ContainerCreating")
    assert seen(job(count=2), one, pod("Running", RUNNING, index=1)).state is A.RUNNING


def test_a_job_of_which_a_pod_was_not_made_says_so():
    found = seen(job(count=3), pod("Running", RUNNING, index=0))

    assert (found.state, found.message) == (A.QUEUED, "1 of 3 pods have been made")


QUOTA = event("FailedCreate", 'pods "a" is forbidden: exceeded quota: small', "2026-01-01T00:00:02Z")
NO_ROOM = condition("PodScheduled", "Unschedulable", "0/1 nodes: Insufficient cpu", status="False")
REST = {
    "quota": ((), (QUOTA,), f"other tasks wait: {QUOTA['message']}"),
    "no room": (
        (pod("Pending", None, NO_ROOM, index=1),),
        (),
        "other tasks wait: 0/1 nodes: Insufficient cpu",
    ),
    "one starts": ((pod("Pending", waiting("ContainerCreating"), index=1),), (), None),
    "quota of before": (tuple(pod("Running", RUNNING, index=one) for one in (1, 2)), (QUOTA,), None),
    "the others are over": (
        tuple(pod("Succeeded", terminated(), index=one) for one in (1, 2)),
        (QUOTA,),
        None,
    ),
}


@pytest.mark.parametrize("case", REST)
def test_an_array_that_runs_says_why_its_other_tasks_do_not(case):
    others, events, message = REST[case]

    found = seen(job(count=3), pod("Running", RUNNING, index=0), *others, events=events, tasks=(0, 1, 2))

    assert (found.state, found.message) == (A.RUNNING, message)


def test_a_pod_that_is_being_taken_is_told_while_its_job_runs():
    taken = condition("DisruptionTarget", "DeletionByTaintManager", "Taint manager: deleting")
    found = seen(job(), pod("Running", RUNNING, taken))

    assert (found.state, found.reason) == (A.RUNNING, None)
    assert found.message == "the pod on node-0 is being taken away: Taint manager: deleting"


# ---- what comes in another order -------------------------------------------------------------------------


def test_a_pod_that_was_never_seen_running_has_run():
    found = seen(job(), pod("Succeeded", terminated()))

    assert (found.state, found.started_at) == (A.RUNNING, BEGAN_S)


def test_a_pod_whose_container_has_ended_before_its_phase_says_so_has_run():
    assert seen(job(), pod("Pending", terminated(3, "Error"))).state is A.RUNNING


@pytest.mark.parametrize("kind", ["FailureTarget", "SuccessCriteriaMet"])
def test_a_job_whose_pods_are_still_ending_is_not_over(kind):
    found = seen(job(condition(kind, "PodFailurePolicy")), pod("Running", RUNNING))

    assert (found.state, found.native_state) == (A.RUNNING, kind)


def test_a_job_may_be_complete_before_its_pod_was_seen_to_be():
    found = seen(job(COMPLETE), pod("Running", RUNNING))

    assert (found.state, found.outcome, found.exit_code) == (A.ENDED, J.COMPLETED, 0)
    assert found.ended_at == ENDED_S


@pytest.mark.parametrize("status", ["False", "Unknown", "odd"])
def test_a_condition_that_does_not_hold_says_nothing(status):
    assert seen(job(condition("Failed", status=status)), pod()).state is not A.ENDED


def test_a_condition_that_nobody_knows_moves_nothing():
    assert seen(job(condition("Enchanted")), pod("Running", RUNNING)).state is A.RUNNING


# ---- ends ------------------------------------------------------------------------------------------------


def disrupted(reason, message="why"):
    return pod("Failed", terminated(137, "Error"), condition("DisruptionTarget", reason, message))


ENDS = {
    "exit code": (pod("Failed", terminated(3, "Error")), Reason.NON_ZERO_EXIT, 3, None),
    "signal": (pod("Failed", terminated(143, "Error")), Reason.SIGNALLED, None, 15),
    "out of memory": (pod("Failed", terminated(137, "OOMKilled")), Reason.OUT_OF_MEMORY, None, 9),
    "no such command": (pod("Failed", terminated(128, "StartError", "no")), Reason.LAUNCH_FAILED, 128, None),
    "status unknown": (
        pod("Failed", terminated(137, "ContainerStatusUnknown")),
        Reason.NODE_LOST,
        None,
        None,
    ),
    "deadline": (
        pod("Failed", terminated(137, "Error"), reason="DeadlineExceeded"),
        Reason.TIME_LIMIT,
        None,
        None,
    ),
    "evicted": (pod("Failed", None, reason="Evicted", message="low on memory"), Reason.NODE_LOST, None, None),
    "refused by the kubelet": (
        pod("Failed", None, reason="UnexpectedAdmissionError"),
        Reason.LAUNCH_FAILED,
        None,
        None,
    ),
    "no room after all": (pod("Failed", None, reason="OutOfcpu"), Reason.LAUNCH_FAILED, None, None),
    "preempted": (disrupted("PreemptionByScheduler"), Reason.PREEMPTED, None, None),
    "drained": (disrupted("EvictionByEvictionAPI"), Reason.PREEMPTED, None, None),
    "node lost": (disrupted("DeletionByTaintManager"), Reason.NODE_LOST, None, None),
    "node removed": (disrupted("DeletionByPodGC"), Reason.NODE_LOST, None, None),
    "pressure": (disrupted("TerminationByKubelet"), Reason.NODE_LOST, None, None),
    "a new disruption": (disrupted("AnotherOne"), Reason.NODE_LOST, None, None),
}


@pytest.mark.parametrize("case", ENDS)
def test_how_a_pod_ended_is_how_the_job_ended(case):
    its_pod, reason, exit_code, signal = ENDS[case]
    found = seen(job(FAILED), its_pod)

    assert (found.state, found.outcome, found.reason) == (A.ENDED, J.FAILED, reason)
    assert (found.exit_code, found.signal) == (exit_code, signal)


def test_the_end_of_the_log_is_the_message():
    its_pod = pod("Failed", terminated(128, "StartError", "no such file"))

    assert seen(job(FAILED), its_pod).message == "no such file"


GONE = {
    "an exit code": (
        condition(
            "Failed", "PodFailurePolicy", "Container main for pod jobs/x failed with exit code 42 matching"
        ),
        Reason.NON_ZERO_EXIT,
        42,
    ),
    "a disruption": (condition("Failed", "PodFailurePolicy", TAKEN), Reason.NODE_LOST, None),
    "a deadline": (condition("Failed", "DeadlineExceeded", "too long"), Reason.TIME_LIMIT, None),
    "nothing": (FAILED, Reason.NODE_LOST, None),
}


@pytest.mark.parametrize("case", GONE)
def test_of_a_pod_that_is_gone_the_job_still_says(case):
    told, reason, exit_code = GONE[case]
    found = seen(job(told))

    assert (found.outcome, found.reason, found.exit_code) == (J.FAILED, reason, exit_code)


def test_of_a_pod_that_is_gone_an_event_says_who_took_it():
    """It told NodeLost, so that a job which is retried when it is preempted was not."""
    lost = bundle(job(condition("Failed", "PodFailurePolicy", TAKEN)))
    assert observations.lost_its_pod(lost)

    found = seen(lost.root, events=(event("Scheduled", ""), event("Preempted", "Preempted by pod x")))

    assert (found.reason, found.message) == (Reason.PREEMPTED, "Preempted by pod x")


def test_the_pod_that_the_job_names_is_the_cause():
    """The others were ended with it, and may have been seen to end before."""
    message = f"Container main for pod jobs/{MARKER}-1-abcde failed with exit code 3 matching"
    pods = [pod("Failed", terminated(143, "Error"), index=0), pod("Failed", terminated(3, "Error"), index=1)]

    found = seen(job(condition("Failed", "PodFailurePolicy", message), count=2), *pods)

    assert (found.reason, found.exit_code) == (Reason.NON_ZERO_EXIT, 3)


@pytest.mark.parametrize("code", [None, "x", 1e999, {}])
def test_an_exit_code_that_cannot_be_read_is_not_0(code):
    odd = {"terminated": {"exitCode": code}}

    assert seen(job(FAILED), pod("Failed", odd)).reason is Reason.NODE_LOST


# ---- cancelled -------------------------------------------------------------------------------------------


def test_a_cancelled_job_is_over_when_no_pod_is_left():
    root = job(SUSPENDED, suspend=True, annotations=CANCELLED)

    assert seen(root, pod("Running", RUNNING)).state is not A.ENDED
    assert seen(root).outcome is J.CANCELLED
    assert seen(root, pod("Failed", terminated(143, "Error"))).outcome is J.CANCELLED


def test_a_cancelled_job_is_not_over_before_the_controller_has_seen_it():
    """It could still make a pod."""
    assert seen(job(suspend=True, annotations=CANCELLED)).state is not A.ENDED


def test_what_had_ended_before_the_cancel_arrived_stays_so():
    assert seen(job(COMPLETE, suspend=True, annotations=CANCELLED)).outcome is J.COMPLETED


# ---- arrays ----------------------------------------------------------------------------------------------


def test_each_task_has_its_own_state():
    pods = [
        pod("Succeeded", terminated(), index=0),
        pod("Running", RUNNING, index=1),
        pod("Pending", waiting("ContainerCreating"), index=2),
    ]
    found = seen(job(count=4), *pods, tasks=(10, 20, 30, 40))

    assert [found.tasks[index].state for index in (10, 20, 30, 40)] == [
        A.ENDED,
        A.RUNNING,
        A.QUEUED,
        A.QUEUED,
    ]
    assert found.tasks[10].outcome is J.COMPLETED
    assert found.state is A.RUNNING


def test_tasks_whose_pods_are_gone_are_known_from_the_job():
    root = job(condition("Failed", "FailedIndexes"), count=6, completedIndexes="0,2-3", failedIndexes="1")

    found = seen(root, tasks=(0, 1, 2, 3, 4, 5))

    outcomes = [found.tasks[index].outcome for index in range(6)]
    assert outcomes == [J.COMPLETED, J.FAILED, J.COMPLETED, J.COMPLETED, J.CANCELLED, J.CANCELLED]
    assert found.message == "1 of 6 tasks failed, first task 1"


def test_of_a_task_whose_pod_is_gone_an_event_says_who_took_it():
    """It told NodeLost, so that tasks which are tried again when they are preempted were not."""
    root = job(condition("Failed", "FailedIndexes"), count=12, failedIndexes="0-1,11")
    its_own = pod("Failed", terminated(3, "Error"), index=0)
    taken = event("Preempted", "Preempted by pod x")
    taken["involvedObject"] = {"kind": "Pod", "name": f"{MARKER}-11-abcde"}

    assert observations.lost_its_pod(bundle(root, its_own))
    tasks = seen(root, its_own, tasks=tuple(range(12)), events=(taken,)).tasks

    assert [tasks[index].reason for index in (0, 1, 11)] == [
        Reason.NON_ZERO_EXIT,
        Reason.NODE_LOST,
        Reason.PREEMPTED,
    ]
    assert not observations.lost_its_pod(bundle(job(count=2, failedIndexes="0"), its_own))


def test_a_failed_task_is_not_said_to_have_gone_well():
    """Its pod had ended with 0 on a node that was thought to be lost."""
    found = seen(job(count=1, failedIndexes="0"), pod("Failed", terminated(0)), tasks=(7,))

    assert (found.tasks[7].outcome, found.tasks[7].reason) == (J.FAILED, Reason.NODE_LOST)


@pytest.mark.parametrize("text", ["x", "3-1", "", None, 7])
def test_indexes_that_cannot_be_read_move_nothing(text):
    assert seen(job(failedIndexes=text), tasks=(0,)).tasks[0].state is A.QUEUED
