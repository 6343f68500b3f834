"""What an sbatch script says, as a job; what a job cannot carry is refused by name and line."""

import pytest

from api_spec.errors import InvalidSpec
from api_spec.schemas import load_spec
from broker.cli.sbatch import read_sbatch
from broker.cli.sbatch_options import OPTIONS

JOB = "01JD3Z8W6Q4R5T7Y9A0BCDEFGH"


def script(*lines):
    return "\n".join(["#!/bin/bash", *lines, "srun true", ""])


def read(*directives, **options):
    return read_sbatch(script(*(f"#SBATCH {text}" for text in directives)), "train.sbatch", **options)


def slurm(spec):
    return spec["placement"]["slurm"]


# fmt: off
CARRIED = {
    "name":               (["--job-name=resnet"], {"name": "resnet"}),
    "name, short":        (["-J resnet"], {"name": "resnet"}),
    "name, short, glued": (["-Jresnet"], {"name": "resnet"}),
    "name with a blank":  (["--job-name 'my job'"], {"name": "my job"}),
    "name is the file":   ([], {"name": "train"}),
    "two on a line":      (["-N 2 --ntasks-per-node=4"], {"resources": {"nodes": 2, "tasks_per_node": 4}}),
    "the last one wins":  (["-N 2", "-N 3"], {"resources": {"nodes": 3}}),
    "with a comment":     (["-N 2  # two of them"], {"resources": {"nodes": 2}}),
    "cpus":               (["-c 16"], {"resources": {"cpus_per_task": 16}}),
    "tasks over nodes":   (["-N 2 -n 8"], {"resources": {"nodes": 2, "tasks_per_node": 4}}),
    "tasks on one node":  (["--ntasks=8"], {"resources": {"tasks_per_node": 8}}),
    "tasks give nodes":   (["-n 8 --ntasks-per-node 4"], {"resources": {"tasks_per_node": 4, "nodes": 2}}),
    "memory in MiB":      (["--mem=4000"], {"resources": {"memory_per_node": "4000MiB"}}),
    "memory in GiB":      (["--mem=200G"], {"resources": {"memory_per_node": "200GiB"}}),
    "memory in TiB":      (["--mem 1T"], {"resources": {"memory_per_node": "1024GiB"}}),
    "KiB are rounded up": (["--mem=1025K"], {"resources": {"memory_per_node": "2MiB"}}),
    "memory per CPU":     (["--mem-per-cpu=2G -c 4"],
                           {"resources": {"cpus_per_task": 4, "memory_per_node": "8GiB"}}),
    "GPUs":               (["--gres=gpu:2"], {"resources": {"gpus_per_node": 2}}),
    "GPUs of a type":     (["--gres=gpu:a100:2"], {"resources": {"gpu_type": "a100", "gpus_per_node": 2}}),
    "one GPU":            (["--gres=gpu"], {"resources": {"gpus_per_node": 1}}),
    "GPUs a node":        (["--gpus-per-node=h100:8"],
                           {"resources": {"gpu_type": "h100", "gpus_per_node": 8}}),
    "GPUs in all":        (["-N2 -G 8"], {"resources": {"nodes": 2, "gpus_per_node": 4}}),
    "GPUs a task":        (["--gpus-per-task=1 --ntasks-per-node=4"],
                           {"resources": {"tasks_per_node": 4, "gpus_per_node": 4}}),
    "array":              (["--array=0-99:2"], {"array": {"indices": "0-99:2"}}),
    "array with a limit": (["-a 1,5,7-9%10"], {"array": {"indices": "1,5,7-9", "max_running": 10}}),
    "directory":          (["-D /scratch/vision"], {"working_directory": "/scratch/vision"}),
    "held":               (["--hold"], {"hold": True}),
    "image":              (["--container-image=example/train:1"], {"image": "example/train:1"}),
    "mount":              (["--container-mounts=/data:/mnt:ro"],
                           {"volumes": [{"source": "/data", "mount_path": "/mnt", "read_only": True}]}),
    "variables":          (["--export=A=1,B=x=y"], {"environment": {"A": "1", "B": "x=y"}}),
    "nothing of the shell": (["--export=NONE"], {}),
    "dependency":         ([f"--dependency=afterok:{JOB}"],
                           {"depends_on": [{"job": JOB, "when": "succeeded"}]}),
    "dependencies":       ([f"-d afterany:{JOB},after:{JOB}"],
                           {"depends_on": [{"job": JOB, "when": "ended"}, {"job": JOB, "when": "started"}]}),
    "Slurm's own":        (["-p gpu -A vision", "-q high -C 'a&b' --reservation=r1"],
                           {"placement": {"slurm": {"partition": "gpu", "account": "vision", "qos": "high",
                                                    "constraint": "a&b", "reservation": "r1"}}}),
    "where the logs are found": (["-o logs/%x-%j.out", "-e /tmp/%j.err --open-mode=append"],
                           {"placement": {"slurm": {"output": "logs/%x-%j.out", "error": "/tmp/%j.err"}}}),
    "mail":               (["--mail-type=END,FAIL --mail-user=ana@example.org"],
                           {"placement": {"slurm": {"mail_type": "END,FAIL",
                                                    "mail_user": "ana@example.org"}}}),
    "at least so long":   (["--time-min=30"], {"placement": {"slurm": {"time_min": "0-00:30:00"}}}),
    "what is rarely said": (["--wckey=thesis --switches=1@10:00 --tmp=10G --cpus-per-gpu=4"],
                           {"placement": {"slurm": {"wckey": "thesis", "switches": "1@10:00",
                                                    "tmp": "10240MiB", "cpus_per_gpu": 4}}}),
    "other resources":    (["--gres=gpu:2,shard:1,gres/nic:mlx5:2"],
                           {"resources": {"gpus_per_node": 2},
                            "placement": {"slurm": {"gres": "shard:1,nic:mlx5:2"}}}),
    "nice":               (["--nice=50"], {"placement": {"slurm": {"nice": 50}}}),
    "nice, bare":         (["--nice -N2"],
                           {"resources": {"nodes": 2}, "placement": {"slurm": {"nice": 100}}}),
    "requeue":            (["--requeue"], {"placement": {"slurm": {"requeue": True}}}),
    "no requeue":         (["--no-requeue"], {"placement": {"slurm": {"requeue": False}}}),
    "exclusive":          (["--exclusive"], {"placement": {"slurm": {"exclusive": True}}}),
    "about sbatch itself": (["--parsable -Q"], {}),
}

REFUSED = {
    "an option that is unknown": (["--magic=1"], "train.sbatch:2: --magic: cannot be carried over"),
    "an unknown short option":   (["-Z"], "train.sbatch:2: -Z: cannot be carried over"),
    "the broker's own":          (["-N 2", "--comment=x"], ":3: --comment: cannot be carried over (the"),
    "two kinds of memory":       (["--mem=4G --mem-per-cpu=1G"], "and --mem-per-cpu exclude each other"),
    "two counts of GPUs":        (["--gres=gpu:2 --gpus-per-node=4"], "means 4 GPUs a node, and another"),
    "GPUs in all and a node":    (["-N 2 --gpus-per-node=1 --gpus=4"], "means 2 GPUs a node, and another"),
    "an input":                  (["-i data.txt"], "--input: cannot be carried over"),
    "when to start":             (["-b now+1hour"], "--begin: cannot be carried over (other backends"),
    "when to give up":           (["--deadline=2026-11-24T18:00"], "--deadline: cannot be carried over"),
    "a log that is emptied":     (["--open-mode=truncate"], "--open-mode: only append"),
    "a range of nodes":          (["-N 2-4"], "--nodes: needs one number, not '2-4'"),
    "no nodes":                  (["-N 0"], "--nodes: must be at least 1"),
    "all memory of a node":      (["--mem=0"], "0 would mean the whole node"),
    "no end":                    (["--time=UNLIMITED"], "a job always has an end"),
    "an end at once":            (["--time=0"], "0 means without a limit"),
    "two types of GPU":          (["--gres=gpu:a100:1,gpu:h100:1"], "needs one type of GPU"),
    "tasks that do not divide":  (["-N 2 -n 3"], "--ntasks=3 does not divide over 2 nodes"),
    "tasks that contradict":     (["-N 2 -n 8 --ntasks-per-node=2"], "--ntasks=8 is not --nodes times"),
    "a job of Slurm":            (["--dependency=afterok:12345"], "'12345' is not a job of this broker"),
    "singleton":                 (["--dependency=singleton"], "'singleton' has no counterpart"),
    "any of several":            ([f"--dependency=afterok:{JOB}?afterok:{JOB}"], "alternatives (?)"),
    "the whole shell":           (["--export=ALL,A=1"], "--export: ALL would send the whole shell"),
    "a variable that is not set": (["--export=HOME_OF_NOBODY"], "HOME_OF_NOBODY is not set in this shell"),
    "a value that is missing":   (["--partition"], "--partition: needs a value"),
    "a value too many":          (["--hold=yes"], "--hold: takes no value"),
    "a quote that is open":      (["--job-name='x"], "train.sbatch:2: cannot be read"),
    "what is no option":         (["gpu"], "'gpu' is not an option"),
}
# fmt: on


@pytest.mark.parametrize(("directives", "said"), CARRIED.values(), ids=CARRIED)
def test_a_directive_becomes_a_field(directives, said):
    spec = read(*directives)

    assert spec == {"kind": "batch", "name": "train", "script": spec["script"]} | said


@pytest.mark.parametrize(("directives", "message"), REFUSED.values(), ids=REFUSED)
def test_what_a_job_cannot_carry_is_refused_by_name_and_line(directives, message):
    with pytest.raises(InvalidSpec) as refused:
        read(*directives)

    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("90", "0-01:30:00"),
        ("1:30", "0-00:01:30"),
        ("26:00:00", "1-02:00:00"),
        ("1-02", "1-02:00:00"),
        ("1-02:30", "1-02:30:00"),
        ("1-02:00:01", "1-02:00:01"),
    ],
)
def test_times_are_read_as_slurm_reads_them(written, meant):
    assert read(f"--time={written}")["time_limit"] == meant


def test_all_refusals_are_told_at_once():
    with pytest.raises(InvalidSpec) as refused:
        read("--magic", "-N 2", "--comment=x")

    assert [line.split(":")[1] for line in str(refused.value).splitlines()] == ["2", "4"]
    assert len(refused.value.faults) == 2


def test_directives_end_at_the_first_command():
    text = "#!/bin/bash\n\n# a comment\n##SBATCH -N 5\n# SBATCH -N 6\n#SBATCH -N 2\necho\n#SBATCH -N 9\n"

    assert read_sbatch(text, "x")["resources"] == {"nodes": 2}


def test_directives_go_on_behind_comments_as_sbatch_reads_them():
    """Behind an indented one, without a blank, and behind what is a line end to others alone."""
    head = "#!/bin/bash\n  # a comment\x0c with\u2028 ends\n"
    text = f"{head}#SBATCH--nodes=4\n\n#SBATCH -t 20\necho\n#SBATCH -N 9\n"

    spec = read_sbatch(text, "train.sbatch")

    assert (spec["resources"], spec["time_limit"]) == ({"nodes": 4}, "0-00:20:00")


def test_the_whole_text_is_the_script():
    text = script("#SBATCH -N 2")

    assert read_sbatch(text, "x")["script"] == text


def test_a_named_variable_is_taken_from_the_shell_that_submits():
    spec = read("--export=NCCL_DEBUG,A=1", environ={"NCCL_DEBUG": "INFO", "HOME": "/home/x"})

    assert spec["environment"] == {"NCCL_DEBUG": "INFO", "A": "1"}


def test_what_the_user_lets_go_is_not_refused():
    spec = read("--output=x", "--mail-type=END", "-N 2", ignore=["output", "mail-type"])

    assert spec["resources"] == {"nodes": 2}


def test_a_script_needs_its_interpreter():
    with pytest.raises(InvalidSpec, match="begins with #!"):
        read_sbatch("#SBATCH -N 2\n", "x")


def test_what_is_carried_over_is_a_valid_job():
    everything = [
        "-J big -t 1-02:00:00 -N 2 --ntasks-per-node=1 -c 16 --mem=200G --gres=gpu:h100:8",
        f"-p gpu -A vision -a 0-9%2 -d afterok:{JOB} --export=A=1 -D /scratch --requeue",
    ]

    spec = load_spec(read(*everything))

    assert (spec.time_limit_s, spec.resources.memory_per_node_mib) == (93600, 204800)
    assert spec.placement.slurm["partition"] == "gpu"


def test_no_short_letter_means_two_options():
    letters = [option.short for option in OPTIONS.values() if option.short]

    assert len(letters) == len(set(letters))
