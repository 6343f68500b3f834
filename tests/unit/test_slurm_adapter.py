"""What the adapter itself decides between the contract and a transport."""

from __future__ import annotations

import pytest

from adapters.base import BackendConfig
from adapters.errors import Busy
from adapters.slurm.adapter import SlurmAdapter
from api_spec.states import AttemptState
from tests.builders import spec
from tests.slurm_cluster import InMemory
from tests.slurm_kit import ref
from tests.slurm_rows import row

OPTIONS = {
    "directory": "/nowhere/{user}",
    "url": "http://127.0.0.1:6820",
    "token": {"key_file": "/etc/key"},
    "users": {"owner": True},
}


def adapter(transport, **changes):
    options = {**OPTIONS, **changes}
    config = BackendConfig(name="hpc", type="slurm", instance="x", data_dir="", options=options)
    return SlurmAdapter(config, transport)


# ---- the right cluster -------------------------------------------------------------------------------


@pytest.mark.parametrize("named_by_jobs", [False, True])
def test_another_cluster_behind_the_address_gets_nothing(named_by_jobs):
    cluster = InMemory(name="other", named_by_jobs=named_by_jobs)
    cluster.put(row("RUNNING", id=5, name="somebody's"))

    with pytest.raises(Busy, match="is the cluster other and not hpc"):
        adapter(cluster, cluster="hpc").submit(ref(), spec())

    assert "submit" not in cluster.asked


def test_a_cluster_that_does_not_say_its_name_yet_gets_jobs():
    """22.05 names itself in the rows of jobs alone: with an empty queue nothing was ever submitted to it."""
    cluster = InMemory(name="hpc", named_by_jobs=True)

    handle = adapter(cluster, cluster="hpc").submit(ref(), spec())

    assert handle["cluster"] == "hpc"


# ---- a pass over what has not changed ----------------------------------------------------------------


def test_what_has_not_changed_is_told_as_before_and_what_has_is_told_anew():
    cluster = InMemory(name="hpc")
    cluster.put(row("PENDING", id=1, name="one"), row("PENDING", id=2, name="two"))
    ours = adapter(cluster)
    refs = [ref(marker=name, handle=None) for name in ("one", "two")]
    first = ours.observe(refs).found

    cluster.move(2, "RUNNING", started_at=5.0, nodes=("n1",))
    second = ours.observe(refs).found

    assert second["one"] is first["one"]
    assert (first["two"].state, second["two"].state) == (AttemptState.QUEUED, AttemptState.RUNNING)


# ---- what another process sees -----------------------------------------------------------------------


def test_what_a_check_says_of_files_can_be_asked_for_alone(tmp_path):
    """A log reader is asked for it: the API process may see other files, or none."""
    (tmp_path / "ana").write_text("no directory")
    hpc = adapter(InMemory(), directory=f"{tmp_path}/{{user}}", users={"service": "ana"})

    of_files = hpc.check_files()

    assert [(one.subject, one.well) for one in of_files] == [("logs", True), ("directory", False)]
    assert [one for one in hpc.check() if one.subject in ("logs", "directory")] == of_files
