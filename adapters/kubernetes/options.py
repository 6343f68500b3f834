"""What an operator may set for a ``kubernetes`` backend.  How it is read and checked is ``loading``'s.

``docs/kubernetes.md`` explains each to an administrator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Toleration:
    """A taint that pods of the broker may stand beside; as Kubernetes has it."""

    key: str | None = None
    """Of the taint; none: every one."""
    operator: str = "Exists"
    """``Exists``, or ``Equal`` with a ``value``."""
    value: str | None = None
    """Of the taint."""
    effect: str | None = None
    """``NoSchedule``, ``PreferNoSchedule`` or ``NoExecute``; none: every one."""


@dataclass(frozen=True, kw_only=True)
class FabricOptions:
    """What a fabric is on this cluster."""

    resource: str | None = None
    """Extended resource of which each pod gets 1, such as ``rdma/rdma_shared_device_a``."""
    network: str | None = None
    """Secondary networks, as the annotation ``k8s.v1.cni.cncf.io/networks`` names them."""
    ipc_lock: bool = False
    """Pods get the capability IPC_LOCK, which Pod Security "restricted" forbids."""
    node_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that the nodes must have."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of jobs that ask for it; the job's own go before them."""


@dataclass(frozen=True, kw_only=True)
class Impersonate:
    """As whom the broker makes, changes and removes objects; never by anything in the job."""

    user: str | None = None
    """Of each owner, with ``{owner}`` and ``{project}`` in it, such as ``ml:{owner}``; or ``table``."""
    table: Mapping[str, str] = field(default_factory=dict)
    """Owner to user; who is not in it is refused."""
    groups: tuple[str, ...] = ()
    """Of that user, such as ``ml:{project}``; Kubernetes adds ``system:authenticated``."""


@dataclass(frozen=True, kw_only=True)
class NodeGroup:
    """Nodes that a cluster autoscaler brings when they are wanted, and takes away."""

    labels: Mapping[str, str]
    """That every node of the group has and no other one, such as its name at the cloud; with the label
    ``nvidia.com/gpu.product`` where jobs ask for a ``gpu_type``."""
    resources: Mapping[str, str]
    """What one node has to give: ``cpu``, ``memory`` and others, as Kubernetes writes them."""
    most: int
    """Nodes that there may be of it."""


@dataclass(frozen=True, kw_only=True)
class Options:
    kubeconfig: str | None = None
    """A kubeconfig file; or ``url``, or ``in_cluster``."""
    context: str | None = None
    """Of the kubeconfig; none: its current one."""
    in_cluster: bool = False
    """The broker runs in the cluster and uses its own service account."""
    url: str | None = None
    """Of the API server, ``https``; with ``ca_file`` and ``token_file``."""
    ca_file: str | None = None
    """Certificates that ``url`` is checked with; none: the system's."""
    token_file: str | None = None
    """A bearer token for ``url``; read again when it changes."""
    namespace: str | None = None
    """Where jobs of a project without a row in ``namespaces`` run; none: they are refused."""
    namespaces: Mapping[str, str] = field(default_factory=dict)
    """Project to namespace."""
    connect_s: float = 3.0
    """Seconds to wait for a connection."""
    answer_s: float = 20.0
    """Seconds to wait for an answer; a longer one of the API server ends as unknown."""
    watch: bool = True
    """Changes are told by the API server as they happen; false: they are seen when the broker lists."""
    watch_s: float = 60.0
    """How long one watch lasts before the next one is begun; one that hangs is noticed within this time."""
    settle_s: float = 70.0
    """How long after a submission its absence is not yet proven: the API server gives a request 60 s."""
    service_account: str | None = None
    """Of the pods; none: the namespace's ``default``.  They get no token of it."""
    image_pull_secrets: tuple[str, ...] = ()
    """Names of Secrets in each namespace."""
    runtime_class: str | None = None
    """Of pods with GPUs, where the GPU Operator needs one."""
    run_as_user: int = 65534
    """Whom containers run as; root is refused by Pod Security "restricted"."""
    run_as_group: int = 65534
    """And the group that owns what they write to volumes."""
    priorities: Mapping[str, str] = field(default_factory=dict)
    """``low`` and ``high`` to a PriorityClass; one without a row is refused."""
    preemptible: str | None = None
    """PriorityClass of jobs that are ``preemptible``; none: nothing is added."""
    queue: str | None = None
    """LocalQueue of Kueue in each namespace, that jobs go to; none: to none.  A job may name one itself."""
    queues: Mapping[str, str] = field(default_factory=dict)
    """Project to LocalQueue; one without a row goes to ``queue``."""
    queue_priorities: Mapping[str, str] = field(default_factory=dict)
    """``low``, ``normal`` and ``high`` to a WorkloadPriorityClass: who goes first in the queue, as
    ``priorities`` says who goes first on the nodes."""
    job_sets: bool = False
    """Finite jobs on several nodes are JobSets and no Indexed Jobs, where the cluster has JobSet.  Leave it
    on until the last of them is over."""
    tolerations: tuple[Toleration, ...] = ()
    """Of every pod; one with GPUs stands beside the taint ``nvidia.com/gpu`` anyhow."""
    node_groups: tuple[NodeGroup, ...] = ()
    """What a cluster autoscaler can bring: a job that only such nodes could hold waits for them, and is
    refused where they are not named."""
    gpu_resource: str = "nvidia.com/gpu"
    """The extended resource that a GPU is."""
    gpu_types: Mapping[str, str] = field(default_factory=dict)
    """A job's ``gpu_type`` to the node label ``nvidia.com/gpu.product``; another name is taken as it is."""
    mig_profiles: Mapping[str, str] = field(default_factory=dict)
    """A ``mig_profile`` to its resource; another one is ``nvidia.com/mig-PROFILE``."""
    device_class: str | None = None
    """DeviceClass that GPUs are claimed of (DRA), as ``gpu.nvidia.com``; none: they are ``gpu_resource``."""
    device_classes: Mapping[str, str] = field(default_factory=dict)
    """A job's ``gpu_type`` or ``mig_profile`` to a DeviceClass of its own."""
    device_selectors: Mapping[str, str] = field(default_factory=dict)
    """A job's ``gpu_type`` or ``mig_profile`` to a CEL expression that its devices fulfil."""
    fabrics: Mapping[str, FabricOptions] = field(default_factory=dict)
    """What ``fabric: rdma`` and ``gpudirect`` are here; one without a table is refused."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of every job."""
    drain_s: int = 5
    """Seconds for which a replica that is told to go still answers, before SIGTERM: so long may a proxy take
    to hear of it.  0 for clusters before 1.30, which cannot wait."""
    shared_memory_mib: int = 64
    """Size of ``/dev/shm``, which counts as memory of the job."""
    outputs_claim: str | None = None
    """A PersistentVolumeClaim of each namespace that keeps ``BROKER_OUTPUT_DIR``; none: jobs with outputs are
    refused, and the directory goes with the pod."""
    keep_s: int = 86400
    """Seconds after which Kubernetes removes an ended Job that the broker has not."""
    partial_start_s: float | None = None
    """Seconds that a job on several nodes may hold some of them while others have not started; then it is
    withdrawn and ends with ``LaunchFailed``.  None: it waits for ever.  Of JobSets and of jobs in a queue of
    Kueue nothing is withdrawn; it does not go with ``impersonate``."""
    domain: str = "cluster.local"
    """Of the cluster's names."""
    rack_label: str | None = None
    """Label of nodes that names their rack, or whatever shares a switch; none: jobs cannot speak of racks."""
    prometheus: str | None = None
    """URL of the Prometheus that KEDA asks for a service that may have no replica; none: there are none."""
    impersonate: Impersonate | None = None
    """As whom the broker writes; none: as itself."""
