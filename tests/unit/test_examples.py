"""Every example file is a valid job, as `broker submit` reads it."""

from pathlib import Path

import pytest

from api_spec.schemas import load_spec
from broker.cli.files import read_specs

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(path for path in EXAMPLES.iterdir() if path.suffix in (".yaml", ".json", ".sbatch"))


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_an_example_loads(path):
    jobs = read_specs([str(path)])

    assert jobs
    for job in jobs:
        load_spec(job.spec)


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_names_that_an_example_waits_for_are_in_its_bundle(path):
    """inference.yaml is submitted with training.yaml, the others alone."""
    bundle = [EXAMPLES / "training.yaml", path] if path.name == "inference.yaml" else [path]
    specs = [load_spec(job.spec) for job in read_specs([str(file) for file in bundle])]

    names = {spec.name for spec in specs}
    wanted = {one.name for spec in specs for one in spec.depends_on}
    wanted |= {one.from_output.job for spec in specs for one in spec.inputs if one.from_output}

    assert wanted <= names


def test_the_output_that_the_service_takes_is_one_that_training_leaves():
    training, service = (
        load_spec(job.spec)
        for name in ("training", "inference")
        for job in read_specs([f"{EXAMPLES}/{name}.yaml"])
    )

    assert service.inputs[0].from_output.output in {output.name for output in training.outputs}


def test_the_programs_of_the_examples_exist():
    for path in FILES:
        for job in read_specs([str(path)]):
            spec = load_spec(job.spec)
            programs = [word for word in spec.command if word.endswith(".py")]
            assert all((Path(spec.working_directory) / word).is_file() for word in programs)
