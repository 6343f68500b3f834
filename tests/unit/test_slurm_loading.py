"""What an operator may set for a Slurm backend: every fault is one sentence that names its key."""

from __future__ import annotations

from dataclasses import fields

import pytest

from adapters.slurm import loading
from adapters.slurm.options import FabricOptions, Options, TokenSource, Users
from tests.slurm_kit import options

LEAST = {
    "directory": "/home/{user}/.broker",
    "url": "https://slurm.example:6820",
    "token": {"file": "/etc/token", "user": "slurm"},
    "users": {"table": {"ana@example.org": "ana"}},
}


def test_the_least_that_has_to_be_said():
    found = loading.load(LEAST, "hpc")

    assert found.token == TokenSource(file="/etc/token", user="slurm")
    assert found.users == Users(table={"ana@example.org": "ana"})
    assert found.priorities == {"low": {"nice": 1000}}


def test_everything_that_can_be_said():
    found = options(
        directory="/scratch/{project}/{user}/",
        url=None,
        socket="/run/slurmrestd.socket",
        cluster="lab",
        token={"key_file": "/etc/key", "lifespan_s": 60, "user": None},
        users={"owner": True, "strip_domain": "example.org"},
        answer_s=20,
        defaults={"partition": "gpu,long", "account": "vision"},
        allowed=["qos"],
        priorities={"high": {"qos": "high"}},
        preemptible={"qos": "scavenger"},
        fabrics={"rdma": {"constraint": "ib", "switches": 1, "environment": {"NCCL_IB_HCA": "mlx5"}}},
        gpu_types={"h100": "nvidia_h100"},
        mig_profiles={"1g.10gb": "gpu:a100_1g.10gb"},
        containers="pyxis",
        environment={"HOME": "/home/{user}"},
        secrets_directory="/etc/secrets",
        guard=False,
        log_roots=["/mnt"],
        log_paths={"/home": "/mnt/home"},
    )

    assert found.directory == "/scratch/{project}/{user}"
    assert found.fabrics["rdma"] == FabricOptions(
        constraint="ib", switches=1, environment={"NCCL_IB_HCA": "mlx5"}
    )
    assert found.answer_s == 20.0
    assert found.allowed == ("qos",)


def test_every_option_is_read_and_checked():
    for of, readers in (
        (Options, loading.READERS),
        (TokenSource, loading.TOKEN),
        (Users, loading.USERS),
        (FabricOptions, loading.FABRIC),
    ):
        assert set(readers) == {one.name for one in fields(of)}


FAULTS = [
    ({"directory": None}, "directory is missing"),
    ({"users": None}, "users is missing"),
    ({"partition": "gpu"}, "no option partition; known are allowed, "),
    ({"directory": "home"}, "directory is an absolute path"),
    ({"directory": "/home/{owner}"}, "directory holds '{'; it knows {user} and {project}"),
    ({"directory": "/home/%u"}, "directory holds '%'"),
    ({"directory": "/home/../etc"}, 'directory has no ".." in it'),
    ({"directory": "/" + "d" * 4000}, "at most 3500 characters"),
    ({"directory": "/a\nb"}, "directory is one line of text"),
    ({"transport": "ssh"}, "transport is rest or pyslurm, not 'ssh'"),
    ({"url": None}, "needs either url or socket"),
    ({"socket": "/run/s"}, "needs either url or socket"),
    ({"url": "slurm.example:6820"}, "url is such as https://"),
    ({"url": "http://[::1"}, "url is such as https://"),
    ({"url": "http://slurm:99999"}, "url is such as https://"),
    ({"url": "http://ana:pw@slurm"}, "a token goes into token"),
    ({"transport": "pyslurm"}, "url and socket belong to the transport rest"),
    ({"token": None}, "token is missing: exactly one of"),
    ({"token": {}}, "exactly one of file, command and key_file; found none"),
    ({"token": {"file": "/a", "key_file": "/b"}}, "found file and key_file"),
    ({"token": {"file": "/a"}}, "token.user is missing"),
    ({"token": {"files": "/a"}}, "no option token.files; known are command, "),
    ({"token": {"command": "scontrol token"}}, "token.command is a list"),
    ({"token": {"key_file": "/a", "lifespan_s": 0}}, "token.lifespan_s is a whole number of at least 1"),
    ({"token": "secret"}, "token is a table"),
    ({"users": {}}, "users names one way"),
    ({"users": {"service": "a", "owner": True}}, "found service and owner"),
    ({"users": {"service": "root"}}, "users.service: 'root' cannot be whom a job runs as"),
    ({"users": {"table": {"ana": "Ana"}}}, "users.table.ana: 'Ana' cannot be"),
    ({"users": {"table": {"ana": 5}}}, "users.table.ana is one line of text"),
    ({"users": {"service": "a", "strip_domain": "x"}}, "users.strip_domain goes with users.owner"),
    ({"answer_s": 0}, "answer_s is a number of seconds above 0"),
    ({"settle_s": True}, "settle_s is a number of seconds"),
    ({"guard": "yes"}, "guard is true or false"),
    ({"defaults": {"partiton": "gpu"}}, "defaults.partiton is no option here"),
    ({"defaults": {"nice": "high"}}, "defaults.nice needs a whole number"),
    ({"allowed": ["partition", "uid"]}, "allowed names uid; a job can set account, "),
    ({"allowed": "partition"}, "allowed is a list"),
    ({"priorities": {"urgent": {}}}, "priorities has a row for urgent"),
    ({"priorities": {"high": {"qos": "a b"}}}, "priorities.high.qos needs text"),
    ({"preemptible": {"qos": 5}}, "preemptible.qos needs text"),
    ({"fabrics": {"infiniband": {}}}, "fabrics has a row for infiniband"),
    ({"fabrics": {"rdma": {"constrain": "ib"}}}, "no option fabrics.rdma.constrain"),
    ({"fabrics": {"rdma": {"constraint": "a b"}}}, "fabrics.rdma.constraint needs text"),
    ({"fabrics": {"rdma": {"environment": {"a-b": "c"}}}}, "fabrics.rdma.environment.a-b cannot be the name"),
    ({"gpu_types": {"h100": 1}}, "gpu_types.h100 is one line of text"),
    ({"containers": "docker"}, "containers is none or pyxis"),
    ({"containers": "pyxis", "directory": "/a b"}, "a mount of Pyxis cannot carry"),
    ({"container_feature": "pyxis"}, 'container_feature is of containers = "pyxis"'),
    ({"containers": "pyxis", "container_feature": "a&b"}, "container_feature is the name of one feature"),
    ({"environment": {"BROKER_X": "1"}}, "environment.BROKER_X cannot be the name"),
    ({"environment": {"A": 1}}, "environment.A is text"),
    ({"log_roots": ["home"]}, "log_roots[0] is an absolute path"),
    ({"log_paths": {"/home": "mnt"}}, "log_paths./home is an absolute path"),
]


@pytest.mark.parametrize("changes, sentence", FAULTS, ids=[sentence[:50] for _, sentence in FAULTS])
def test_a_fault_is_a_sentence_with_the_backend_and_the_key(changes, sentence):
    with pytest.raises(ValueError) as refused:
        loading.load({**LEAST, **changes}, "hpc")

    assert str(refused.value).startswith("hpc: ")
    assert str(refused.value).count("hpc: ") == 1
    assert sentence in str(refused.value)


def test_what_is_enforced_is_enforced_with_its_associations():
    assert options(enforced=["qos"]).enforced == ("associations", "qos")
    assert options(enforced=[]).enforced == ()
    with pytest.raises(ValueError, match="enforced names wckeys"):
        options(enforced=["wckeys"])
