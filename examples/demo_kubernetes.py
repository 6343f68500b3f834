"""The main job on a real Kubernetes: a training Job to its end, and a service that changes under its callers.

Boots control plane and node from the programs that ``tests/real/kubernetes/plane/build.sh`` has built, in a
temporary directory, and leaves nothing.  ``script/demo --kubernetes`` calls it.  A node that runs containers
needs root; any other user gets fake nodes, on which everything but the containers is real.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import demo
from demo import SERVE_S, DemoFailed, expect, show_state, step

from broker.cli.backends import finding_lines
from broker.cli.decisions import decision_lines
from broker.cli.files import read_specs
from broker.client import Client

sys.path.insert(0, str(demo.HERE.parent))

from tests.real.caller import Caller
from tests.real.kubernetes.api import ApiError
from tests.real.kubernetes.cluster import Cluster, boot
from tests.real.kubernetes.install import Install, built
from tests.real.kubernetes.layout import Options
from tests.real.kubernetes_kit import Tenant

SETTINGS = """[[backends]]
name = "cloud"
type = "kubernetes"

[backends.options]
kubeconfig = "{kubeconfig}"
namespace = "{namespace}"

[[backends]]
name = "local"
type = "local"
"""
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
MOST_REPLICAS = 3
SAME_ANSWERS = 100  # in a row: old replicas have stopped to answer
NEW_MODEL = "line-2"


def main() -> int:
    install = built()
    if install.missing is not None:
        print(f"The demo needs a real Kubernetes: {install.missing}.", file=sys.stderr)
        return 1
    stage = Stage(install)
    return demo.run(stage.show, stage.set_up)


@dataclass
class Stage:
    install: Install
    tenant: Tenant | None = None

    @property
    def has_containers(self) -> bool:
        return self.install.node_missing is None

    @contextmanager
    def set_up(self) -> Iterator[str]:
        """The settings of a broker that uses the cluster, with the rights of ``deploy/kubernetes``."""
        parts = "a node with containers" if self.has_containers else "two fake nodes"
        with ExitStack() as stack:
            with step(f"Boot Kubernetes {self.install.version}: control plane and {parts}"):
                cluster = stack.enter_context(self._boot())
                self.tenant = grant(cluster)
            if not self.has_containers:
                print(f"the nodes are fake, as {self.install.node_missing}: no container runs there")
            print(f"the cluster was up in {cluster.boot_s:.1f} s, in {cluster.directory}")
            text = SETTINGS.format(kubeconfig=self.tenant.kubeconfig(), namespace=self.tenant.namespace)
            print(
                "the broker's settings:", *(f"  | {line}" for line in text.splitlines()), sep="\n", flush=True
            )
            yield text

    def _boot(self) -> Cluster:
        real = self.has_containers
        nodes = Options(real_node=real, cpu_nodes=0 if real else 2, gpu_nodes=0, mig_nodes=0)
        try:
            return boot(install=self.install, options=nodes)
        except (AssertionError, RuntimeError, subprocess.SubprocessError, ApiError) as error:
            raise DemoFailed(f"the cluster did not boot: {error}") from error

    def show(self, client: Client) -> None:
        assert self.tenant is not None
        check(client)
        train(client)
        service = serve(client)
        with ExitStack() as stack:
            callers = Callers(
                stack.enter_context(self._caller(client, service)) if self.has_containers else None
            )
            replicas = scale(client, service)
            before = update(client, service, replicas, callers)
            roll_back(client, service, before, replicas, callers)
        callers.report()
        stop(client, service, self.tenant)

    def _caller(self, client: Client, service: str) -> Caller:
        """Through the Service's address, which kube-proxy gives to one replica or another."""
        assert self.tenant is not None
        marker = client.attempts(service)[-1]["marker"]
        [there] = self.tenant.objects("services", marker)
        address, port = there["spec"]["clusterIP"], there["spec"]["ports"][0]["port"]
        print(f"from now on a client calls http://{address}:{port} all the time", flush=True)
        return Caller(address, port)


@dataclass
class Callers:
    """Who calls the service all the while; on fake nodes nobody can."""

    caller: Caller | None

    def only_hear(self, model: str) -> None:
        if self.caller is None:
            return
        caller, heard = self.caller, len(self.caller.answers)

        def all_the_same() -> bool:
            last = caller.since(heard)[-SAME_ANSWERS:]
            return len(last) == SAME_ANSWERS and set(last) == {model}

        demo.wait_for(all_the_same, SERVE_S, lambda: f"{model} was not the only one to answer: {caller.told}")
        print(f"the last {SAME_ANSWERS} answers are all of {model}", flush=True)

    def report(self) -> None:
        with step("What did the client notice?"):
            if self.caller is None:
                print("nothing was called: fake nodes run no container")
                return
            told = ", ".join(f"{count} of {model}" for model, count in sorted(self.caller.told.items()))
            failed = self.caller.failures
            print(f"{len(self.caller.answers)} answers ({told}) and {len(failed)} failures", flush=True)
            expect(not failed, f"calls failed: {'; '.join(failed[:5])}")


def grant(cluster: Cluster) -> Tenant:
    """A namespace that takes only pods which are "restricted"."""
    try:
        return Tenant.on(cluster, Path(cluster.scratch), RESTRICTED)
    except ApiError as error:
        raise DemoFailed(f"the broker's rights could not be granted: {error}") from error


# ---- the steps ---------------------------------------------------------------------------------------


def check(client: Client) -> None:
    with step("What does the broker find at the cluster? (broker backends check cloud)"):
        told = client.check("cloud")
        for line in finding_lines("cloud", told):
            click.echo(line)
        expect(all(one["well"] for one in told), "not all is well at the cluster")


def submit(client: Client, file: str) -> str:
    """Its id; prints the decision, and why: Slurm would be first for training, but there is none here."""
    (read,) = read_specs([str(demo.HERE / file)])
    (job_id,) = demo.submit(client, [read.spec])
    return job_id


def explain(client: Client, job_id: str) -> None:
    for line in decision_lines(client.explain(job_id)):
        click.echo(f"  {line}")
    sys.stdout.flush()


def train(client: Client) -> None:
    with step("Submit a training job. Slurm would come first; there is none here, and a cluster comes next"):
        training = submit(client, "container.yaml")
    demo.train(client, training)
    with step("Why did it run there? (broker explain)"):
        explain(client, training)
        chosen = client.explain(training)["chosen"]
        expect(chosen == "cloud", f"the training job went to {chosen}")


def serve(client: Client) -> str:
    with step("Submit a service, and wait until it is ready"):
        service = submit(client, "container-service.yaml")
        job = client.wait([service], timeout=SERVE_S, progress=show_state, until="ready")[0]
        expect(job["state"] == "RUNNING", f"the service is {job['state']}: {job['reason']} {job['message']}")
        print(f"ready; in the cluster it is {job['service']['endpoint']}")
    with step("Why does it run there? (broker explain)"):
        explain(client, service)
    return service


def scale(client: Client, service: str) -> int:
    """As far as an update has room for one more; how many there are then."""
    shapes = client.backend("cloud")["inventory"]["shapes"]
    cpus = sum(shape["count"] * shape["cpus"] for shape in shapes)
    expect(cpus >= 2, "the node has one CPU; a replica and the one that comes beside it want two")
    replicas = min(MOST_REPLICAS, cpus)
    with step(f"Scale to {replicas} replicas"):
        client.scale(service, replicas)
        settled(client, service, replicas, revision=1)
    if replicas < cpus:
        return replicas
    with step(f"Scale down to {replicas - 1}: an update wants a CPU for one more, and the node has {cpus}"):
        client.scale(service, replicas - 1)
        settled(client, service, replicas - 1, revision=1)
    return replicas - 1


def update(client: Client, service: str, replicas: int, callers: Callers) -> dict[str, Any]:
    """The spec as it was."""
    with step(f"Update it to the model {NEW_MODEL}, one replica after the other"):
        before: dict[str, Any] = client.get(service)["spec"]
        client.update(service, {"environment": {"MODEL": NEW_MODEL}})
        settled(client, service, replicas, revision=2)
        callers.only_hear(NEW_MODEL)
        return before


def roll_back(client: Client, service: str, before: dict[str, Any], replicas: int, callers: Callers) -> None:
    with step("Roll it back: an update to the specification as it was"):
        client.update(service, before)
        settled(client, service, replicas, revision=3)
        callers.only_hear(before["environment"]["MODEL"])
        expect(client.get(service)["spec"] == before, "the specification is not the one from before")


def settled(client: Client, service: str, replicas: int, revision: int) -> None:
    """So many are there and ready, and of this revision; prints each change on the way."""
    told = ""

    def there() -> bool:
        nonlocal told
        seen = client.get(service)["service"]
        why = f", {seen['message']}" if seen["message"] else ""
        line = f"revision {seen['revision']}: {seen['updated']} updated and {seen['ready']} ready"
        line += f" of {seen['wanted']} wanted{why}"
        if line != told:
            print(line, flush=True)
        told = line
        counts = [seen[name] for name in ("wanted", "updated", "ready")]
        return counts == [replicas] * 3 and seen["revision"] == revision and seen["message"] is None

    demo.wait_for(there, SERVE_S, lambda: f"revision {revision} is not there; {told}")


def stop(client: Client, service: str, tenant: Tenant) -> None:
    with step("Cancel the service"):
        demo.cancel(client, service)
        left = tenant.live_pods()
        expect(not left, f"pods are left: {', '.join(left)}")
        print("no pod is left in the namespace")


if __name__ == "__main__":
    sys.exit(main())
