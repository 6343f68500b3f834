"""The strict door for specifications: what is refused, where, with which hint; and the way there and back."""

from __future__ import annotations

import subprocess
import sys
import zlib
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import Schema, ValidationError, missing
from marshmallow.fields import Field
from marshmallow.validate import OneOf

from api_spec.errors import InvalidSpec
from api_spec.jobs import Dependency, Fabric, Kind, Preset, Replicas, Resources, Retry, Service, When
from api_spec.packing import pack_spec, spec_digest, unpack_spec
from api_spec.reasons import RETRYABLE
from api_spec.schemas import dump_spec, load_spec
from api_spec.schemas.fields import Text
from api_spec.schemas.job import BY_KIND
from api_spec.schemas.parts import NAME
from tests.builders import spec

ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
WORDS = ("", "a", "a.b-c_1", "A", "a b", "a\n", "a\x00", "\ud800", "NodeLost", "Nodelost", "a" * 63, "a" * 64)
SERVICE = {"port": 8000}


def document(**changes):
    """The shortest training job, but for ``changes``; None takes a member away."""
    members = {"kind": "training", "name": "train", "command": ["true"], **changes}
    return {name: value for name, value in members.items() if value is not None}


def faults_of(sent, pointer=""):
    with pytest.raises(InvalidSpec) as refused:
        load_spec(sent, pointer)
    return {fault.pointer: fault.message for fault in refused.value.faults}


# ---- what is read ------------------------------------------------------------------------------------


def test_the_shortest_job_has_every_default_of_its_dataclass():
    assert load_spec(document()) == spec()


def test_units_are_read_as_people_write_them():
    loaded = load_spec(document(resources={"memory_per_node": "200GiB"}, time_limit="1-02:00:00"))

    assert loaded.resources.memory_per_node_mib == 204800
    assert loaded.time_limit_s == 26 * 3600


def test_null_says_no_more_than_leaving_it_out():
    assert load_spec(document(resources={"gpu_type": None}) | {"image": None, "array": None}) == spec()


def test_an_argument_may_hold_anything_that_a_process_can_be_given():
    arguments = ["", "two\nlines", "\ttab", "größer 你好 🚀", '"; rm -rf /']

    assert load_spec(document(arguments=arguments)).arguments == tuple(arguments)


def test_a_service_with_a_minimum_alone_has_that_many_replicas():
    sent = document(kind="inference", service={"port": 80, "replicas": {"min": 3}})

    assert load_spec(sent).service == Service(port=80, replicas=Replicas(min=3, max=3))


@pytest.mark.parametrize(
    "program",
    [
        {"command": ["a"]},
        {"script": "#!/bin/sh\ntrue\n"},
        {"image": "a/b:1"},
        {"image": "a/b:1", "command": ["a"]},
    ],
    ids=lambda program: " and ".join(program),
)
def test_a_job_runs_a_command_a_script_or_what_its_image_knows(program):
    load_spec({"kind": "batch", "name": "x", **program})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZERS_PARALLELISM", "false"),
        ("MAX_TOKENS", "100"),
        ("EOS_TOKEN", "</s>"),
        ("PASSWORD_FILE", "secret.txt"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/run/secrets/google.json"),
        ("HF_TOKEN", ""),
        ("KEYBOARD", "de"),
        ("SECRETARIAT", "ana"),
        ("SORT_KEY", "name"),
        ("COMPASS", "north"),
        ("PROXY", "http://ana@proxy:3128"),
        ("MAIL", "to:ana@example.org"),
        ("RANGE", "http://host/a:b@c"),
    ],
)
def test_a_harmless_environment_name_is_not_taken_for_a_secret(name, value):
    assert load_spec(document(environment={name: value})).environment == {name: value}


# ---- what is refused ---------------------------------------------------------------------------------


def serving(**service):
    return {"kind": "inference", "service": SERVICE | service}


WRONG = [
    # members and their types
    ({"nmae": "x"}, "/nmae", 'did you mean "name"?'),
    ({"resources": {"gpus_per_nodes": 1}}, "/resources/gpus_per_nodes", 'did you mean "gpus_per_node"?'),
    ({"gpus": 4}, "/gpus", '"resources.gpus_per_node"'),
    ({"walltime": "4h"}, "/walltime", '"time_limit"'),
    ({"partition": "gpu"}, "/partition", '"placement.slurm.partition"'),
    ({"zzz": 1}, "/zzz", "there are "),
    ({"name": None}, "/name", "is required"),
    ({"command": "echo hi"}, "/command", 'must be a list: ["echo", "hi"]'),
    ({"command": "a | b"}, "/command", 'must be a list: ["sh", "-c", "a | b"]'),
    ({"command": "it's"}, "/command", 'must be a list: ["sh", "-c", "it\'s"]'),
    ({"command": "x" * 300}, "/command", 'must be a list, such as ["python3", "train.py"]'),
    ({"arguments": "--epochs 90"}, "/arguments", 'must be a list: ["--epochs", "90"]'),
    ({"command": ["sleep", 5]}, "/command/1", "must be a string; put quotes around it"),
    ({"outputs": "a"}, "/outputs", "must be a list"),
    ({"environment": []}, "/environment", "must be an object"),
    ({"resources": 4}, "/resources", "must be an object"),
    ({"resources": {"nodes": "2"}}, "/resources/nodes", "must be a whole number"),
    ({"resources": {"nodes": 2.0}}, "/resources/nodes", "must be a whole number"),
    ({"resources": {"nodes": True}}, "/resources/nodes", "must be a whole number"),
    ({"resources": {"nodes": 0}}, "/resources/nodes", "from 1 to"),
    ({"preemptible": "yes"}, "/preemptible", "true or false"),
    ({"preemptible": 1}, "/preemptible", "true or false"),
    ({"priority": "urgent"}, "/priority", "low, normal, high"),
    ({"priority": []}, "/priority", "low, normal, high"),
    ({"resources": {"memory_per_node": "200G"}}, "/resources/memory_per_node", "200GiB"),
    ({"time_limit": "2:30"}, "/time_limit", "2h30m"),
    ({"labels": {"team": 7}}, "/labels/team", "must be a string"),
    # text
    ({"name": "Train"}, "/name", "a-z"),
    ({"name": "a\n"}, "/name", "control characters"),
    ({"name": "a" * 64}, "/name", "1 to 63"),
    ({"name": "-a"}, "/name", "begin with"),
    ({"image": "a\x00b"}, "/image", "control characters"),
    ({"image": "\ud800"}, "/image", "surrogates"),
    ({"command": ["a\x00b"]}, "/command/0", "NUL"),
    ({"arguments": ["\ud800"]}, "/arguments/0", "surrogates"),
    ({"environment": {"A": "\x00"}}, "/environment/A", "NUL"),
    ({"environment": {"1A": "x"}}, "/environment/1A", "not begin with a digit"),
    ({"labels": {"a/b": "x y"}}, "/labels/a~1b", "letters"),
    ({"labels": {str(n): "" for n in range(9)}}, "/labels", "8 is the most"),
    ({"working_directory": "here"}, "/working_directory", "absolute"),
    # the program and its environment
    ({"command": []}, "/command", "1 to 4096 items"),
    ({"command": [""]}, "/command", "the program"),
    ({"command": None}, "/command", "unless there is a script"),
    ({"script": "#!/bin/sh"}, "/script", "beside command"),
    ({"command": None, "script": "true"}, "/script", "#!/bin/bash"),
    ({"command": None, "script": "#!/bin/sh\r\ntrue\r\n"}, "/script", "Windows"),
    ({"environment": {"WANDB_API_KEY": "1"}}, "/environment/WANDB_API_KEY", "secrets: {WANDB_API_KEY"),
    ({"environment": {"HF_TOKEN": "1"}}, "/environment/HF_TOKEN", "looks like a secret"),
    ({"environment": {"PGPASSWORD": "1"}}, "/environment/PGPASSWORD", "looks like a secret"),
    ({"environment": {"client_secret": "1"}}, "/environment/client_secret", "looks like a secret"),
    ({"environment": {"MYSECRET": "1"}}, "/environment/MYSECRET", "looks like a secret"),
    ({"environment": {"MYSQL_PWD": "1"}}, "/environment/MYSQL_PWD", "looks like a secret"),
    ({"environment": {"GH_PAT": "1"}}, "/environment/GH_PAT", "looks like a secret"),
    ({"environment": {"OPENAI_KEY": "1"}}, "/environment/OPENAI_KEY", "looks like a secret"),
    ({"environment": {"api_key_1": "1"}}, "/environment/api_key_1", "looks like a secret"),
    ({"environment": {"DATABASE": "postgres://u:p@db/x"}}, "/environment/DATABASE", "looks like a secret"),
    (
        {"array": {"parameters": [{"lr": 0.1}, {"lr": 0.1, "api_key": "k"}]}},
        "/array/parameters/1/api_key",
        "looks like a secret",
    ),
    ({"inputs": [{"name": "a", "uri": "https://me:pw@host/a"}]}, "/inputs/0/uri", "not carry a password"),
    ({"inputs": [{"name": "a", "uri": "s3://:pw@host/a"}]}, "/inputs/0/uri", "not carry a password"),
    (
        {"environment": {"AWS_SECRET_ACCESS_KEY": "1"}},
        "/environment/AWS_SECRET_ACCESS_KEY",
        "looks like a secret",
    ),
    ({"environment": {"BROKER_JOB_ID": "1"}}, "/environment/BROKER_JOB_ID", "the broker's own"),
    (
        {"environment": {"A": "1"}, "secrets": {"A": {"name": "a", "key": "b"}}},
        "/secrets/A",
        "in environment as well",
    ),
    ({"secrets": {"A": "value"}}, "/secrets/A", "must be an object"),
    # resources
    ({"resources": {"gpu_type": "h100"}}, "/resources/gpu_type", "gpus_per_node is 0"),
    ({"resources": {"fabric": "gpudirect"}}, "/resources/fabric", "gpus_per_node is 0"),
    ({"resources": {"gpus_per_node": 1, "mig_profile": "half"}}, "/resources/mig_profile", "1g.10gb"),
    # arrays
    ({"array": {}}, "/array", "either indices or parameters"),
    ({"array": {"indices": "0-3", "parameters": [{"a": 1}]}}, "/array", "either indices or parameters"),
    ({"array": {"indices": "0-10000"}}, "/array/indices", "at most 10000"),
    ({"array": {"indices": "0-9%2"}}, "/array/indices", "max_running"),
    ({"array": {"parameters": []}}, "/array/parameters", "1 to 10000 items"),
    ({"array": {"parameters": [{"a": None}]}}, "/array/parameters/0/a", "null"),
    ({"array": {"parameters": [{"a": 1}, {"lr": 1, "LR": 2}]}}, "/array/parameters/1/LR", "BROKER_PARAM_LR"),
    ({"array": {"parameters": [{"a": float("inf")}]}}, "/array/parameters/0/a", "finite"),
    ({"array": {"parameters": [{"a": [1]}]}}, "/array/parameters/0/a", "must be a string"),
    # other jobs
    ({"depends_on": [{}]}, "/depends_on/0", "either job"),
    ({"depends_on": [{"job": ID, "name": "a"}]}, "/depends_on/0", "either job"),
    ({"depends_on": [{"job": "pretrain"}]}, "/depends_on/0/job", "goes by name"),
    ({"depends_on": [{"name": "a"}, {"name": "a", "when": "ended"}]}, "/depends_on", "twice"),
    ({"depends_on": [{"name": "a", "when": "done"}]}, "/depends_on/0/when", "succeeded"),
    ({"retry": {"max_attempts": 3}}, "/retry/on", "NodeLost"),
    ({"retry": {"on": ["NodeLost"]}}, "/retry/max_attempts", "2 or more"),
    ({"retry": {"max_attempts": 3, "on": ["Cancelled"]}}, "/retry/on/0", "cannot be retried"),
    ({"retry": {"max_attempts": 3, "on": ["NodeLost", "NodeLost"]}}, "/retry/on", "twice"),
    # data
    ({"inputs": [{"name": "a"}]}, "/inputs/0", "either uri or from"),
    ({"inputs": [{"name": "a", "uri": "x y"}]}, "/inputs/0/uri", "s3://"),
    ({"inputs": [{"name": "a", "from": {"job": "b"}}]}, "/inputs/0/from/output", "is required"),
    ({"inputs": [{"name": "a-b", "uri": "/a"}, {"name": "A.B", "uri": "/a"}]}, "/inputs", "A_B twice"),
    ({"outputs": [{"name": "a", "path": "../b"}]}, "/outputs/0/path", '".."'),
    ({"outputs": [{"name": "a", "path": "b"}] * 2}, "/outputs", "twice"),
    ({"volumes": [{"source": "a", "mount_path": "data"}]}, "/volumes/0/mount_path", "absolute"),
    ({"volumes": [{"source": "a", "mount_path": "/d"}] * 2}, "/volumes", "twice"),
    # placement
    ({"placement": {"backends": ["a", "a"]}}, "/placement/backends", "twice"),
    ({"placement": {"backends": ["a"], "options": {"b": {}}}}, "/placement/options", "does not allow"),
    ({"placement": {"options": {"No Name": {}}}}, "/placement/options/No Name", "a-z"),
    ({"placement": {"options": {"hpc": 1}}}, "/placement/options/hpc", "must be an object"),
    ({"placement": {"slurm": {"a": float("nan")}}}, "/placement/slurm", "no backend can take"),
    ({"placement": {"slurm": {"a": {"b": {"c": {"d": {"e": {"f": {}}}}}}}}}, "/placement/slurm", "nested"),
    # kinds
    ({"kind": None}, "/kind", "training, batch or inference"),
    ({"kind": "trainig"}, "/kind", 'did you mean "training"?'),
    ({"kind": ["training"]}, "/kind", "must be one of"),
    ({"service": SERVICE}, "/service", "only inference jobs"),
    ({"kind": "inference"}, "/service", "is required"),
    ({"kind": "inference", "service": SERVICE, "array": {"indices": "1"}}, "/array", "cannot be an array"),
    (serving(port=0), "/service/port", "from 1 to 65535"),
    (serving(replicas={"min": 3, "max": 2}), "/service/replicas/max", "below min, 3"),
    (serving(replicas={"min": 0, "max": 2}), "/service/replicas/min", "needs scale_on"),
    (serving(replicas={"min": 0, "max": 0}), "/service/replicas/max", "from 1 to"),
    (serving(scale_on={"metric": "cpu", "target": 0}), "/service/scale_on/target", "above 0"),
    (serving(scale_on={"metric": "a b", "target": 1}), "/service/scale_on/metric", "made of letters"),
    (
        serving(scale_on={"metric": "cpu", "target": 1, "measured": "external"}),
        "/service/scale_on/measured",
        "measured at the replicas",
    ),
    (
        serving(scale_on={"metric": "a", "target": 1, "selector": {"b": "c"}}),
        "/service/scale_on/selector",
        "measured: external",
    ),
    ({"kind": "inference", "service": {}}, "/service/port", "is required"),
    (
        {"kind": "inference", "service": {**SERVICE, "model": {"uri": "http://me:pw@host/m"}}},
        "/service/model/uri",
        "not carry a password",
    ),
    ({"kind": "inference", "service": {"preset": "x"}}, "/service/preset", "vllm, triton"),
]


@pytest.mark.parametrize(
    ("changes", "pointer", "words"), WRONG, ids=[f"{case[1]} {case[2]}" for case in WRONG]
)
def test_a_fault_is_told_where_it_is_with_what_would_be_right(changes, pointer, words):
    faults = faults_of(document(**changes))

    assert words in faults[pointer]


@pytest.mark.parametrize("sent", [None, [], "job", 5, True], ids=repr)
def test_what_is_no_object_is_no_job(sent):
    assert faults_of(sent) == {"": "must be an object"}


def test_every_fault_is_told_at_once():
    """Whoever has four mistakes in a file should not have to submit it four times."""
    faults = faults_of(
        document(
            nmae="x",
            kind="trainig",
            resources={"nodes": 0, "memory_per_node": 5},
            environment={"1A": "x", "HF_TOKEN": "x"},
            inputs=[{"name": "a", "uri": "/a"}, {"name": "b"}],
        ),
        "/jobs/7",
    )

    assert sorted(faults) == [
        "/jobs/7/environment/1A",
        "/jobs/7/environment/HF_TOKEN",
        "/jobs/7/inputs/1",
        "/jobs/7/kind",
        "/jobs/7/nmae",
        "/jobs/7/resources/memory_per_node",
        "/jobs/7/resources/nodes",
    ]


def test_the_message_names_the_first_fault_and_how_many_there_are():
    with pytest.raises(
        InvalidSpec, match=r"^/resources/nodes must be a whole number from 1 to 100000 \(and 1 more\)$"
    ):
        load_spec(document(resources={"nodes": 0, "tasks_per_node": 0}))


def test_a_misspelt_field_is_told_before_the_one_that_is_missing_for_it():
    """Only the first fault stands in the message; what was written is easier to find than what was not."""
    wrong = {"kimd": "batch", "nmae": "x", "command": ["true"], "resources": {"nodes": 0}}

    with pytest.raises(InvalidSpec, match=r'^/kimd there is no such field; did you mean "kind"') as caught:
        load_spec(wrong)

    pointers = [fault.pointer for fault in caught.value.faults]
    assert pointers == ["/kimd", "/nmae", "/resources/nodes", "/kind", "/name"]


def test_a_document_full_of_faults_gets_a_short_answer():
    sent = document(arguments=[0] * 4000, **{f"unknown{n}": 1 for n in range(150)}, **{"x" * 100_000: 1})

    faults = faults_of(sent)

    assert len(faults) <= 100
    assert len(str(faults)) < 20_000


def test_a_document_with_more_members_than_any_schema_gets_one_answer():
    assert "has 5003 members" in faults_of(document(**{f"unknown{n}": 1 for n in range(5000)}))[""]


# ---- there and back ----------------------------------------------------------------------------------

names = st.from_regex(r"[a-z0-9][-a-z0-9._]{0,20}", fullmatch=True)
words = st.from_regex(r"[A-Za-z0-9][-A-Za-z0-9._]{0,20}", fullmatch=True)
variables = st.from_regex(r"V[A-Z0-9_]{0,10}", fullmatch=True)
lines = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=30)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30)
paths = lines.map(lambda line: "/" + line)
scalars = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
options = st.dictionaries(words, st.one_of(scalars, st.none(), st.lists(scalars, max_size=2)), max_size=3)
values = {
    "project": names,
    "image": lines,
    "arguments": st.lists(texts, max_size=3),
    "environment": st.dictionaries(variables, st.just("x") | st.text("ab\n", max_size=5), max_size=3),
    "secrets": st.dictionaries(st.just("S_1"), st.fixed_dictionaries({"name": words, "key": words})),
    "working_directory": paths,
    "resources": st.fixed_dictionaries(
        {"gpus_per_node": st.integers(1, 8)},
        optional={
            "nodes": st.integers(1, 9),
            "tasks_per_node": st.integers(1, 9),
            "cpus_per_task": st.integers(1, 9),
            "memory_per_node": st.sampled_from(["16GB", "200GiB", "1B", "1.5TiB"]),
            "gpu_type": words,
            "mig_profile": st.just("1g.10gb"),
            "fabric": st.sampled_from(Fabric).map(str),
        },
    ),
    "time_limit": st.sampled_from(["90s", "4h", "PT4H", "1-02:00:00", "1d"]),
    "priority": st.sampled_from(["low", "normal", "high"]),
    "preemptible": st.booleans(),
    "depends_on": st.lists(
        st.fixed_dictionaries({"name": names}, optional={"when": st.sampled_from(When).map(str)}),
        max_size=3,
        unique_by=lambda dependency: dependency["name"],
    ),
    "retry": st.fixed_dictionaries(
        {
            "max_attempts": st.integers(2, 9),
            "on": st.lists(st.sampled_from(sorted(RETRYABLE)).map(str), min_size=1, max_size=3, unique=True),
        }
    ),
    "volumes": st.lists(
        st.fixed_dictionaries({"source": lines, "mount_path": paths}, optional={"read_only": st.booleans()}),
        max_size=2,
        unique_by=lambda volume: volume["mount_path"],
    ),
    "inputs": st.one_of(
        st.tuples(st.fixed_dictionaries({"name": words, "uri": paths})).map(list),
        st.tuples(
            st.fixed_dictionaries(
                {"name": words, "from": st.fixed_dictionaries({"job": names, "output": words})}
            )
        ).map(list),
    ),
    "outputs": st.tuples(st.fixed_dictionaries({"name": words, "path": words})).map(list),
    "labels": st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["", "x", "a-b.c"]), max_size=8),
    "placement": st.fixed_dictionaries(
        {},
        optional={
            "slurm": options,
            "kubernetes": options,
            "local": options,
            "options": st.dictionaries(names, options),
        },
    ),
    "hold": st.booleans(),
}
arrays = st.one_of(
    st.fixed_dictionaries({"indices": st.sampled_from(["1", "0-99:2,7", "5,3"])}),
    st.fixed_dictionaries(
        {"parameters": st.lists(st.dictionaries(variables, scalars), min_size=1, max_size=3)}
    ),
)
services = st.fixed_dictionaries(
    {"port": st.integers(1, 65535)},
    optional={
        "preset": st.sampled_from(Preset).map(str),
        "metrics": st.fixed_dictionaries({"port": st.integers(1, 65535)}, optional={"path": paths}),
        "replicas": st.fixed_dictionaries({"min": st.integers(1, 3)}, optional={"max": st.integers(3, 9)}),
        "scale_on": st.fixed_dictionaries(
            {"metric": words, "target": st.floats(0.5, 1e9) | st.integers(1, 100)}
        )
        | st.fixed_dictionaries(
            {
                "metric": names.map("m".__add__),
                "target": st.integers(1, 100),
                "measured": st.just("external"),
            },
            optional={"selector": st.dictionaries(variables, lines, max_size=2)},
        ),
        "health": st.fixed_dictionaries({}, optional={"path": paths, "live_path": paths}),
        "model": st.fixed_dictionaries({"uri": paths}),
    },
)


def of_kind(kind, own):
    return st.fixed_dictionaries(
        {
            "kind": st.just(kind),
            "name": names,
            "command": st.lists(lines, min_size=1, max_size=2),
            **own.get("must", {}),
        },
        optional={**values, **own.get("may", {})},
    )


documents = st.one_of(
    of_kind("training", {"may": {"array": arrays}}),
    of_kind("batch", {"may": {"array": arrays}}),
    of_kind("inference", {"must": {"service": services}}),
)


@given(documents)
def test_a_spec_that_was_read_can_be_posted_again(sent):
    loaded = load_spec(sent)

    echo = dump_spec(loaded)

    assert load_spec(echo) == loaded
    assert dump_spec(load_spec(echo)) == echo
    assert spec_digest(load_spec(echo)) == spec_digest(loaded)


@given(documents)
def test_a_packed_spec_is_the_same_spec(sent):
    loaded = load_spec(sent)

    assert unpack_spec(pack_spec(loaded)) == loaded


@given(documents)
def test_the_quick_way_through_a_schema_reads_what_marshmallow_reads(sent):
    """``Strict.load`` looks only at what is there; marshmallow itself, given any option, at everything."""
    schema = BY_KIND[sent["kind"]]()

    assert schema.load(sent) == Schema.load(schema, sent) == load_spec(sent)


@pytest.mark.parametrize("nodes", [True, 2.0, "2"], ids=repr)
def test_a_part_that_was_read_before_does_not_stand_for_one_that_is_only_equal(nodes):
    """Equal parts are built once.  2 and 2.0 are equal, 1 and true as well, and only one of each is right."""
    wanted = 1 if nodes is True else 2
    assert load_spec(document(resources={"nodes": wanted})).resources.nodes == wanted

    assert faults_of(document(resources={"nodes": nodes})) == {"/resources/nodes": "must be a whole number"}


def test_a_faulty_part_is_told_each_time():
    wrong = document(retry={"max_attempts": 0})

    assert faults_of(wrong) == faults_of(wrong)


def test_specs_of_an_earlier_release_are_all_compressed():
    packed = pack_spec(spec())
    assert packed.startswith(b"{"), "a short one is kept as it is"

    assert unpack_spec(zlib.compress(packed)) == unpack_spec(packed) == spec()


TEXTS = (
    Text(63, pattern=NAME),
    Text(4, shortest=0, lines=True),
    Text(8, load_default=None),
    Text(63, pattern=OneOf(["NodeLost", "Preempted"])),
)


def outcome(read, sent):
    try:
        return read(sent)
    except ValidationError as error:
        return error.messages


@given(st.sampled_from(TEXTS), st.one_of(st.text(max_size=9), st.sampled_from([*WORDS, None, 7, missing])))
def test_a_text_is_checked_as_marshmallow_checks_it(field, sent):
    """``Text.deserialize`` looks at everything at once; marshmallow's own asks each validator."""
    assert outcome(field.deserialize, sent) == outcome(partial(Field.deserialize, field), sent)


def test_the_echo_leaves_defaults_out_and_writes_units_in_one_way():
    sent = document(
        resources={"nodes": 1, "memory_per_node": "2048MiB", "fabric": "none"},
        time_limit="PT4H",
        priority="normal",
        hold=False,
        arguments=[],
        array={"indices": "0,1,2,3"},
    )

    assert dump_spec(load_spec(sent)) == {
        "kind": "training",
        "name": "train",
        "command": ["true"],
        "resources": {"memory_per_node": "2GiB"},
        "time_limit": "4h",
        "array": {"indices": "0-3"},
    }


def test_a_dependency_and_a_retry_are_written_in_full():
    echo = dump_spec(spec(depends_on=(Dependency(job=ID),), retry=Retry(max_attempts=2, on=("NodeLost",))))

    assert echo["depends_on"] == [{"job": ID, "when": "succeeded"}]
    assert echo["retry"] == {"max_attempts": 2, "on": ["NodeLost"]}


def test_the_digest_does_not_see_the_order_but_sees_every_change():
    first = spec(environment={"A": "1", "B": "2"}, resources=Resources(nodes=2))
    second = spec(environment={"B": "2", "A": "1"}, resources=Resources(nodes=2))

    assert spec_digest(first) == spec_digest(second)
    assert spec_digest(first) != spec_digest(replace(first, resources=Resources(nodes=3)))
    assert len(spec_digest(first)) == 64


def test_a_spec_packed_by_a_newer_release_is_read_as_far_as_it_is_understood():
    from api_spec.schemas import build_spec

    assert build_spec({**dump_spec(spec()), "colour": "blue", "resources": {"nodes": 2, "taste": 1}}) == spec(
        resources=Resources(nodes=2)
    )


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_a_schema_and_can_be_built_from_nothing_else(kind):
    assert load_spec(dump_spec(spec(kind=kind))) == spec(kind=kind)
    assert set(BY_KIND) == {str(each) for each in Kind}


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("api_spec.schemas.reading", "marshmallow"),
        ("api_spec.schemas.job", "marshmallow_oneofschema"),
        ("api_spec.schemas.job", "apispec"),
    ],
)
def test_what_only_reads_starts_without_the_libraries_of_the_server(module, unwanted):
    check = f"import sys, {module}; sys.exit({unwanted!r} in sys.modules)"

    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
