"""pyslurm's objects (25.11) as records, and a submission as its keywords.  Pure.

exit code       128 and more are told less 128, so that 103 and 104 are taken for the guard's 231 and 232
array_task_id   None for task 0, and for a row of waiting tasks
state           one word: a flag hides the base state
denied_*        ["ALL"] where nothing is denied
allocated_gres  "gpu" and "gpu:h100" side by side, for the same GPUs
"""

from __future__ import annotations

import pwd
from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from signal import Signals
from typing import Any

from adapters.slurm.records import Association, Changes, Job, Node, Partition, Qos, Reservation, Submission
from adapters.slurm.rest.accounting import waiting
from adapters.slurm.rest.rows import ENDED, WAITING
from adapters.slurm.rest.values import gres, joined, moment, names, nodes, positive, text, whole, words
from adapters.slurm.script import NOT_STARTED, SECOND_COPY
from adapters.slurm.transport import Refused

LOST_BIT = 128
GUARD = {code - LOST_BIT: code for code in (SECOND_COPY, NOT_STARTED)}

# ---- what goes in ------------------------------------------------------------------------------------

# Of JobSubmitDescription, and of a submission.
AS_IT_IS = {
    "name": "name", "script": "script", "working_directory": "directory", "comment": "comment",
    "standard_output": "stdout", "standard_error": "stderr", "account": "account", "qos": "qos",
    "partitions": "partition", "reservations": "reservation", "wckey": "wckey", "mail_user": "mail_user",
    "ntasks_per_node": "tasks_per_node", "cpus_per_gpu": "cpus_per_gpu", "constraints": "constraint",
    "temporary_disk_per_node": "tmp_disk_mib", "licenses": "licenses", "time_limit": "time_limit_min",
    "time_limit_min": "time_min_min", "nice": "nice", "array": "array", "dependencies": "dependency",
    "is_requeueable": "requeue",
}  # fmt: skip


def keywords(job: Submission) -> dict[str, Any]:
    """Of ``JobSubmitDescription``.  Raises ``Refused`` for what it has no word for."""
    for what, said in without_a_word(job).items():
        if said:
            raise cannot(what)
    user = user_of(job.user)
    return joined(
        **{theirs: getattr(job, ours) for theirs, ours in AS_IT_IS.items()},
        user_id=user.pw_uid, group_id=user.pw_gid, environment=dict(job.environment),
        log_files_open_mode="append", nodes=str(job.nodes), ntasks=job.nodes * job.tasks_per_node,
        cpus_per_task=None if job.cpus_per_gpu else job.cpus_per_task,
        memory_per_node=None if job.memory_per_node_mib is None else f"{job.memory_per_node_mib}M",
        memory_per_cpu=None if job.memory_per_cpu_mib is None else f"{job.memory_per_cpu_mib}M",
        gres_per_node=gres(job.gres) or None, resource_sharing="exclusive" if job.exclusive else None,
        required_nodes=list(job.required_nodes) or None, excluded_nodes=list(job.excluded_nodes) or None,
        begin_time=None if job.begin_at is None else ceil(job.begin_at),
        deadline=None if job.deadline_at is None else ceil(job.deadline_at),
        signal=None if job.warning_signal is None else warning(job, job.warning_signal),
        mail_types=[word for word in job.mail_types if word != "NONE"] or None,
        kill_on_invalid_dependency=bool(job.dependency) or None, priority=0 if job.hold else None,
    )  # fmt: skip


def without_a_word(job: Submission) -> dict[str, bool]:
    no_signal = job.warning_signal is None
    return {
        "switches": job.switches is not None or job.switches_wait_s is not None,  # NameError in 25.11
        "CPUs per task and CPUs per GPU of one job": job.cpus_per_gpu is not None and job.cpus_per_task > 1,
        "a warning without a signal": no_signal and (job.warning_s is not None or job.warning_to_batch),
        "the mail type INVALID_DEPEND": "INVALID_DEPEND" in job.mail_types,
        "an empty environment": not job.environment,  # it would be the broker's own
        # It may be taken for a path, and read.
        "a script that is not text with a #! line": not job.script.startswith("#!") or "\n" not in job.script,
    }


def cannot(what: str) -> Refused:
    return Refused(f"pyslurm cannot carry {what}")


def number_of(job: str, what: str) -> int:
    if not job.isdecimal():
        raise cannot(f"{what} of a single task ({job})")
    return int(job)


def user_of(name: str) -> pwd.struct_passwd:
    """Numbers are resolved here: without a group the job would run with root's."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise Refused(f"there is no user {name} on the broker's host") from None


def warning(job: Submission, said: str) -> dict[str, Any]:
    try:
        number = int(said) if said.isdecimal() else Signals[f"SIG{said.removeprefix('SIG')}"].value
    except KeyError:
        raise cannot(f"the signal {said}") from None
    return joined(signal=number, time=job.warning_s, batch_only=job.warning_to_batch or None)


def changes(wanted: Changes) -> dict[str, Any]:
    """Without ``hold``, which is a call of its own."""
    if wanted.nice == 0:
        raise cannot("a nice value of 0 for a job that has another")  # 0 is "not said"
    return joined(time_limit=wanted.time_limit_min, nice=wanted.nice)


# ---- what comes back ---------------------------------------------------------------------------------


def job(one: Any) -> Job:
    """As the controller has it."""
    found = of_both(one)
    waits = not WAITING.isdisjoint(found.states)
    return replace(
        found, planned_at=moment(one.start_time) if waits else None, nodes=nodes(one.allocated_nodes),
        dependency=dependency(one.dependencies or {}),
    )  # fmt: skip


def accounted(one: Any) -> Job:
    """As the database has it."""
    peak, where = one.stats.resident_memory, text(one.nodelist)
    return replace(
        of_both(one), accounted=True, cancelled_by=text(one.cancelled_by), elapsed_s=whole(one.elapsed_time),
        nodes=() if where == "None assigned" else nodes(where), energy_j=one.stats.consumed_energy or None,
        peak_memory_mib=peak / 2**20 if peak else None,
    )  # fmt: skip


def of_both(one: Any) -> Job:
    states = words(one.state)
    waits, ended = not WAITING.isdisjoint(states), not ENDED.isdisjoint(states)
    reason, array = text(one.state_reason), positive(one.array_id)
    sentence = " " in (reason or "")  # stands in the reason's place where Slurm has one
    waiting_tasks = waiting(one.array_tasks_waiting) if array else None
    code, signal = exit_of(one) if ended else (None, None)
    return Job(
        id=int(one.id), name=str(one.name or ""), user=str(one.user_name), states=states, array_id=array,
        waiting_tasks=waiting_tasks,
        task=(whole(one.array_task_id) or 0) if array and not waiting_tasks else None,
        reason=None if sentence else reason, message=reason if sentence else None,
        submitted_at=moment(one.submit_time), started_at=None if waits else moment(one.start_time),
        ended_at=moment(one.end_time) if ended else None, exit_code=code, signal=signal,
        restarts=whole(one.requeue_count) or 0, failed_node=text(one.failed_node),
        partition=text(one.partition), account=text(one.account), qos=text(one.qos),
        priority=whole(one.priority), comment=text(one.comment), stdout=text(one.standard_output),
        stderr=text(one.standard_error), time_limit_min=limit(one.time_limit),
        tres={} if waits else tres(one),
    )  # fmt: skip


def exit_of(one: Any) -> tuple[int | None, int | None]:
    if signal := positive(one.exit_code_signal):
        return None, signal
    code = whole(one.exit_code)
    if code == 0 and one.state_reason == "NonZeroExitCode":
        return LOST_BIT, None
    return GUARD.get(code or 0, code), None


def tres(one: Any) -> dict[str, float]:
    """What it has of CPUs and nodes, and of memory what it asked for; of GPUs pyslurm says nothing here."""
    found = {"cpu": one.cpus, "mem": one.memory, "node": one.num_nodes}
    return {name: float(count) for name, count in found.items() if count}


def dependency(told: Mapping[str, Any]) -> str | None:
    """{"afterok": [12, "13(unfulfilled)"], "singleton": True, "satisfy": "all"} as sbatch writes it."""
    lists = [
        f"{word}:{':'.join(map(str, jobs))}" for word, jobs in told.items() if isinstance(jobs, list) and jobs
    ]
    parts = [*lists, *(["singleton"] if told.get("singleton") else ())]
    return ("?" if told.get("satisfy") == "any" else ",").join(parts) or None


def limit(value: object) -> int | None:
    return None if value in ("UNLIMITED", "PartitionLimit") else whole(value)


def node(one: Any) -> Node:
    used = {name: int(count) for name, count in one.allocated_gres.items() if int(count)}
    typed = {name.partition(":")[0] for name in used if ":" in name}
    return Node(
        name=str(one.name), states=words(one.state.split("+")), cpus=int(one.total_cpus),
        memory_mib=int(one.real_memory), cpus_allocated=int(one.allocated_cpus),
        memory_allocated_mib=int(one.allocated_memory), features=frozenset(names(one.available_features)),
        gres={name: int(count) for name, count in one.configured_gres.items()},
        gres_used={name: count for name, count in used.items() if name not in typed},
        partitions=names(one.partitions), reason=text(one.reason),
    )  # fmt: skip


def partition(one: Any) -> Partition:
    return Partition(
        name=str(one.name), up=one.state == "UP", default=bool(one.is_default), nodes=nodes(one.nodes),
        time_limit_min=limit(one.max_time), default_time_min=limit(one.default_time),
        nodes_max=limit(one.max_nodes), allowed_accounts=not_all(one.allowed_accounts),
        denied_accounts=not_all(one.denied_accounts), allowed_qos=not_all(one.allowed_qos),
        denied_qos=not_all(one.denied_qos),
    )  # fmt: skip


def not_all(value: object) -> tuple[str, ...]:
    found = names(value)
    return () if found == ("ALL",) else found


def reservation(one: Any) -> Reservation:
    return Reservation(
        name=str(one.name), starts_at=float(one.start_time), ends_at=float(one.end_time),
        nodes=nodes(one.nodes), users=names(one.users), accounts=names(one.accounts),
        partition=text(one.partition),
    )  # fmt: skip


def association(one: Any) -> tuple[str, Association]:
    """And its cluster.  Its default QOS pyslurm does not say."""
    return one.cluster, Association(
        user=str(one.user or ""), account=str(one.account), partition=text(one.partition),
        qos=names(one.qos), is_default=bool(one.is_default),
    )  # fmt: skip


def qos(one: Any) -> Qos:
    return Qos(name=str(one.name))
