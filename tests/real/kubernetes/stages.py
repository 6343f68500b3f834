"""What pods on fake nodes do, told by annotations of the pod (of the template, in a Job or Deployment).

    label.workload-broker/outcome   one of OUTCOMES; without it the pod of a Job succeeds, any other runs on
    label.workload-broker/start     how long until it runs, a Go duration; 100 ms by default
    label.workload-broker/run       how long until the outcome; 1 s by default
    label.workload-broker/stop      how long a deleted pod still lives; 100 ms by default
    label.workload-broker/exit      exit code of "fail"; 1 by default
    label.workload-broker/message   termination message of "fail" and "oom"

Each row becomes a Stage of kwok: a selector over the pod, a delay, and a template of the status that follows.
They replace kwok's own stages of pods, one of which takes off finalizers, the one by which a Job counts too.
"""

from __future__ import annotations

from typing import Any

PREFIX = "label.workload-broker"  # what a job of the broker calls outcome, its pods have by this name
OUTCOMES = {
    "success": "phase Succeeded, exit code 0",
    "fail": "phase Failed",
    "oom": "phase Failed, 137, OOMKilled",
    "evicted": "phase Failed, Evicted, as the kubelet does it when memory is short",
    "node-shutdown": "phase Failed, Terminated, as the kubelet does it before its node goes",
    "hang": "runs until it is deleted",
    "not-ready": "runs, and its readiness probe fails",
    "image-error": "waits with ImagePullBackOff",
    "config-error": "waits with CreateContainerConfigError",
    "crash-loop": "waits with CrashLoopBackOff after three restarts",
}
WAITING = ("image-error", "config-error", "crash-loop")
KILLED_BY_NODE = ("evicted", "node-shutdown")
FAILED = ("fail", "oom", *KILLED_BY_NODE)

Rule = dict[str, Any]


def annotation(name: str) -> str:
    return f'.metadata.annotations["{PREFIX}/{name}"]'


def is_in(key: str, *values: str) -> Rule:
    return {"key": key, "operator": "In", "values": list(values)}


def not_in(key: str, *values: str) -> Rule:
    return {"key": key, "operator": "NotIn", "values": list(values)}


ALIVE: Rule = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
DELETED: Rule = {"key": ".metadata.deletionTimestamp", "operator": "Exists"}
RUNNING = is_in(".status.phase", "Running")
OUTCOME = annotation("outcome")


def stages() -> list[Rule]:
    new = {"key": ".status.containerStatuses", "operator": "DoesNotExist"}
    of_a_job = is_in(".metadata.ownerReferences.[].kind", "Job")
    # A pod with finalizers stays when it was asked to go, with that mark; once is enough.
    not_asked = not_in(".metadata.deletionGracePeriodSeconds", "0")
    others = not_in(OUTCOME, *FAILED, "hang", "not-ready")
    return [
        stage("starts", [ALIVE, new, not_in(OUTCOME, *WAITING)], ("start", 100), STARTS),
        stage("waits", [ALIVE, new, is_in(OUTCOME, *WAITING)], ("start", 100), WAITS),
        stage("succeeds-in-a-job", [ALIVE, RUNNING, of_a_job, others], ("run", 1000), SUCCEEDS),
        stage("succeeds", [ALIVE, RUNNING, is_in(OUTCOME, "success")], ("run", 1000), SUCCEEDS),
        stage("fails", [ALIVE, RUNNING, is_in(OUTCOME, "fail", "oom")], ("run", 1000), FAILS),
        stage("is-killed", [ALIVE, RUNNING, is_in(OUTCOME, *KILLED_BY_NODE)], ("run", 1000), IS_KILLED),
        stage("stops", [DELETED, not_in(".status.phase", "Failed", "Succeeded")], ("stop", 100), STOPS),
        stage("goes", [DELETED, is_in(".status.phase", "Failed", "Succeeded"), not_asked], None, None),
    ]


def stage(name: str, when: list[Rule], delay: tuple[str, int] | None, template: str | None) -> Rule:
    """Without a template the pod's object goes."""
    after: Rule = {"durationMilliseconds": 50}
    if delay:
        setting, default_ms = delay
        after = {"durationMilliseconds": default_ms, "durationFrom": {"expressionFrom": annotation(setting)}}
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": f"pod-{name}"},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
            "selector": {"matchExpressions": when},
            "delay": after,
            "next": {"statusTemplate": KNOWN + template} if template else {"delete": True},
        },
    }


# ---- templates: YAML with Go's templates, as kwok fills them in --------------------------------------

KNOWN = f"""
{{{{ $now := Now }}}}
{{{{ $pod := . }}}}
{{{{ $told := or .metadata.annotations dict }}}}
{{{{ $outcome := or (index $told "{PREFIX}/outcome") "success" }}}}
{{{{ $exit := or (index $told "{PREFIX}/exit") "1" }}}}
{{{{ $message := or (index $told "{PREFIX}/message") "" }}}}
"""


def conditions(*rows: tuple[str, ...]) -> str:
    """Each with its type and the rest of FIELDS, as far as they are given."""
    lines = ["conditions:"]
    for name, *told in rows:
        said = "".join(f', {field}: "{text}"' for field, text in zip(FIELDS, told, strict=False))
        lines.append(f"- {{type: {name}{said}, lastTransitionTime: {NOW}}}")
    return "\n".join([*lines, ""])


def containers(state: str, *, ready: str = "false", started: str = "false", restarts: str = "0") -> str:
    """All of the pod's are in the same state."""
    return f"""
containerStatuses:
{{{{ range $i, $container := .spec.containers }}}}
- name: {{{{ $container.name | Quote }}}}
  image: {{{{ $container.image | Quote }}}}
  ready: {ready}
  started: {started}
  restartCount: {restarts}
  state:
    {state}
{{{{ end }}}}
"""


def terminated(code: str, reason: str, message: str = '""', *, since: str = "") -> str:
    times = f"startedAt: {since or NOW}, finishedAt: {NOW}"
    return f"terminated: {{exitCode: {code}, reason: {reason}, message: {message}, {times}}}"


def either(outcome: str, this: str, that: str) -> str:
    """A template: what is said for that outcome, and for every other."""
    return f'{{{{ if eq $outcome "{outcome}" }}}}{this}{{{{ else }}}}{that}{{{{ end }}}}'


NOW = "{{ $now | Quote }}"
FIELDS = ("status", "reason", "message")
BEGAN = "{{ (index $pod.status.containerStatuses $i).state.running.startedAt | Quote }}"
AT_NODE = f"""
hostIP: {{{{ NodeIPWith .spec.nodeName | Quote }}}}
startTime: {NOW}
"""
NOT_READY = (("Ready", "False", "ContainersNotReady"), ("ContainersReady", "False", "ContainersNotReady"))
HAS_FAILED = (("Ready", "False", "PodFailed"), ("ContainersReady", "False", "PodFailed"))
IS_THERE = (("PodReadyToStartContainers", "True"), ("Initialized", "True"))
LOW_MEMORY = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi."
SHUTDOWN = "Pod was terminated in response to imminent node shutdown."
WHY_KILLED = either("node-shutdown", SHUTDOWN, LOW_MEMORY)

STARTS = (
    conditions(
        *IS_THERE,
        ("Ready", either("not-ready", "False", "True"), either("not-ready", "ContainersNotReady", "")),
        (
            "ContainersReady",
            either("not-ready", "False", "True"),
            either("not-ready", "ContainersNotReady", ""),
        ),
    )
    + containers(f"running: {{startedAt: {NOW}}}", ready=either("not-ready", "false", "true"), started="true")
    + AT_NODE
    + """
podIP: {{ PodIPWith .spec.nodeName false ( or .metadata.uid "" ) ( or .metadata.name "" ) ( or .metadata.namespace "" ) | Quote }}
phase: Running
"""  # noqa: E501 - kwok's function wants all of them
)

WAITS = (
    conditions(*IS_THERE, *NOT_READY)
    + containers(
        """waiting:
      {{ if eq $outcome "image-error" }}
      reason: ImagePullBackOff
      message: {{ printf "Back-off pulling image %q: ErrImagePull: not found" $container.image | Quote }}
      {{ else if eq $outcome "config-error" }}
      reason: CreateContainerConfigError
      message: 'secret "missing" not found'
      {{ else }}
      reason: CrashLoopBackOff
      message: "back-off 40s restarting failed container"
      {{ end }}
""",
        restarts=either("crash-loop", "3", "0"),
    )
    + AT_NODE
    + "phase: Pending\n"
)

SUCCEEDS = (
    conditions(("Ready", "False", "PodCompleted"), ("ContainersReady", "False", "PodCompleted"))
    + containers(terminated("0", "Completed", since=BEGAN))
    + "phase: Succeeded\n"
)

FAILS = (
    conditions(*HAS_FAILED)
    + containers(
        terminated(
            either("oom", "137", "{{ $exit }}"),
            either("oom", "OOMKilled", "Error"),
            "{{ $message | Quote }}",
            since=BEGAN,
        )
    )
    + "phase: Failed\n"
)

IS_KILLED = (
    conditions(("DisruptionTarget", "True", "TerminationByKubelet", WHY_KILLED), *HAS_FAILED)
    + containers(terminated("137", "Error", since=BEGAN))
    + f"""
phase: Failed
reason: {either("node-shutdown", "Terminated", "Evicted")}
message: "{WHY_KILLED}"
"""
)

# As SIGTERM ends a process that does nothing about it.
STOPS = conditions(*HAS_FAILED) + containers(terminated("143", "Error")) + "phase: Failed\n"
