"""A stand-in for pyslurm 25.11.2: a cluster in a folder, so that several processes share it.

It has the names of the real one that are known (its sources, v25.11.2), takes no other keyword, has no other
attribute, and keeps the peculiarities that the broker has to live with.  ``FAKE_PYSLURM`` names the folder:

    jobs.json      the rows of all jobs by id; "accounted.json" likewise, of the database
    cluster.json   {"nodes": [...], "partitions": [...], ...}
    trouble.json   {"submit": "hangs"}, "dies", the number of an error; "import": its last words
    asked.json     each description that was submitted, as it would reach the controller
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal as signals
import sys
import time
from contextlib import contextmanager
from pathlib import Path

__version__ = "25.11.2"
FOLDER = Path(os.environ["FAKE_PYSLURM"])


def _names(text):
    return tuple(text.split())


def _read(name):
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


@contextmanager
def _changing(name):
    """One process at a time; a reader sees the file before or after."""
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        content = _read(name)
        yield content
        new = FOLDER / f"{name}.{os.getpid()}"
        new.write_text(json.dumps(content))
        new.replace(FOLDER / f"{name}.json")


def _trouble(call):
    told = _read("trouble").get(call)
    if told == "hangs":
        ctypes.PyDLL(None).pause()  # as every call of the real one, it keeps the GIL
    if told == "dies":
        os._exit(3)
    if isinstance(told, int):
        raise RPCError(told)


class PyslurmError(Exception): ...


class RPCError(PyslurmError):
    def __init__(self, errno=-1, msg=None):
        self.errno = errno
        self.msg = msg or f"Slurm says {errno}"
        super().__init__(self.msg)


class _Row:
    NAMES: tuple[str, ...] = ()

    def __init__(self, values):
        for name, value in values.items():
            if name not in self.NAMES:
                raise AssertionError(f"pyslurm.{type(self).__name__} has no {name}")
            setattr(self, name, value)
        for name in self.NAMES:
            if name not in values:
                setattr(self, name, None)


# ---- jobs --------------------------------------------------------------------------------------------

_BOTH = _names("""
    account array_id array_task_id array_tasks_waiting cluster comment cpus end_time exit_code
    exit_code_signal failed_node id memory name num_nodes partition priority qos requeue_count
    standard_error standard_output start_time state state_reason submit_time time_limit user_id user_name
    """)


class Job(_Row):
    NAMES = (*_BOTH, "allocated_nodes", "batch_host", "dependencies", "extra", "nice", "reservation", "wckey")

    def __init__(self, job_id):
        super().__init__(job_id if isinstance(job_id, dict) else {"id": job_id})

    @staticmethod
    def load(job_id):
        _trouble("Job.load")
        found = [row for row in _read("jobs").values() if job_id in (row["id"], row.get("array_id"))]
        if not found:
            raise RPCError(2017, "Invalid job id specified")
        return Job(found[-1])  # of an array the last task

    @contextmanager
    def _rows(self, call):
        _trouble(call)
        with _changing("jobs") as jobs:
            yield [row for row in jobs.values() if self.id in (row["id"], row.get("array_id"))]

    def cancel(self):
        """Without a word of a job that is unknown or over; a number left in errno looks like a failure."""
        stale = _read("trouble").get("errno after cancel")
        with self._rows("cancel") as rows:
            for row in rows if not _read("trouble").get("cancel does nothing") else ():
                row.update(state="CANCELLED", end_time=int(time.time()))
        if stale:
            raise RPCError(stale)

    def modify(self, changes):
        _trouble("modify")
        with self._rows("change") as rows:
            if not rows:
                raise RPCError(2017, "Invalid job id specified")
            for row in rows:
                row.update(changes._changes())

    def hold(self, mode=None):
        if mode is not None:
            os.kill(os.getpid(), signals.SIGSEGV)  # ptr is NULL there
        self.modify(JobSubmitDescription(priority=0))

    def release(self):
        self.modify(JobSubmitDescription(priority=4294967295))


class _Collection(dict):
    """By id."""


class Jobs(_Collection):
    @staticmethod
    def load(preload_passwd_info=False, frozen=False):
        _trouble("Jobs.load")
        return Jobs({row["id"]: Job(row) for row in _read("jobs").values()})


class JobSubmitDescription:
    KEYWORDS = frozenset(
        _names("""
        name account user_id group_id priority site_factor wckey array batch_constraints begin_time clusters
        cluster_constraints comment admin_comment requires_contiguous_nodes cores_reserved_for_system
        threads_reserved_for_system working_directory cpu_frequency nodes deadline delay_boot_time
        dependencies excluded_nodes required_nodes constraints kill_on_node_fail licenses mail_user
        mail_types mcs_label memory_per_cpu memory_per_node memory_per_gpu network nice log_files_open_mode
        overcommit partitions profile_types accounting_gather_frequency qos requires_node_reboot
        is_requeueable reservations script script_args environment resource_sharing distribution time_limit
        time_limit_min container container_id cpus_per_task cpus_per_gpu sockets_per_node cores_per_socket
        threads_per_core gpus gpus_per_socket gpus_per_task gres_per_node gpu_binding ntasks ntasks_per_node
        ntasks_per_socket ntasks_per_core ntasks_per_gpu switches signal standard_in standard_output
        standard_error kill_on_invalid_dependency spreads_over_nodes use_min_nodes gres_binding
        gres_tasks_per_sharing temporary_disk_per_node get_user_environment min_cpus_per_node wait_all_nodes
        selinux_context segment_size reserved_ports extra
        """)
    )

    def __init__(self, **keywords):
        for name, value in keywords.items():
            setattr(self, name, value)

    def __setattr__(self, name, value):
        if name not in self.KEYWORDS:
            raise AttributeError(f"'JobSubmitDescription' object has no attribute {name!r}")
        super().__setattr__(name, value)

    def __getattr__(self, name):
        if name in self.KEYWORDS:
            return None
        raise AttributeError(name)

    def submit(self):
        self._check()
        asked = {**vars(self), "environment": self._environment(), "script": self._script()}
        _trouble("submit")
        with _changing("jobs") as jobs, _changing_list("asked") as submitted:
            job_id = max((row["id"] for row in jobs.values()), default=0) + 1
            jobs[str(job_id)] = self._row(job_id)
            submitted.append(asked)
        _trouble("after submit")
        return job_id

    def _check(self):
        if self.memory_per_node and self.memory_per_cpu:
            raise ValueError("Only one of memory_per_cpu, memory_per_node or memory_per_gpu can be set.")
        if self.cpus_per_gpu and self.cpus_per_task:
            raise ValueError("cpus_per_task and cpus_per_gpu are mutually exclusive.")
        if self.switches:
            raise NameError("name 'kwargs' is not defined")
        for word in self.mail_types or ():
            if word.casefold() not in _MAIL_TYPES:
                raise ValueError(f"Invalid Mail type: {word}.")
        if self.signal and not isinstance(self.signal["signal"], int):
            raise TypeError("an integer is required")

    def _script(self):
        text = Path(self.script).read_text() if _is_file(self.script) else self.script
        if not text.startswith("#!"):
            raise ValueError("Not a valid Batch script.")
        return text

    def _environment(self):
        """Nothing is "all"; and whatever is called SLURM_ is copied always."""
        if not self.environment:
            return dict(os.environ)
        own = {name: value for name, value in os.environ.items() if name.startswith("SLURM_")}
        return {**own, **self.environment}

    def _row(self, job_id):
        held = self.priority == 0
        return {
            "id": job_id,
            "name": self.name,
            "user_name": _name_of(self.user_id),
            "state": "PENDING",
            "state_reason": "JobHeldAdmin" if held else "Priority",
            "submit_time": int(time.time()),
            "array_id": job_id if self.array else None,
            "array_tasks_waiting": self.array.partition("%")[0] if self.array else None,
            "requeue_count": 0,
            "exit_code": 0,
            "exit_code_signal": 0,
            "priority": 0 if held else 1,
            "comment": self.comment,
            "standard_output": self.standard_output,
            "standard_error": self.standard_error,
            "time_limit": self.time_limit,
            "cpus": self.cpus_per_task,
            "num_nodes": int(self.nodes or 1),
        }

    def _changes(self):
        given = {name: getattr(self, name) for name in ("time_limit", "nice") if getattr(self, name)}
        if self.priority is not None:
            given["state_reason"] = "Priority" if self.priority else "JobHeldAdmin"
        return given


_MAIL_TYPES = frozenset(
    _names("""
    all array_tasks begin end fail requeue stage_out time_limit time_limit_50 time_limit_80 time_limit_90
    """)
)


def _is_file(script):
    try:
        return Path(script).is_file()
    except (ValueError, OSError):
        return False


def _name_of(uid):
    import pwd

    return pwd.getpwuid(uid).pw_name


@contextmanager
def _changing_list(name):
    path = FOLDER / f"{name}.json"
    content = json.loads(path.read_text()) if path.exists() else []
    yield content
    path.write_text(json.dumps(content))


# ---- the cluster -------------------------------------------------------------------------------------


def _loaded(kind, what):
    def load():
        _trouble(f"{kind.__name__}.load")
        return _Collection(enumerate(kind(row) for row in _read("cluster").get(what, ())))

    return type(f"{kind.__name__}s", (_Collection,), {"load": staticmethod(load)})


class Node(_Row):
    NAMES = tuple(
        _names("""
        active_features allocated_cpus allocated_gres allocated_memory allocated_tres available_features
        cluster configured_gres effective_cpus idle_cpus idle_memory name partitions real_memory reason
        state total_cpus
        """)
    )


class Partition(_Row):
    NAMES = tuple(
        _names("""
        allowed_accounts allowed_groups allowed_qos default_time denied_accounts denied_qos is_default
        max_nodes max_time min_nodes name nodes preempt_mode priority_tier qos state total_cpus total_nodes
        """)
    )


class Reservation(_Row):
    NAMES = ("accounts", "end_time", "features", "flags", "name", "nodes", "partition", "start_time", "users")


Nodes, Partitions = _loaded(Node, "nodes"), _loaded(Partition, "partitions")
Reservations = _loaded(Reservation, "reservations")


class licenses:  # noqa: N801 - it is called so
    def get(self):
        return _read("cluster").get("licenses", {})


class slurmctld:  # noqa: N801 - a module there
    class Config(_Row):
        NAMES = ("accounting_storage_type", "cluster_name", "message_timeout", "version")

        @staticmethod
        def load():
            _trouble("Config.load")
            return slurmctld.Config(_read("cluster")["config"])

    class Statistics(_Row):
        NAMES = ("dbd_agent_queue_size", "request_time")

    @staticmethod
    def diag():
        _trouble("diag")
        return slurmctld.Statistics({"dbd_agent_queue_size": _read("cluster").get("backlog", 0)})


# ---- the database ------------------------------------------------------------------------------------


class _JobStatistics(_Row):
    NAMES = ("consumed_energy", "resident_memory", "total_cpu_time")


class _AccountedJob(_Row):
    NAMES = (*_BOTH, "cancelled_by", "elapsed_time", "nodelist", "script", "stats")

    def __init__(self, values):
        super().__init__({**values, "stats": _JobStatistics(values.get("stats", {}))})


class _Association(_Row):
    NAMES = ("account", "cluster", "id", "is_default", "max_jobs", "partition", "qos", "user")


class _QualityOfService(_Row):
    NAMES = ("description", "id", "name")


class db:  # noqa: N801 - a module there
    class JobFilter:
        KEYWORDS = frozenset({"ids", "names", "users", "start_time", "end_time", "accounts", "with_script"})

        def __init__(self, **keywords):
            for name, value in keywords.items():
                if name not in self.KEYWORDS:
                    raise AttributeError(f"'JobFilter' object has no attribute {name!r}")
                setattr(self, name, value)

    class Jobs(_Collection):
        @staticmethod
        def load(db_filter=None):
            """By use, not by submission: what was never eligible is shown only when asked for by its id."""
            _trouble("db.Jobs.load")
            asked = vars(db_filter)
            found = [_AccountedJob(row) for row in _read("accounted").values() if db._matches(row, asked)]
            return db.Jobs({one.id: one for one in found})

    @staticmethod
    def _matches(row, asked):
        if "ids" in asked and row["id"] not in asked["ids"]:
            return False
        if "names" in asked and row["name"] not in asked["names"]:
            return False
        return "ids" in asked or (row["start_time"] or 0) >= asked["start_time"]

    Associations = _loaded(_Association, "associations")
    QualitiesOfService = _loaded(_QualityOfService, "qos")


if _last_words := _read("trouble").get("import"):
    print(_last_words, file=sys.stderr, flush=True)
    os._exit(1)
_trouble("imported")
