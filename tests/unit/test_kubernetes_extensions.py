"""What only some clusters have, queues, JobSets and claimed devices: rendered as their APIs want it, and
refused where a cluster lacks it.

The manifests in ``tests/recorded/kubernetes`` are held to what the projects publish; those of Kubernetes' own
kinds were checked against its schemas of 1.34, every member known.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from adapters.base import Found
from adapters.errors import Busy, Rejected
from adapters.kubernetes import capacity, dependents, job_sets, kueue, names, refusals, render
from adapters.kubernetes.errors import Refused
from adapters.kubernetes.observations import Bundle, of_job
from api_spec.jobs import Array, Kind, Placement, Priority, Resources
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.builders import spec
from tests.contract.places import new_ref
from tests.published import faults, published
from tests.unit.kubernetes_objects import condition, node, nodes, pod, terminated
from tests.unit.kubernetes_plans import container, options, plan
from tests.unit.kubernetes_plans import pod as template_of
from tests.unit.kubernetes_stub import JOBS, MARKER, PODS, handle_of, job_object, listed, says, status

RECORDED = Path(__file__).parents[1] / "recorded" / "kubernetes"
TWO = Resources(nodes=2, memory_per_node_mib=1024)
GPUS = Resources(gpus_per_node=4, gpu_type="h100")
H100 = "device.attributes['gpu.nvidia.com'].productName == 'NVIDIA H100 80GB HBM3'"
BY_CLAIM = {"device_class": "gpu.nvidia.com", "device_selectors": {"h100": H100}}
IN_A_QUEUE = {"queue": "research", "queue_priorities": {"normal": "usual", "high": "urgent"}}


# ---- goldens --------------------------------------------------------------------------------------------

GOLDENS = {
    "queued-job": (spec(), IN_A_QUEUE),
    "queued-service": (spec(kind=Kind.INFERENCE, command=()), IN_A_QUEUE),
    "job-set": (spec(resources=TWO), {"job_sets": True}),
    "queued-job-set": (spec(resources=TWO), {"job_sets": True, **IN_A_QUEUE}),
    "claimed-gpus": (spec(resources=GPUS), BY_CLAIM),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_a_manifest_is_the_one_that_was_checked(name):
    wanted, given = GOLDENS[name]
    written = (RECORDED / f"{name}.json").read_text()

    assert render.text(plan(wanted, options=options(**given))) == written


@pytest.mark.parametrize("name", ["job-set", "queued-job-set"])
def test_a_job_set_is_what_its_project_publishes(name):
    job_set = json.loads((RECORDED / f"{name}.json").read_text())

    assert job_set["kind"] == published("jobsets")["names"]["kind"]
    assert faults("jobsets", job_set) == []


def test_a_member_that_the_project_does_not_know_is_seen():
    job_set = json.loads((RECORDED / "job-set.json").read_text())
    job_set["spec"]["network"]["enableDns"] = True
    job_set["spec"]["suspend"] = "no"

    found = [one.partition(":")[0] for one in faults("jobsets", job_set)]
    assert found == ["$.spec.network", "$.spec.suspend"]


# ---- queues ---------------------------------------------------------------------------------------------


def test_a_job_in_a_queue_is_made_suspended_with_its_labels():
    root = plan(spec(priority=Priority.HIGH), options=options(**IN_A_QUEUE, priorities={"high": "p"})).root

    assert root["spec"]["suspend"] is True
    assert root["metadata"]["labels"][kueue.QUEUE] == "research"
    assert root["metadata"]["labels"][kueue.PRIORITY] == "urgent"
    assert kueue.QUEUE not in root["spec"]["template"]["metadata"]["labels"]
    assert kueue.queue_of(plan(spec()).root) is None


@pytest.mark.parametrize(
    "given, native, queue",
    [
        ({"queue": "all"}, {}, "all"),
        ({"queue": "all", "queues": {"vision": "own"}}, {}, "own"),
        ({"queue": "all", "queues": {"nlp": "own"}}, {}, "all"),
        ({"queue": "all"}, {"queue": "mine"}, "mine"),
        ({}, {"queue": "mine"}, "mine"),
    ],
)
def test_the_queue_is_the_jobs_the_projects_or_that_of_all(given, native, queue):
    wanted = spec(project="vision", placement=Placement(kubernetes=native))

    assert kueue.queue_of(plan(wanted, options=options(**given)).root) == queue


def test_a_held_job_in_a_queue_bears_the_mark_of_it():
    root = plan(spec(hold=True), options=options(**IN_A_QUEUE)).root

    assert kueue.must_wait(root)
    assert not kueue.must_wait(plan(spec(), options=options(**IN_A_QUEUE)).root)


def test_an_update_takes_a_service_into_no_other_queue():
    """Kueue refuses that while replicas are ready."""
    wanted = spec(kind=Kind.INFERENCE, command=())
    there = plan(wanted, options=options(queue="old")).root
    there["metadata"] |= {"resourceVersion": "7", "uid": "u"}

    def revised(**given):
        newest = render.revised(there, plan(wanted, revision=2, options=options(**given)), 2)
        return newest["metadata"]["labels"].get(kueue.QUEUE)

    assert (revised(queue="new"), revised()) == ("old", "old")
    del there["metadata"]["labels"][kueue.QUEUE]
    assert revised(queue="new") is None


def has(apis=None, tenancy=None, classes=None):
    return capacity.inventory(
        nodes(node()), ["ml-vision", "jobs"], as_of=1.0, tenancy=tenancy, apis=apis, device_classes=classes
    )


def refused(wanted, inventory, **given):
    wanted = replace(wanted, image="a:1", project="vision")
    found = refusals.refusals(wanted, inventory, options(**given), "k8s")
    return [(one.code, one.message) for one in found]


KUEUE = {"kueue.x-k8s.io": ["v1beta1"], "batch": ["v1"]}
BARE = {"batch": ["v1"]}
NO_KUEUE = "goes to the queue research; the cluster has no kueue.x-k8s.io/v1beta2"


def test_a_queue_on_a_cluster_without_kueue_is_refused():
    assert refused(spec(), has(BARE), queue="research") == [(Reason.UNSUPPORTED, NO_KUEUE)]
    assert refused(spec(), has({**BARE, "kueue.x-k8s.io": ["v2"]}), queue="research")
    assert not refused(spec(), has(BARE))
    assert not refused(spec(), has({}), queue="research"), "the broker may not ask what is served"


@pytest.mark.parametrize("queues, told", [(["all", "other"], "it has all, other"), ([], "it has none")])
def test_a_queue_that_the_namespace_lacks_is_refused_with_those_that_it_has(queues, told):
    inventory = has(KUEUE, tenancy={"ml-vision": {"queues": queues}})

    ((code, message),) = refused(spec(), inventory, queue="research")

    assert (code, message) == (
        Reason.UNSUPPORTED,
        f"goes to the queue research, which ml-vision does not have; {told}",
    )


def test_a_queue_that_is_there_or_that_nobody_may_see_is_no_reason():
    there = has(KUEUE, tenancy={"ml-vision": {"queues": ["research"]}})

    assert not refused(spec(), there, queue="research")
    assert not refused(spec(), has(KUEUE), queue="research")


@pytest.mark.parametrize("value", ["", "A b", 7, "x" * 64, "../x", None])
def test_what_cannot_be_a_queue_is_refused(value):
    ((code, message),) = refused(spec(placement=Placement(kubernetes={"queue": value})), has(KUEUE))

    assert code is Reason.INVALID_SPEC
    assert message.endswith("and not the name of a queue")


def test_a_priority_of_the_queue_will_do():
    urgent = spec(priority=Priority.HIGH)

    assert not refused(urgent, None, **IN_A_QUEUE)
    assert refused(urgent, None, queue_priorities={"high": "urgent"}), "it is in no queue"
    assert refused(spec(priority=Priority.LOW), None, **IN_A_QUEUE)


# ---- JobSets --------------------------------------------------------------------------------------------

SETS = {"job_sets": True}


def test_only_finite_jobs_on_several_nodes_are_job_sets():
    def kind(wanted):
        return plan(wanted, options=options(**SETS)).root["kind"]

    assert kind(spec(resources=TWO)) == "JobSet"
    assert kind(spec()) == kind(spec(array=Array(indices="0-3"))) == "Job"
    assert kind(spec(kind=Kind.INFERENCE, command=())) == "Deployment"
    assert plan(spec(resources=TWO)).root["kind"] == "Job", "the option is off"


def test_the_pods_of_a_job_set_find_each_other():
    """As ``torchrun`` reads it; the JobSet itself makes the Service that gives the names."""
    wanted, given = spec(resources=TWO), options(**SETS)
    made = plan(wanted, options=given)
    [replicated] = made.root["spec"]["replicatedJobs"]
    template = replicated["template"]["spec"]["template"]
    found = {one["name"]: one.get("value") for one in template["spec"]["containers"][0]["env"]}

    assert found["MASTER_ADDR"] == found["PET_MASTER_ADDR"] == f"{job_sets.leader(MARKER)}.{MARKER}"
    assert made.root["spec"]["network"]["subdomain"] == MARKER
    assert not made.dependents


def test_neither_a_job_set_nor_its_job_starts_anything_again():
    made = plan(spec(resources=TWO), options=options(**SETS)).root["spec"]
    inner = made["replicatedJobs"][0]["template"]["spec"]

    assert made["failurePolicy"] == {"maxRestarts": 0}
    assert (inner["backoffLimit"], inner["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert not {"suspend", "ttlSecondsAfterFinished"} & set(inner)


def job_set(*conditions, suspend=False, **found):
    made = plan(spec(resources=TWO), options=options(**SETS)).root
    made["metadata"]["uid"] = "u"
    made["spec"]["suspend"] = suspend
    return {**made, "status": {"conditions": list(conditions), **found}}


def seen(found, *pods):
    return of_job(Bundle(root=job_sets.as_job(found), pods=pods))


def test_the_states_of_a_job_set_are_those_of_a_job():
    failed = pod("Failed", terminated(3, "Error"))
    running = [
        pod("Running", {"running": {"startedAt": "2026-01-01T00:00:10Z"}}, index=one) for one in (0, 1)
    ]

    assert seen(job_set()).state is AttemptState.QUEUED
    assert seen(job_set(), running[0]).state is AttemptState.QUEUED, "one of two"
    assert seen(job_set(), *running).state is AttemptState.RUNNING
    assert seen(job_set(condition("Completed"))).outcome is JobState.COMPLETED
    assert seen(job_set(terminalState="Completed")).outcome is JobState.COMPLETED
    end = seen(job_set(condition("Failed", "FailedJobs", "jobset failed")), failed)
    assert (end.outcome, end.reason, end.exit_code) == (JobState.FAILED, Reason.NON_ZERO_EXIT, 3)
    assert seen(job_set(suspend=True)).reason is Reason.HELD
    assert seen(job_set()).handle["kind"] == "JobSet"


def test_a_cancelled_job_set_is_over_when_it_says_that_it_is_suspended():
    """In no queue nobody else could resume it."""
    told = job_set(suspend=True), job_set(condition("Suspended", "SuspendedJobs"), suspend=True)
    for one in told:
        one["metadata"]["annotations"][names.CANCELLED] = "2026-01-01"
    running = pod("Running", {"running": {"startedAt": "2026-01-01T00:00:10Z"}})

    assert [seen(one).state for one in told] == [AttemptState.QUEUED, AttemptState.ENDED]
    assert seen(told[1], running).state is AttemptState.QUEUED, "a pod is still going"


@pytest.mark.parametrize(
    "odd", [{}, {"spec": {"replicatedJobs": [7]}}, {"status": {"conditions": [None, {}]}}]
)
def test_an_odd_job_set_breaks_nothing(odd):
    assert seen({"metadata": job_set()["metadata"], **odd}).state is AttemptState.QUEUED


def test_job_sets_on_a_cluster_without_them_are_refused():
    lacks = "the cluster has no jobset.x-k8s.io/v1alpha2"
    told = f"runs on several nodes, as a JobSet here (option job_sets); {lacks}"

    assert refused(spec(resources=TWO), has(BARE), **SETS) == [(Reason.UNSUPPORTED, told)]
    assert not refused(spec(resources=TWO), has({"jobset.x-k8s.io": ["v1alpha2"]}), **SETS)
    assert not refused(spec(), has(BARE), **SETS)


def test_an_event_about_the_job_of_a_job_set_is_the_attempts():
    assert job_sets.marker_of(f"{MARKER}-workers-0") == MARKER
    assert job_sets.marker_of(MARKER) == MARKER


# ---- devices --------------------------------------------------------------------------------------------


def test_gpus_are_claimed_and_not_counted():
    given = options(**BY_CLAIM, runtime_class="nvidia")
    wanted = spec(resources=replace(GPUS, memory_per_node_mib=64))
    made = template_of(wanted, options=given)["spec"]
    [template] = plan(wanted, options=given).dependents

    assert made["resourceClaims"] == [
        {"name": "gpus", "resourceClaimTemplateName": template["metadata"]["name"]}
    ]
    assert container(wanted, options=given)["resources"] == {
        "requests": {"cpu": "1", "memory": "64Mi"},
        "limits": {"memory": "64Mi"},
        "claims": [{"name": "gpus"}],
    }
    assert not {"nodeSelector", "runtimeClassName"} & set(made)
    assert not plan(spec(), options=given).dependents, "it asks for no GPU"


def test_a_claim_asks_for_so_many_devices_of_a_sort():
    rows = {"1g.10gb": "device.attributes['gpu.nvidia.com'].profile == '1g.10gb'"}
    given = options(
        device_class="gpu.nvidia.com",
        device_classes={"1g.10gb": "mig.nvidia.com"},
        device_selectors={"h100": H100, **rows},
    )

    def asked(resources):
        [template] = plan(spec(resources=resources), options=given).dependents
        return template["spec"]["spec"]["devices"]["requests"][0]["exactly"]

    whole = asked(GPUS)
    assert (whole["deviceClassName"], whole["count"]) == ("gpu.nvidia.com", 4)
    assert whole["selectors"] == [{"cel": {"expression": H100}}]
    sliced = asked(replace(GPUS, gpus_per_node=1, mig_profile="1g.10gb"))
    assert sliced["deviceClassName"] == "mig.nvidia.com"
    assert [one["cel"]["expression"] for one in sliced["selectors"]] == [H100, rows["1g.10gb"]]
    assert "selectors" not in asked(Resources(gpus_per_node=1))


def test_a_revision_with_other_gpus_has_another_template():
    """A template cannot be changed."""
    found = {
        plan(spec(resources=Resources(gpus_per_node=count)), options=options(**BY_CLAIM)).dependents[0][
            "metadata"
        ]["name"]
        for count in (1, 1, 2)
    }

    assert len(found) == 2
    assert all(len(name) <= 63 for name in found)


def test_a_sort_of_gpus_that_nobody_has_described_is_refused():
    told = "device_classes and device_selectors have no row for it"

    ((code, message),) = refused(spec(resources=replace(GPUS, gpu_type="b200")), None, **BY_CLAIM)
    assert (code, message) == (
        Reason.UNSUPPORTED,
        f"asks for GPUs with the gpu_type b200; this backend claims devices, and its {told}",
    )
    assert refused(spec(resources=replace(GPUS, mig_profile="1g.10gb")), None, **BY_CLAIM)
    assert not refused(spec(resources=GPUS), None, **BY_CLAIM)


DRA = {"resource.k8s.io": ["v1"]}


def test_claims_on_a_cluster_without_them_or_without_the_class_are_refused():
    wanted = spec(resources=GPUS)
    no_api = "claims GPUs as devices (option device_class); the cluster has no resource.k8s.io/v1"
    no_class = "claims GPUs of the DeviceClass gpu.nvidia.com, which the cluster does not have; it has other"

    assert refused(wanted, has(BARE), **BY_CLAIM) == [(Reason.UNSUPPORTED, no_api)]
    assert refused(wanted, has(DRA, classes=["other"]), **BY_CLAIM) == [(Reason.UNSUPPORTED, no_class)]
    assert not refused(wanted, has(DRA, classes=["gpu.nvidia.com"]), **BY_CLAIM)
    assert not refused(wanted, has(DRA), **BY_CLAIM), "nobody may see the classes"
    assert not refused(spec(), has(BARE), **BY_CLAIM)


def test_a_quota_of_devices_that_can_never_hold_it_refuses_it():
    hard = {"gpu.nvidia.com.deviceclass.resource.k8s.io/devices": 2.0}
    inventory = has(DRA, tenancy={"ml-vision": {"quotas": [{"name": "small", "hard": hard}]}})

    ((code, _),) = refused(spec(resources=GPUS), inventory, **BY_CLAIM)

    assert code is Reason.QUOTA_EXCEEDED


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {"name": "another"}},
        {"spec": {"spec": {}, "more": 1}},
        {"kind": "ResourceClaim"},
        {"kind": "Service"},
    ],
)
def test_no_other_object_is_made_in_the_place_of_a_template(changes):
    """The annotation is whose who may edit the Job."""
    made = plan(spec(resources=GPUS), options=options(**BY_CLAIM))
    [template] = made.dependents
    read = partial(dependents.written_in, MARKER, made.namespace, options=options())
    assert read(json.dumps([template])) == [template]

    with pytest.raises(Refused):
        read(json.dumps([{**template, **changes}]))


# ---- what gets in ---------------------------------------------------------------------------------------

OF_A_POD = {
    "activeDeadlineSeconds", "automountServiceAccountToken", "containers", "enableServiceLinks",
    "imagePullSecrets", "nodeSelector", "priorityClassName", "resourceClaims", "restartPolicy",
    "runtimeClassName", "securityContext", "serviceAccountName", "subdomain",
    "terminationGracePeriodSeconds", "tolerations", "volumes",
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDENS)
def test_a_pod_has_nothing_but_what_is_on_the_list(name):
    wanted, given = GOLDENS[name]
    body = plan(wanted, options=options(**given)).root["spec"]
    job = body["replicatedJobs"][0]["template"]["spec"] if "replicatedJobs" in body else body

    assert set(job["template"]["spec"]) <= OF_A_POD
    assert set(job["template"]["metadata"]["labels"]) <= {
        names.MANAGED_BY, names.INSTANCE, names.MARKER, names.REVISION,
    }  # fmt: skip


# ---- what is asked of the API server ----------------------------------------------------------------------

WORKLOADS = "/apis/kueue.x-k8s.io/v1beta2/namespaces/jobs/workloads"
GROUP = {"kind": "APIGroup", "versions": [{"version": "v1beta2"}, {"version": "v1beta1"}]}
WANTED = spec(image="a:1", kind=Kind.BATCH)
REF = new_ref(WANTED, marker=MARKER)
HANDLED = replace(REF, handle=handle_of())


@pytest.fixture
def server(server):
    server.says("GET", PODS, listed())
    return server


def in_queue(**changes):
    labels = {**job_object()["metadata"]["labels"], kueue.QUEUE: "research"}
    found = job_object(metadata={"labels": labels}, **changes)
    return {**found, "spec": {**found["spec"], "suspend": True}}


def test_workloads_are_read_only_where_a_job_is_in_a_queue(server):
    server.says("GET", JOBS, listed(job_object()))
    server.adapter().observe([HANDLED])
    assert not server.count("GET", "/apis/kueue.x-k8s.io")

    server.says("GET", JOBS, listed(in_queue()))
    server.says("GET", "/apis/kueue.x-k8s.io", says(GROUP))
    server.says("GET", WORKLOADS, listed())
    adapter = server.adapter()
    adapter.observe([HANDLED])
    adapter.observe([HANDLED])

    assert server.count("GET", "/apis/kueue.x-k8s.io") == 1, "the version is asked for once"
    assert server.count("GET", WORKLOADS) == 2


@pytest.mark.parametrize(
    "answers",
    [
        {"/apis/kueue.x-k8s.io": status(404, "not found", "NotFound")},
        {"/apis/kueue.x-k8s.io": says({"kind": "APIGroup", "versions": [{"version": "v9"}]})},
        {"/apis/kueue.x-k8s.io": says(GROUP), WORKLOADS: status(404, "not found", "NotFound")},
        {"/apis/kueue.x-k8s.io": says(GROUP), WORKLOADS: status(403, "no right", "Forbidden")},
        {"/apis/kueue.x-k8s.io": says(GROUP), WORKLOADS: listed(None, 7, {}, {"metadata": {"labels": 7}})},
    ],
    ids=["none", "of a version of next year", "gone", "not allowed", "odd ones"],
)
def test_without_workloads_a_pass_goes_on(server, answers):
    server.says("GET", JOBS, listed(in_queue()))
    for path, answer in answers.items():
        server.says("GET", path, answer)

    told = server.adapter().observe([HANDLED]).found[MARKER]

    assert (told.state, told.reason) == (AttemptState.QUEUED, Reason.SUSPENDED)
    assert kueue.NOT_SEEN in told.message


def test_a_server_that_does_not_answer_is_no_cluster_without_kueue(server):
    server.says("GET", JOBS, listed(in_queue()))
    server.says("GET", "/apis/kueue.x-k8s.io", status(500, "etcdserver: leader changed"))

    with pytest.raises(Busy):
        server.adapter().observe([HANDLED])


def test_a_job_set_is_looked_for_among_jobs_too(server):
    """Names are unique among objects of one kind only."""
    wanted = replace(WANTED, resources=Resources(nodes=2))
    ref = new_ref(wanted, marker=MARKER)
    ours = job_object(annotations=names.notes(ref))
    server.says("GET", f"{JOBS}/{MARKER}", says(ours), says(job_object()))
    server.says("GET", JOBS, listed(ours))
    server.says("GET", "/apis/apps/v1/namespaces/jobs/deployments", listed())
    server.says("GET", "/apis/jobset.x-k8s.io/v1alpha2/namespaces/jobs/jobsets", listed())
    adapter = server.adapter(job_sets=True)

    assert adapter.submit(ref, wanted)["uid"] == ours["metadata"]["uid"]
    with pytest.raises(Rejected, match="another Job of that name"):
        adapter.submit(ref, wanted)

    assert not server.bodies("POST")
    assert isinstance(adapter.find(MARKER, since=0), Found)


@pytest.mark.parametrize("mark", [names.HELD, names.CANCELLED])
def test_a_workload_that_kueue_makes_anew_is_told_too(server, mark):
    """It replaces one that no longer fits its Job, such as a cancelled one, which has no pods to make."""
    waits = in_queue(annotations={mark: "2026-01-01"})
    labels = {kueue.JOB_UID: waits["metadata"]["uid"]}
    server.says("GET", JOBS, listed(waits))
    server.says("GET", "/apis/kueue.x-k8s.io", says(GROUP))
    server.says("GET", WORKLOADS, listed({"metadata": {"name": "w", "uid": "w", "labels": labels}}))
    server.says("PATCH", f"{WORKLOADS}/w", says({"kind": "Workload"}))

    server.adapter().observe([HANDLED])

    assert server.bodies("PATCH") == [{"metadata": {"uid": "w"}, "spec": {"active": False}}]


def test_what_cannot_be_told_to_kueue_is_told_to_the_user(server):
    held = in_queue(annotations={names.HELD: "2026-01-01"})
    labels = {kueue.JOB_UID: held["metadata"]["uid"]}
    server.says("GET", JOBS, listed(held))
    server.says("GET", "/apis/kueue.x-k8s.io", says(GROUP))
    server.says("GET", WORKLOADS, listed({"metadata": {"name": "w", "uid": "w", "labels": labels}}))
    server.says("PATCH", f"{WORKLOADS}/w", status(403, "cannot patch resource workloads", "Forbidden"))

    told = server.adapter().observe([HANDLED]).found[MARKER]

    assert (told.state, told.reason) == (AttemptState.QUEUED, Reason.HELD)
    assert "Kueue has not been told yet that it is to wait: cannot patch" in told.message


# ---- what the check says ----------------------------------------------------------------------------------


def checked(server, groups, **given):
    server.passes_a_check(**groups)
    found = server.adapter(**given).check()
    return [(one.well, one.message) for one in found if one.subject in ("queues", "job sets", "devices")]


QUEUES = "/apis/kueue.x-k8s.io/v1beta1/namespaces/jobs/localqueues"
CLASSES = "/apis/resource.k8s.io/v1/deviceclasses"


def test_the_check_names_what_the_cluster_lacks(server):
    lacks = ", and the cluster has no"
    assert checked(server, BARE, queue="research", **SETS, **BY_CLAIM) == [
        (False, "jobs go to queues, and the cluster has no Kueue that the broker knows: they are refused"),
        (False, f"job_sets is on{lacks} jobset.x-k8s.io/v1alpha2: jobs on several nodes are refused"),
        (False, f"device_class is set{lacks} resource.k8s.io/v1: jobs with GPUs are refused"),
    ]


def test_the_check_names_queues_and_classes(server):
    server.says("GET", QUEUES, listed({"metadata": {"name": "research"}}))
    server.says("GET", CLASSES, listed({"metadata": {"name": "gpu.nvidia.com"}}))
    groups = {**KUEUE, **DRA, "jobset.x-k8s.io": ["v1alpha2"]}
    given = {"device_class": "gpu.nvidia.com", "device_classes": {"1g.10gb": "mig.nvidia.com"}}

    told = checked(server, groups, queue="research", queues={"nlp": "speech"}, **SETS, **given)

    assert told == [
        (True, "jobs has the queue research (Kueue v1beta1)"),
        (False, "jobs has no queue speech (Kueue v1beta1): its jobs are refused"),
        (True, "job_sets is on, and the cluster has jobset.x-k8s.io/v1alpha2"),
        (True, "there is the DeviceClass gpu.nvidia.com"),
        (False, "there is no DeviceClass mig.nvidia.com: its GPUs are refused"),
    ]


def test_the_check_tells_of_a_kueue_that_nobody_uses(server):
    assert checked(server, KUEUE) == [(True, "the cluster has Kueue; no option brings jobs into its queues")]
    assert checked(server, BARE) == []


def test_what_the_broker_may_not_see_is_told(server):
    server.says("GET", QUEUES, status(403, "no right", "Forbidden"))
    server.says("GET", CLASSES, status(403, "no right", "Forbidden"))

    assert checked(server, {**KUEUE, **DRA}, queue="research", **BY_CLAIM) == [
        (False, "the broker may not see the queues of jobs"),
        (False, "the broker may not see the DeviceClasses"),
    ]
