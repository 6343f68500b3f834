"""What a job and the operator say of a job's place, door to door: Slurm shows what was asked for.

Each field of a submission by itself, in every dialect, is ``test_slurm_rest``'s.
"""

from __future__ import annotations

import re
import time

import pytest

from adapters.base import AttemptRef, BackendConfig
from adapters.slurm.adapter import SlurmAdapter
from api_spec.jobs import JobSpec, Kind, Placement, Resources
from api_spec.times import to_rfc3339

pytestmark = pytest.mark.process

every_release = pytest.mark.parametrize("cluster", ["22.05", "24.11"], indirect=True)
MARKER = "wb-test-01j0000000000000000000000b-1"
IN_AN_HOUR = int(time.time()) + 3600
SITE = {
    "fabrics": {
        "rdma": {"constraint": "infiniband", "environment": {"NCCL_IB_HCA": "mlx5"}},
        "gpudirect": {"constraint": "infiniband", "switches": 1},
    },
    "gpu_types": {"hopper": "h100"},
    "mig_profiles": {"1g.10gb": "gpu:h100"},
    "priorities": {"low": {"nice": 500}, "high": {"partition": "debug"}},
    "preemptible": {"nice": 77},
    "defaults": {"partition": "train"},
}
GRES = "gres[:/]gpu:h100:{}"


def place(**options):
    return Placement(slurm=options)


# fmt: off
CASES = {
    "rdma":         ({"resources": {"fabric": "rdma"}}, {"Features": "infiniband"}),
    "a feature too": ({"resources": {"fabric": "rdma"}, "placement": place(constraint="infiniband")},
                      {"Features": "infiniband&infiniband"}),
    "a GPU type":   ({"resources": {"gpus_per_node": 2, "gpu_type": "hopper"}},
                     {"TresPerNode": re.compile(GRES.format(2))}),
    "a slice":      ({"resources": {"gpus_per_node": 3, "mig_profile": "1g.10gb"}},
                     {"TresPerNode": re.compile(GRES.format(3))}),
    "low":          ({"priority": "low"}, {"Nice": "500", "Partition": "train"}),
    "high":         ({"priority": "high"}, {"Nice": "0", "Partition": "debug"}),
    "preemptible":  ({"preemptible": True}, {"Nice": "77"}),
    "the job last": ({"priority": "low", "placement": place(nice=3)}, {"Nice": "3"}),
    "licences":     ({"placement": place(licenses="matlab:1")}, {"Licenses": "matlab:1"}),
    "exclusive":    ({"placement": place(exclusive=True)}, {"OverSubscribe": "NO"}),
    "begin":        ({"hold": False, "placement": place(begin=to_rfc3339(IN_AN_HOUR))},
                     {"EligibleTime": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(IN_AN_HOUR))}),
    "mail":         ({"placement": place(mail_type="END,FAIL", mail_user="ana@example.org")},
                     {"MailType": re.compile("(END,FAIL|FAIL,END)")}),
    "a time limit": ({"time_limit_s": 61}, {"TimeLimit": "00:02:00"}),
}
# fmt: on


@pytest.fixture
def adapter(cluster):
    options = {
        "url": cluster.rest_url,
        "token": {"key_file": str(cluster.jwt_key_file)},
        "users": {"service": cluster.user},
        "directory": str(cluster.shared / "jobs"),
        **SITE,
    }
    found = SlurmAdapter(
        BackendConfig(name="hpc", type="slurm", instance="test", data_dir="", options=options)
    )
    yield found
    found.close()


@every_release
@pytest.mark.parametrize("said, seen", CASES.values(), ids=CASES)
def test_what_a_job_says_is_what_slurm_shows(cluster, adapter, said, seen):
    shows = submitted(cluster, adapter, said)

    for word, meant in seen.items():
        assert re.fullmatch(meant if isinstance(meant, re.Pattern) else re.escape(meant), shows[word]), word


@pytest.mark.parametrize("cluster", ["24.11"], indirect=True)
def test_a_fabric_may_be_switches_where_the_dialect_has_them(cluster, adapter):
    shows = submitted(cluster, adapter, {"resources": {"fabric": "gpudirect"}})

    assert (shows["Features"], shows["Switches"].split("@")[0]) == ("infiniband", "1")


def submitted(cluster, adapter, said):
    """What Slurm shows of it."""
    resources = Resources(**{"memory_per_node_mib": 100, **said.get("resources", {})})
    members = {"kind": Kind.BATCH, "name": "job", "command": ("true",), "hold": True}
    spec = JobSpec(**{**members, **said, "resources": resources})

    handle = adapter.submit(AttemptRef(marker=MARKER, owner="ana", project="vision"), spec)

    return cluster.show(handle["id"])
