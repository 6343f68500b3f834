"""What an update of a service cannot change, and what it may say as the file of the service did."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api_spec.errors import Conflict, InvalidSpec
from api_spec.jobs import Dependency, Input, Kind, Output, OutputOf, Placement, When
from api_spec.states import JobState
from tests.builders import spec
from tests.kit import ANA

SERVES = {
    "kind": Kind.INFERENCE,
    "name": "serve",
    "depends_on": (Dependency(name="train"),),
    "inputs": (Input(name="model", from_output=OutputOf(job="train", output="model")),),
}


@pytest.fixture
def trained_service(kit):
    """Both submitted at once: the service names the job whose model it serves."""
    train = spec(name="train", outputs=(Output(name="model", path="model"),))
    return kit.submit_all(train, spec(**SERVES))


def test_the_file_of_a_service_is_its_update_with_the_names_that_it_had(kit, trained_service):
    """``broker update serve serve.yaml``: a name there is the job that was submitted with it."""
    train, serve = trained_service

    job = kit.broker.update(serve, ANA, spec=spec(**SERVES, environment={"V": "2"}))

    assert job.revision == 2
    assert job.spec.environment == {"V": "2"}
    assert job.spec.depends_on == (Dependency(job=train),)
    assert job.spec.inputs == (Input(name="model", from_output=OutputOf(job=train, output="model")),)
    assert job.spec.project == ANA.project
    assert kit.broker.update(serve, ANA, spec=spec(**SERVES, environment={"V": "2"})).revision == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"project": "speech"},
        {"depends_on": ()},
        {"depends_on": (Dependency(name="train", when=When.ENDED),)},
        {"hold": True},
        {"labels": {"a": "b"}},
    ],
    ids=lambda changes: "".join(changes),
)
def test_what_an_update_cannot_change_is_refused_and_not_passed_over(kit, trained_service, changes):
    wanted = {**SERVES, "inputs": (), **changes}

    with pytest.raises(Conflict, match="an update cannot change kind, name, project") as refused:
        kit.broker.update(trained_service[1], ANA, spec=spec(**wanted))

    assert [fault.pointer for fault in refused.value.faults] == [f"/spec/{next(iter(changes))}"]


def test_an_update_that_would_move_a_service_is_refused(kit):
    serve = kit.submit(spec(kind=Kind.INFERENCE, name="serve"))
    kit.reaches(serve, JobState.RUNNING)

    with pytest.raises(Conflict, match="the job is at fake, and an update does not move it") as refused:
        kit.broker.update(
            serve, ANA, spec=replace(kit.get(serve).spec, placement=Placement(backends=("other",)))
        )

    assert [fault.pointer for fault in refused.value.faults] == ["/spec/placement/backends"]


def test_an_update_may_not_wait_for_a_job_that_it_did_not_name_before(kit, trained_service):
    unknown = {**SERVES, "depends_on": (Dependency(name="else"),)}

    with pytest.raises(InvalidSpec, match="is named else") as refused:
        kit.broker.update(trained_service[1], ANA, spec=spec(**unknown))

    assert [fault.pointer for fault in refused.value.faults] == ["/spec/depends_on/0/name"]
