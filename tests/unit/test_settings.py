"""Settings: from a file and the environment, with every fault at once and a hint for each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from api_spec.errors import InvalidConfiguration
from api_spec.field_texts import texts
from api_spec.views import Caps
from broker.settings import Settings, load_settings
from broker.settings.page import page
from broker.settings.reading import KNOBS

REDIS = {"BROKER_REDIS_URL": "redis://127.0.0.1:6379/0"}
PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "broker.toml"
        path.write_text(text)
        return path

    return write


def faults_of(path=None, environ=None):
    with pytest.raises(InvalidConfiguration) as raised:
        load_settings(path, environ or {})
    return {fault.pointer: fault.message for fault in raised.value.faults}


def test_a_redis_url_is_all_that_must_be_said():
    settings = load_settings(environ=REDIS)

    assert settings.redis_url == REDIS["BROKER_REDIS_URL"]
    assert settings.listens_on_loopback
    assert settings.data_dir.is_absolute()


def test_the_environment_goes_before_the_file(write):
    path = write('redis_url = "redis://file"\nlease_s = 20\ninstance = "file"')

    settings = load_settings(environ={"BROKER_CONFIG": str(path), "BROKER_LEASE_S": "40", **REDIS})

    assert (settings.lease_s, settings.instance, settings.redis_url) == (
        40,
        "file",
        REDIS["BROKER_REDIS_URL"],
    )


def test_a_secret_can_come_from_a_mounted_file(tmp_path):
    secret = tmp_path / "url"
    secret.write_text("redis://:pass@host:6379/0\n")

    settings = load_settings(environ={"BROKER_REDIS_URL_FILE": str(secret)})

    assert settings.redis_url == "redis://:pass@host:6379/0"


def test_the_password_of_redis_is_not_in_the_repr():
    assert "hunter2" not in repr(load_settings(environ={"BROKER_REDIS_URL": "redis://:hunter2@host"}))


def test_backends_are_tables_with_options_of_their_own(write):
    path = write("""
        instance = "lab"
        data_dir = "state"
        [[backends]]
        name = "here"
        type = "local"
        options = {cpus = 4}
    """)

    (backend,) = load_settings(path, REDIS).backends

    assert (backend.name, backend.type, backend.instance, backend.options) == (
        "here",
        "local",
        "lab",
        {"cpus": 4},
    )
    assert backend.data_dir == str(path.parent / "state/backends/here")


def test_backends_can_come_from_the_environment_as_json():
    settings = load_settings(environ={"BROKER_BACKENDS": '[{"name": "a", "type": "local"}]', **REDIS})

    assert [backend.name for backend in settings.backends] == ["a"]


def test_all_faults_are_told_at_once(write):
    path = write('lease = 3\nlisten_port = 70000\nrate_limit = "a lot"')

    found = faults_of(path, {"BROKER_POLL_S": "soon"})

    assert found["/lease"] == "is not a setting; did you mean lease_s?"
    assert found["/redis_url"] == "is required; set it in the file or as BROKER_REDIS_URL"
    assert found["/poll_s"].startswith("BROKER_POLL_S: Not a valid number")
    assert {"/listen_port", "/rate_limit"} < set(found)


@pytest.mark.parametrize(
    "name, value",
    [
        pytest.param("redis_url", "redis+cluster://a", id="a cluster by its scheme"),
        pytest.param("redis_url", "redis://a:6379,b:6379/0", id="a cluster by its hosts"),
        pytest.param("redis_url", "http://a", id="not redis"),
        pytest.param("redis_url", "redis://", id="redis without a host"),
        pytest.param("instance", "toolong", id="an instance of seven letters"),
        pytest.param("instance", "Lab", id="an instance in upper case"),
        pytest.param("instance", "lab\n", id="an instance with a line break"),
        pytest.param("lease_s", "0", id="no lease"),
        pytest.param("lease_s", "nan", id="not a number"),
        pytest.param("drain_batch", "0", id="an empty batch"),
        pytest.param("drain_batch", "1.5", id="half a job"),
        pytest.param("allow_volatile", "perhaps", id="neither yes nor no"),
        pytest.param("log_format", "xml", id="an unknown format"),
        pytest.param("backends", '[{"name": "A b", "type": "local"}]', id="a backend name with a blank"),
        pytest.param("backends", '[{"name": "a"}]', id="a backend without a type"),
        pytest.param("backends", "here", id="backends that are not JSON"),
        pytest.param("sweep_s", "30", id="a sweep as long as the lease"),
        pytest.param("max_bundle_bytes", "2048", id="a bundle smaller than a body"),
        pytest.param("policy_file", "/no/such/file", id="a policy file that is not there"),
        pytest.param("worker_name", "", id="a worker without a name"),
        pytest.param("worker_name", "login 1", id="a worker's name with a blank"),
        pytest.param("worker_name", "login:1", id="a worker's name with a colon"),
    ],
)
def test_a_wrong_value_is_refused(name, value):
    found = faults_of(environ={**REDIS, f"BROKER_{name.upper()}": value})

    assert [pointer.split("/")[1] for pointer in found] == [name]


def test_an_option_of_the_adapter_in_the_wrong_place_gets_a_hint(write):
    path = write('[[backends]]\nname = "hpc"\ntype = "slurm"\npartition = "gpu"')

    assert "belong under options" in faults_of(path, REDIS)["/backends/0/partition"]


def test_a_backend_has_the_caps_of_its_table_and_the_settings_where_that_is_silent(write):
    path = write("""
        max_live_jobs = 500
        max_submits_per_s = 20
        [[backends]]
        name = "hpc"
        type = "slurm"
        max_live_jobs = 40
        max_submits_per_s = 0.5
        [[backends]]
        name = "here"
        type = "local"
        max_drains = 1
    """)

    settings = load_settings(path, REDIS)

    assert settings.caps_of("hpc") == Caps(max_drains=2, max_submits_per_s=0.5, max_live_jobs=40)
    assert settings.caps_of("here") == Caps(max_drains=1, max_submits_per_s=20, max_live_jobs=500)
    assert settings.caps_of("gone") == Caps(max_drains=2, max_submits_per_s=20, max_live_jobs=500)


def test_a_worker_reads_the_logs_of_the_backends_that_name_it(write):
    path = write("""
        [[backends]]
        name = "hpc"
        type = "slurm"
        log_reader = "hpc-login.example"
        [[backends]]
        name = "here"
        type = "local"
    """)

    settings = load_settings(path, REDIS | {"BROKER_WORKER_NAME": "hpc-login.example"})

    assert settings.logs_read_by(settings.worker_name) == ("hpc",)
    assert [settings.log_reader_of(name) for name in ("hpc", "here", "gone")] == [
        "hpc-login.example",
        None,
        None,
    ]
    assert settings.logs_read_by("another") == load_settings(path, REDIS).logs_read_by(None) == ()


@pytest.mark.parametrize(
    "table, key, said",
    [
        ('{"log_reader": ""}', "log_reader", "must start with a letter or digit"),
        ('{"log_reader": "Login"}', "log_reader", "must start with a letter or digit"),
        ('{"log_reader": 7}', "log_reader", "Not a valid string"),
        ('{"log_reader": null}', "log_reader", "null"),
        ('{"max_live_jobs": 0}', "max_live_jobs", "at least 1"),
        ('{"max_live_jobs": 1.5}', "max_live_jobs", "integer"),
        ('{"max_live_jobs": null}', "max_live_jobs", "null"),
        ('{"max_drains": -1}', "max_drains", "at least 1"),
        ('{"max_submits_per_s": 0}', "max_submits_per_s", "more than 0"),
        ('{"max_submits_per_s": "many"}', "max_submits_per_s", "number"),
        (
            '{"max_live_job": 3}',
            "max_live_job",
            "is not a key of a backend (name, type, options, max_drains,",
        ),
    ],
)
def test_a_wrong_key_is_refused_by_the_name_of_its_backend_and_its_key(table, key, said):
    """An index says nothing to who has ten backends."""
    backends = [{"name": "here", "type": "local"}, {"name": "hpc", "type": "slurm", **json.loads(table)}]

    with pytest.raises(InvalidConfiguration) as raised:
        load_settings(environ={**REDIS, "BROKER_BACKENDS": json.dumps(backends)})

    assert f"backends.hpc.{key}: " in str(raised.value)
    assert said in str(raised.value)
    assert [fault.pointer for fault in raised.value.faults] == [f"/backends/1/{key}"]


@pytest.mark.parametrize(
    "backends, place",
    [
        pytest.param('[{"type": "local", "colour": 1}]', "backends.0.colour: ", id="without a name"),
        pytest.param('[{"name": 5, "type": "local", "colour": 1}]', "backends.0.colour: ", id="a number"),
        pytest.param('[{"name": "A b", "type": "local"}]', "backends.0.name: ", id="a wrong name"),
        pytest.param('["here"]', "backends.0._schema: ", id="no table"),
    ],
)
def test_a_backend_without_a_good_name_is_told_by_its_place(backends, place):
    with pytest.raises(InvalidConfiguration) as raised:
        load_settings(environ={**REDIS, "BROKER_BACKENDS": backends})

    assert place in str(raised.value)


def test_two_backends_cannot_have_one_name(write):
    path = write('backends = [{name = "a", type = "local"}, {name = "a", type = "slurm"}]')

    assert faults_of(path, REDIS) == {"/backends/1/name": "there is already a backend named a"}


def test_a_misspelt_variable_is_a_fault_and_a_foreign_one_is_not():
    """Jobs get BROKER_JOB_ID, Kubernetes sets BROKER_PORT for a service of that name."""
    foreign = {
        "BROKER_JOB_ID": "x",
        "BROKER_PORT": "tcp://10.0.0.1:80",
        "BROKER_URL": "u",
        "BROKER_TOKEN": "t",
    }

    load_settings(environ={**REDIS, **foreign})

    assert faults_of(environ={**REDIS, "BROKER_LEASES_S": "3"}) == {
        "/leases_s": "BROKER_LEASES_S is not a setting; did you mean BROKER_LEASE_S?"
    }


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "broker.example"])
def test_the_local_backend_is_not_offered_to_other_machines(host):
    """It isolates nobody from nobody."""
    exposed = {**REDIS, "BROKER_BACKENDS": '[{"name": "a", "type": "local"}]', "BROKER_LISTEN_HOST": host}

    assert list(faults_of(environ=exposed)) == ["/listen_host"]
    assert load_settings(environ={**exposed, "BROKER_ALLOW_SHARED_LOCAL": "true"}).allow_shared_local


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_is_this_machine(host):
    assert load_settings(environ={**REDIS, "BROKER_LISTEN_HOST": host}).listens_on_loopback


@pytest.mark.parametrize(
    "text, said", [(None, "cannot be read"), ("lease_s =", "not TOML"), ("\xff", "not TOML")]
)
def test_a_file_that_cannot_be_read_is_a_clear_fault(tmp_path, text, said):
    path = tmp_path / "broker.toml"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))

    with pytest.raises(InvalidConfiguration, match=said):
        load_settings(path, REDIS)


def test_every_setting_is_documented():
    assert set(texts(Settings)) == set(KNOBS)


def test_the_page_of_settings_is_fresh():
    assert PAGE.read_text() == "\n".join(page()), "run: python -m broker.settings.page > docs/settings.md"
