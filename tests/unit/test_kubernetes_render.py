"""A job as Kubernetes' objects: built from an allow-list, and nothing else ever gets through."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import pytest

from adapters.errors import Rejected
from adapters.kubernetes import names, render
from api_spec.jobs import (
    Array,
    Fabric,
    Input,
    Kind,
    Placement,
    Priority,
    Replicas,
    Resources,
    ScaleOn,
    SecretRef,
    Service,
    Volume,
)
from tests.builders import spec
from tests.unit.kubernetes_objects import MARKER
from tests.unit.kubernetes_plans import container, environment, options, plan, pod, ref

# ---- names and namespaces ------------------------------------------------------------------------------


def test_the_object_has_the_marker_for_a_name_and_carries_the_attempt():
    root = plan(spec()).root

    assert root["metadata"]["name"] == MARKER
    assert root["metadata"]["namespace"] == "ml-vision"
    assert names.ref_of(root) == ref(spec())
    assert root["metadata"]["labels"][names.INSTANCE] == "test"


def test_a_project_without_a_row_runs_in_the_namespace_of_all():
    assert plan(spec(), project="nlp").namespace == "jobs"


def test_the_digest_is_of_what_is_sent_and_of_nothing_else():
    digests = [
        plan(one).root["metadata"]["annotations"][names.DIGEST] for one in (spec(), spec(), spec(name="x"))
    ]

    assert digests[0] == digests[1] == digests[2]
    assert plan(spec(command=("false",))).root["metadata"]["annotations"][names.DIGEST] != digests[0]


# ---- finite work ---------------------------------------------------------------------------------------


def test_a_job_has_one_pod_and_never_a_second_one():
    job = plan(spec()).root["spec"]

    assert (job["completions"], job["parallelism"], job["backoffLimit"]) == (1, 1, 0)
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert job["podReplacementPolicy"] == "Failed"


def test_the_time_limit_counts_from_the_start_of_the_pod():
    assert pod(spec(time_limit_s=600))["spec"]["activeDeadlineSeconds"] == 600


def test_a_held_job_is_created_suspended():
    assert plan(spec(hold=True)).root["spec"]["suspend"] is True


def test_several_nodes_find_each_other():
    wanted = spec(resources=Resources(nodes=4, gpus_per_node=8))
    made = plan(wanted)

    assert made.root["spec"]["completions"] == 4
    [service] = made.dependents
    assert (service["kind"], service["spec"]["clusterIP"]) == ("Service", "None")
    assert service["spec"]["selector"] == {names.MARKER: MARKER}
    found = environment(wanted)
    assert found["MASTER_ADDR"] == found["PET_MASTER_ADDR"] == f"{MARKER}-0.{MARKER}"
    assert (found["PET_NNODES"], found["PET_NPROC_PER_NODE"]) == ("4", "8")
    assert found["BROKER_NODE_RANK"] == found["PET_NODE_RANK"]
    assert json.loads(made.root["metadata"]["annotations"][names.UNFINISHED]) == [service]


def test_a_single_pod_is_one_object_that_carries_everything():
    made = plan(spec(script="#!/bin/sh\necho hello\n", command=()))

    assert not made.dependents
    template = made.root["spec"]["template"]
    assert template["metadata"]["annotations"][names.SCRIPT] == "#!/bin/sh\necho hello\n"
    assert template["spec"]["containers"][0]["command"] == ["/broker/job/script"]


# ---- arrays --------------------------------------------------------------------------------------------


def test_an_array_from_zero_needs_no_shell():
    wanted = spec(array=Array(indices="0-9", max_running=3))
    job = plan(wanted).root["spec"]

    assert (job["completions"], job["parallelism"]) == (10, 3)
    assert (job["backoffLimitPerIndex"], job["maxFailedIndexes"]) == (0, 10)
    assert container(wanted)["command"] == ["true"]
    assert "fieldRef" in environment(wanted)["BROKER_TASK_INDEX"]


@pytest.mark.parametrize(
    ("array", "tasks", "place", "said"),
    [
        (Array(indices="1-7:3"), (1, 4, 7), 2, "7||"),
        (Array(indices="0-9"), (3, 5), 1, "5||"),
        (Array(parameters=({"lr": 0.1}, {"lr": "a 'b' $(c)\n\"d\""})), (0, 1), 1, "1|a 'b' $(c)\n\"d\"|"),
    ],
    ids=["steps", "a retry of two", "parameters"],
)
def test_other_arrays_look_their_task_up(tmp_path, array, tasks, place, said):
    """By a real shell, as in the container, where the kubelet has made one of two dollars."""
    wanted = spec(array=array, command=("printf", "%s|%s|"), arguments=())
    made = pod(wanted, task_indices=tasks)
    (tmp_path / "tasks").write_text(made["metadata"]["annotations"][names.TASKS])
    command = [one.replace("$$", "$") for one in made["spec"]["containers"][0]["command"]]

    text = (
        command[2]
        .replace("/broker/job", str(tmp_path))
        .replace('exec "$@"', 'exec printf "%s|%s|" "$BROKER_TASK_INDEX" "$BROKER_PARAM_LR"')
    )
    ran = subprocess.run(
        [*command[:2], text],
        env={"JOB_COMPLETION_INDEX": str(place), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == said


def test_a_table_of_ten_thousand_tasks_is_carried(tmp_path):
    array = Array(indices="1-10000")
    table = pod(spec(array=array), task_indices=())["metadata"]["annotations"][names.TASKS]
    ran = subprocess.run(
        ["/bin/sh", "-c", f'{table} echo "$BROKER_TASK_INDEX" "$@"', "sh", "mine"],
        env={"JOB_COMPLETION_INDEX": "9999"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout == "10000 mine\n"
    assert len(table) < 60 * 1024


def test_what_only_an_image_knows_to_run_is_never_left_unrun():
    """Of tasks that are tried again, the shell would have nothing to run, and end well."""
    with pytest.raises(Rejected, match="must know the command"):
        plan(spec(array=Array(indices="0-9"), command=()), task_indices=(3, 5))


def test_labels_reach_the_pods_whatever_their_names():
    made = pod(spec(labels={"team": "a", "example.com/run": "7", "x/y/z": ""}))["metadata"]["annotations"]

    assert made["label.workload-broker/team"] == "a"
    assert json.loads(made[names.LABELS]) == {"example.com/run": "7", "x/y/z": ""}


# ---- services ------------------------------------------------------------------------------------------


def service(**changes):
    served = Service(port=8000, replicas=Replicas(min=2, max=5), **changes)
    return spec(kind=Kind.INFERENCE, service=served, command=())


def test_a_service_is_a_deployment_with_what_belongs_to_it():
    made = plan(service(), replicas=3)

    assert (made.root["kind"], made.root["spec"]["replicas"]) == ("Deployment", 3)
    assert [one["kind"] for one in made.dependents] == ["Service", "PodDisruptionBudget"]
    assert made.root["metadata"]["annotations"][names.REVISION] == "1"
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container(service()))


def test_a_replica_that_is_told_to_go_answers_until_every_proxy_knows():
    """And has its whole time of grace after that."""
    wanted = replace(service(), placement=Placement(kubernetes={"grace_s": 10}))
    given = options(drain_s=7)

    assert plan(wanted, options=given).root["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 17
    assert container(wanted, options=given)["lifecycle"] == {"preStop": {"sleep": {"seconds": 7}}}
    assert "lifecycle" not in container(wanted, options=options(drain_s=0))
    assert "lifecycle" not in container(spec(), options=given)


@pytest.mark.parametrize("value", [-1, 2.5, True, "5", 3601])
def test_how_long_a_replica_drains_is_whole_seconds(value):
    with pytest.raises(ValueError, match="drain_s is a whole number of seconds up to 3600"):
        options(drain_s=value)


def test_an_autoscaler_owns_the_number_of_replicas():
    made = plan(service(scale_on=ScaleOn(metric="cpu", target=70)))

    assert "replicas" not in made.root["spec"]
    scaler = next(one for one in made.dependents if one["kind"] == "HorizontalPodAutoscaler")
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 5)
    assert scaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 70


def test_a_new_pod_waits_for_no_gpu_that_an_old_one_has():
    wanted = replace(service(), resources=Resources(gpus_per_node=1))

    assert plan(wanted).root["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert plan(service()).root["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize(
    ("revision", "replicas", "changes"),
    [(1, 2, None), (1, 3, {"replicas": 3}), (2, 2, {"replicas": 2}), (0, 4, None)],
    ids=["the same", "scaled", "newer", "older"],
)
def test_an_update_changes_what_is_older(revision, replicas, changes):
    there = plan(service(), replicas=2).root
    there["metadata"] |= {"resourceVersion": "7", "uid": "u"}
    newest = render.revised(there, plan(service(), replicas=replicas, revision=revision), revision)

    if changes is None:
        assert newest is None
    else:
        assert newest["spec"]["replicas"] == changes["replicas"]
        assert newest["metadata"]["resourceVersion"] == "7"


# ---- resources -----------------------------------------------------------------------------------------


def test_quantities_are_text_and_gpus_are_limits():
    wanted = spec(resources=Resources(cpus_per_task=4, memory_per_node_mib=2048, gpus_per_node=2))

    assert container(wanted)["resources"] == {
        "requests": {"cpu": "4", "memory": "2048Mi"},
        "limits": {"nvidia.com/gpu": "2", "memory": "2048Mi"},
    }
    assert pod(wanted)["spec"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert pod(spec())["spec"]["tolerations"] == []


def test_a_slice_is_a_resource_of_its_own():
    wanted = spec(resources=Resources(gpus_per_node=1, mig_profile="1g.10gb"))

    assert container(wanted)["resources"]["limits"] == {"nvidia.com/mig-1g.10gb": "1"}


def test_a_type_of_gpu_is_a_label_of_nodes():
    wanted = spec(resources=Resources(gpus_per_node=1, gpu_type="h100"))
    given = options(gpu_types={"h100": "NVIDIA-H100-80GB-HBM3"})

    assert pod(wanted, options=given)["spec"]["nodeSelector"] == {
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"
    }


def test_a_fabric_is_what_the_operator_says():
    fabric = {
        "resource": "rdma/shared_a",
        "network": "rdma-net",
        "ipc_lock": True,
        "environment": {"NCCL_IB_HCA": "mlx5"},
    }
    wanted, given = spec(resources=Resources(fabric=Fabric.RDMA)), options(fabrics={"rdma": fabric})

    made = pod(wanted, options=given)
    main = made["spec"]["containers"][0]
    assert main["resources"]["limits"] == {"rdma/shared_a": "1"}
    assert main["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}
    assert made["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] == "rdma-net"
    assert {"name": "NCCL_IB_HCA", "value": "mlx5"} in main["env"]


def test_priority_and_preemptible_are_classes_of_the_operators():
    given = options(priorities={"high": "gold"}, preemptible="scavenger")

    assert pod(spec(priority=Priority.HIGH), options=given)["spec"]["priorityClassName"] == "gold"
    assert pod(spec(preemptible=True), options=given)["spec"]["priorityClassName"] == "scavenger"
    assert "priorityClassName" not in pod(spec(), options=given)["spec"]


# ---- what gets in --------------------------------------------------------------------------------------


def test_values_stay_what_they_are():
    """Kubernetes would put another variable in the place of $(NAME), and makes one of two dollars."""
    wanted = spec(environment={"A": "$(HOME) $$ `x`"}, command=("echo", "$(BROKER_JOB_ID)"))

    assert environment(wanted)["A"] == "$$(HOME) $$$$ `x`"
    assert container(wanted)["command"] == ["echo", "$$(BROKER_JOB_ID)"]


def test_the_contract_wins_over_the_job():
    wanted = spec(environment={"X": "job"}, inputs=(Input(name="model", uri="s3://b/m"),))
    found = environment(wanted, options=options(environment={"X": "site", "Y": "site"}))

    assert (found["X"], found["Y"]) == ("job", "site")
    assert (found["BROKER_INPUT_MODEL"], found["BROKER_ATTEMPT"]) == ("s3://b/m", "1")


def test_secrets_are_named_and_never_read():
    found = environment(spec(secrets={"TOKEN": SecretRef(name="hub", key="token")}))

    assert found["TOKEN"] == {"secretKeyRef": {"name": "hub", "key": "token"}}


def test_volumes_are_claims_and_the_like():
    wanted = spec(
        volumes=(
            Volume(source="pvc:data", mount_path="/data", read_only=True),
            Volume(source="emptydir:1GiB", mount_path="/scratch"),
        )
    )
    made = pod(wanted)["spec"]

    assert {"name": "volume-0", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}} in made[
        "volumes"
    ]
    assert {"name": "volume-1", "emptyDir": {"sizeLimit": "1024Mi"}} in made["volumes"]
    assert {"name": "volume-0", "mountPath": "/data", "readOnly": True} in made["containers"][0][
        "volumeMounts"
    ]


def test_the_pod_passes_pod_security_restricted():
    made = pod(spec())["spec"]

    assert made["securityContext"]["runAsNonRoot"] is True
    assert made["securityContext"]["runAsUser"] > 0
    assert made["automountServiceAccountToken"] is False
    assert made["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "nodeName", "serviceAccountName"} & set(made)


HOSTILE = [
    "\n- hostPath: {path: /}",
    '"}, "hostNetwork": true, "x": {"',
    "$(KUBERNETES_SERVICE_HOST)",
    "\u2028",
    "x" * 65536,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_job_becomes_structure(text):
    """What is a value stays a value: the manifest has the same members, whatever stands in them."""
    calm = spec(environment={"A": "x"}, arguments=("x",), labels={"team": "x"}, working_directory="/x")
    wild = spec(
        environment={"A": text}, arguments=(text,), labels={"team": text}, working_directory=f"/{text}"
    )

    assert shape_of(plan(wild).root) == shape_of(plan(calm).root)


def shape_of(value):
    if isinstance(value, dict):
        return {key: shape_of(one) for key, one in value.items() if key != names.ATTEMPT}
    if isinstance(value, list):
        return [shape_of(one) for one in value]
    return type(value).__name__


def test_what_is_rendered_is_what_is_sent():
    wanted = replace(spec(), image="a:1", placement=Placement(kubernetes={"grace_s": 5}))

    written = json.loads(render.text(plan(wanted)))
    assert written == plan(wanted).root
    assert written["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 5
