"""What a preset fills of a service, and that it fills nothing that the job says itself."""

from __future__ import annotations

import pytest

from adapters.kubernetes import probes
from adapters.local.refusals import refusals
from api_spec.errors import InvalidSpec
from api_spec.jobs import Preset
from api_spec.packing import pack_spec, unpack_spec
from api_spec.presets import PRESETS
from api_spec.schemas import dump_spec, load_spec

OPEN_INFERENCE = {"path": "/v2/health/ready", "live_path": "/v2/health/live"}
ECHO = {
    "vllm": {
        "port": 8000,
        "health": {"path": "/health"},
        "metrics": {"port": 8000, "path": "/metrics"},
    },
    "triton": {
        "port": 8000,
        "health": OPEN_INFERENCE,
        "metrics": {"port": 8002, "path": "/metrics"},
    },
    "kserve": {
        "port": 8080,
        "health": OPEN_INFERENCE,
        "metrics": {"port": 8080, "path": "/metrics"},
    },
    "http": {"port": 8080, "health": {"path": "/health"}},
}


def sent(**service):
    return {"kind": "inference", "name": "serve", "image": "a/b:1", "service": service}


def echo(**service):
    return dump_spec(load_spec(sent(**service)))["service"]


def test_every_preset_has_its_table():
    assert set(PRESETS) == set(Preset) == {Preset(name) for name in ECHO}


@pytest.mark.parametrize("preset", ECHO)
def test_what_a_preset_fills_is_seen_in_the_job(preset):
    assert echo(preset=preset) == {"preset": preset, "replicas": {"min": 1, "max": 1}, **ECHO[preset]}


@pytest.mark.parametrize("preset", ECHO)
def test_a_job_with_a_preset_can_be_posted_again_and_is_stored_as_it_was(preset):
    loaded = load_spec(sent(preset=preset))

    assert load_spec(dump_spec(loaded)) == loaded
    assert unpack_spec(pack_spec(loaded)) == loaded


OWN = {
    "port": ({"port": 9000}, {"port": 9000}),
    "the health path": (
        {"health": {"path": "/up"}},
        {"health": {"path": "/up", "live_path": "/v2/health/live"}},
    ),
    "the path of life": (
        {"health": {"live_path": "/up"}},
        {"health": {"path": "/v2/health/ready", "live_path": "/up"}},
    ),
    "metrics": ({"metrics": {"port": 9}}, {"metrics": {"port": 9, "path": "/metrics"}}),
}


@pytest.mark.parametrize("case", OWN)
def test_what_the_job_says_itself_stays(case):
    said, seen = OWN[case]

    told = echo(preset="triton", **said)

    assert told | seen == told
    assert {name: told[name] for name in ECHO["triton"] if name not in said} == {
        name: one for name, one in ECHO["triton"].items() if name not in said
    }


def test_without_a_preset_the_port_is_required_and_nothing_else_is_filled():
    assert echo(port=80) == {
        "port": 80,
        "replicas": {"min": 1, "max": 1},
        "health": {"path": "/health"},
    }
    with pytest.raises(InvalidSpec, match="/service/port is required"):
        load_spec(sent(replicas={"min": 1}))


def test_an_unknown_preset_is_refused_with_those_that_there_are():
    with pytest.raises(InvalidSpec, match="/service/preset must be one of: vllm, triton, kserve, http"):
        load_spec(sent(preset="torchserve"))


# ---- as a container of Kubernetes ------------------------------------------------------------------------


def probe(path, port, period_s, failures, timeout_s):
    asked = {"httpGet": {"path": path, "port": port}}
    return {**asked, "periodSeconds": period_s, "failureThreshold": failures, "timeoutSeconds": timeout_s}


def probes_at(port, ready, live):
    return {
        "startupProbe": probe(ready, port, 2, 900, 2),
        "readinessProbe": probe(ready, port, 2, 3, 2),
        "livenessProbe": probe(live, port, 10, 6, 5),
    }


def scraped(port):
    return {"prometheus.io/scrape": "true", "prometheus.io/port": port, "prometheus.io/path": "/metrics"}


def ports(http, metrics=None):
    own = [{"name": "metrics", "containerPort": metrics}] if metrics else []
    return {"ports": [{"name": "http", "containerPort": http}, *own]}


READY, LIVE = "/v2/health/ready", "/v2/health/live"
CONTAINERS = {
    "vllm": (ports(8000) | probes_at(8000, "/health", "/health"), scraped("8000")),
    "triton": (ports(8000, 8002) | probes_at(8000, READY, LIVE), scraped("8002")),
    "kserve": (ports(8080) | probes_at(8080, READY, LIVE), scraped("8080")),
    "http": (ports(8080) | probes_at(8080, "/health", "/health"), {}),
}


@pytest.mark.parametrize("preset", CONTAINERS)
def test_a_preset_as_a_container_of_kubernetes(preset):
    """A model has half an hour to load: nothing ends it for not living before it was ready once."""
    service = load_spec(sent(preset=preset)).service

    assert (probes.served(service), probes.scraped(service)) == CONTAINERS[preset]


# ---- on one machine --------------------------------------------------------------------------------------

FIELDS = {
    "vllm": ["/service/metrics"],
    "triton": ["/service/metrics", "/service/health/live_path"],
    "http": [],
}


@pytest.mark.parametrize("preset", FIELDS)
def test_the_local_backend_refuses_by_name_what_it_cannot_honour(preset):
    wanted = {"kind": "inference", "name": "serve", "command": ["serve"], "service": {"preset": preset}}

    assert [one.field for one in refusals(load_spec(wanted), None)] == FIELDS[preset]
