"""One token of the cluster's, many users: each job runs as the user that the operator gives to its owner."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from adapters.base import LogQuery
from adapters.errors import Rejected
from adapters.slurm.adapter import SlurmAdapter
from api_spec.jobs import JobSpec, Kind, Resources
from api_spec.reasons import Reason
from api_spec.states import AttemptState
from tests.contract.places import new_ref
from tests.helpers import wait_until
from tests.real.slurm.fixtures import WITH_ACCOUNTING
from tests.real.slurm_kit import config

pytestmark = [
    pytest.mark.real_as_root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start jobs as other users"),
    pytest.mark.parametrize("cluster", WITH_ACCOUNTING, indirect=True),
]
WHO = JobSpec(
    kind=Kind.BATCH, name="who", command=("id", "-un"), resources=Resources(memory_per_node_mib=100)
)

BUSY = replace(WHO, command=("sleep", "2"))


@pytest.fixture(params=["one token that acts for all", "a token for each user"])
def adapter(request, cluster):
    acts_for_all = request.param.startswith("one")
    ana, ben, _ = cluster.users
    token = {"key_file": str(cluster.jwt_key_file), **({"user": cluster.admin} if acts_for_all else {})}
    adapter = SlurmAdapter(config(cluster, token=token, users={"table": {"ana": ana, "ben": ben}}))
    yield adapter
    adapter.close()


def test_a_job_runs_as_its_owners_user_and_its_usage_is_theirs(cluster, adapter):
    refs = [new_ref(WHO, owner=owner) for owner in ("ana", "ben")]
    handles = [adapter.submit(ref, WHO) for ref in refs]

    def ended():
        seen = adapter.observe(refs).found
        return len(seen) == 2 and all(one.state is AttemptState.ENDED for one in seen.values())

    wait_until(ended, 30)
    for ref, handle, user in zip(refs, handles, cluster.users, strict=False):
        assert handle["user"] == user
        where = cluster.run("scontrol", "-o", "show", "job", str(handle["id"]))
        assert f"UserId={user}(" in where
        page = adapter.logs(replace(ref, handle=handle), LogQuery())
        assert page.data.decode().strip() == user
        wait_until(lambda handle=handle, user=user: recorded_user(cluster, handle["id"]) == user, 30)


def recorded_user(cluster, job_id):
    command = ("sacct", "--allusers", "-X", "-P", "-n", "--starttime=now-1hour", "-j", str(job_id))
    return cluster.run(*command, "--format=user").strip()


def test_an_owner_who_is_nobody_here_is_refused_before_anything_is_sent(cluster, adapter):
    with pytest.raises(Rejected) as refusal:
        adapter.submit(new_ref(WHO, owner="eve"), WHO)

    assert refusal.value.reason is Reason.NOT_ALLOWED


def test_somebody_elses_job_is_left_alone(cluster, adapter):
    """Its user is part of the handle; a marker that is not its name makes it a stranger's."""
    ref = new_ref(WHO, owner="ana")
    adapter.submit(ref, WHO)
    other = cluster.submit("sleep 100", f"--job-name={ref.marker}x", user=cluster.users[2])

    adapter.cancel(replace(ref, handle={"cluster": cluster.name, "id": other, "user": cluster.users[2]}))

    assert cluster.state(other) in ("PENDING", "RUNNING")


def test_usage_is_told_for_each_user_in_each_account(cluster, adapter):
    began = time.time() + 3  # Slurm counts in seconds: what other tests ran is over by then
    wait_until(lambda: time.time() > began)
    refs = [new_ref(WHO, owner=owner) for owner in ("ana", "ben", "ana")]
    for ref in refs:
        adapter.submit(ref, BUSY)

    def told():
        used = {one.user: one for one in adapter.usage(began - 1, time.time())}
        return {user: used[user].runs for user in cluster.users[:2] if user in used and used[user].cpu_s > 0}

    ana, ben, _ = cluster.users
    wait_until(lambda: told() == {ana: 2, ben: 1}, 60)
