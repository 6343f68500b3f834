"""A scripted API server, for what a real one cannot be made to say.

with scripted(tmp_path) as server:
    server.says("GET", JOBS, listed(job_object()))
    server.adapter().observe([ref])

What was said for a method and path is answered in turn, the last again and again.  Of what nobody has
scripted there is the namespace, without events, and all else is not found.

A watch is asked with the method WATCH.  Its answer may be a ``Feed``, through which the test speaks; of what
nobody has scripted it says nothing.
"""

from __future__ import annotations

import json
import queue
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from adapters.base import BackendConfig
from adapters.kubernetes import names
from adapters.kubernetes.adapter import KubernetesAdapter
from tests.fakes import INSTANCE
from tests.unit.kubernetes_objects import MARKER, Object, node

NAMESPACE = "jobs"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
SERVICES = f"/api/v1/namespaces/{NAMESPACE}/services"
AUTOSCALERS = f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers"
EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"
REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
ACCESS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None  # bytes of the body, after which the connection is reset


class Feed:
    """One watch, for as long as the test likes; each word is sent as it is said."""

    END, RESET = b"", None

    def __init__(self) -> None:
        self._said: queue.Queue[bytes | None] = queue.Queue()
        self.closed = threading.Event()

    def tells(self, kind: str, thing: Any) -> None:
        self.says(json.dumps({"type": kind, "object": thing}).encode() + b"\n")

    def bookmark(self, version: str) -> None:
        self.tells("BOOKMARK", {"kind": "Job", "metadata": {"resourceVersion": version}})

    def says(self, raw: bytes) -> None:
        self._said.put(raw)

    def ends(self) -> None:
        """As a watch whose time is over."""
        self._said.put(self.END)

    def resets(self) -> None:
        """Whatever was said before is all there is."""
        self._said.put(self.RESET)

    def speak(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.close_connection = True
        while not self.closed.is_set():
            try:
                said = self._said.get(timeout=0.05)
            except queue.Empty:
                continue
            if said is self.RESET:
                linger = struct.pack("ii", 1, 0)  # a close is then a reset
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(said), said))
            handler.wfile.flush()
            if said == self.END:
                return


def says(thing: Any, status: int = 200, **headers: str) -> Answer:
    body = thing if isinstance(thing, bytes) else json.dumps(thing).encode()
    return Answer(
        status=status, body=body, headers={key.replace("_", "-"): one for key, one in headers.items()}
    )


def status(code: int, message: str, reason: str = "", **headers: str) -> Answer:
    found = {"kind": "Status", "status": "Failure", "message": message, "reason": reason, "code": code}
    return says(found, code, **headers)


def listed(*objects: Any, more: str = "", version: str = "100") -> Answer:
    metadata = {"continue": more, "resourceVersion": version}
    return says({"kind": "List", "metadata": metadata, "items": list(objects)})


def job_object(marker: str = MARKER, **changes: Any) -> Object:
    metadata = {
        "name": marker,
        "namespace": NAMESPACE,
        "uid": f"uid-of-{marker}",
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": names.labels(marker, INSTANCE),
        "annotations": changes.pop("annotations", {}),
    }
    return {
        "kind": "Job",
        "metadata": {**metadata, **changes.pop("metadata", {})},
        "spec": {"completions": 1, "parallelism": 1, "suspend": False},
        "status": {},
        **changes,
    }


def handle_of(marker: str = MARKER, namespace: str = NAMESPACE) -> Object:
    """Of ``job_object``."""
    return {"kind": "Job", "namespace": namespace, "name": marker, "uid": f"uid-of-{marker}"}


UNSCRIPTED = {
    ("GET", AUTOSCALERS): [listed()],
    ("GET", EVENTS): [listed()],
    ("GET", f"/api/v1/namespaces/{NAMESPACE}"): [says({"kind": "Namespace"})],
}


@dataclass
class Scripted:
    url: str
    folder: Path
    script: dict[tuple[str, str], list[Answer | Feed]] = field(
        default_factory=lambda: {key: list(told) for key, told in UNSCRIPTED.items()}
    )
    asked: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    headers: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)  # method, and what it had
    token: str = "secret"
    adapters: list[KubernetesAdapter] = field(default_factory=list)
    feeds: list[Feed] = field(default_factory=list)

    def watched(self, path: str, count: int = 1) -> list[Feed]:
        """So many watches of it, one after the other."""
        feeds = [Feed() for _ in range(count)]
        self.script["WATCH", path] = list(feeds)
        return feeds

    def says(self, method: str, path: str, *answers: Answer) -> None:
        self.script[method, path] = list(answers)

    def passes_a_check(self, who: str = "broker", *, allowed: bool = True, **groups: list[str]) -> None:
        """But for what the test says afterwards.  ``groups``: versions of the APIs that it serves."""
        rows = [
            {"name": name, "versions": [{"version": one} for one in some]} for name, some in groups.items()
        ]
        self.says("GET", "/version", says({"gitVersion": "v1.34.4"}))
        self.says("GET", "/api/v1/nodes", listed(node()))
        self.says("GET", "/apis", says({"kind": "APIGroupList", "groups": rows}))
        self.says("POST", REVIEWS, says({"kind": "x", "status": {"userInfo": {"username": who}}}))
        self.says("POST", ACCESS, says({"kind": "x", "status": {"allowed": allowed}}))
        self.says("POST", JOBS, says({"kind": "Job"}))

    def answer(self, method: str, target: str, body: Any) -> Answer | Feed:
        parts = urlsplit(target)
        query = {key: one[0] for key, one in parse_qs(parts.query).items()}
        method = "WATCH" if query.get("watch") == "true" else method
        self.asked.append((method, parts.path, query, body))
        told = self.script.get((method, parts.path))
        if method == "WATCH" and (not told or isinstance(told[0], Feed)):
            self.feeds.append(told.pop(0) if told else Feed())
            return self.feeds[-1]
        if not told:
            return status(404, f"{parts.path} not found", "NotFound")
        return told.pop(0) if len(told) > 1 else told[0]

    def count(self, method: str, path: str) -> int:
        return sum(1 for one in self.asked if one[:2] == (method, path))

    def queries(self, method: str, path: str) -> list[dict[str, str]]:
        return [query for how, where, query, _ in self.asked if (how, where) == (method, path)]

    def bodies(self, method: str) -> list[Any]:
        return [one[3] for one in self.asked if one[0] == method]

    def kubeconfig(self, **user: str) -> str:
        path = self.folder / "kubeconfig"
        written = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "it", "cluster": {"server": self.url}}],
            "users": [{"name": "it", "user": user or {"token": self.token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "current-context": "it",
        }
        path.write_text(json.dumps(written))
        return str(path)

    def adapter(self, **changes: Any) -> KubernetesAdapter:
        kubeconfig = changes.pop("kubeconfig", None) or self.kubeconfig()
        options = {"kubeconfig": kubeconfig, "namespace": NAMESPACE, "answer_s": 5.0, **changes}
        config = BackendConfig(name="k8s", type="kubernetes", instance=INSTANCE, data_dir="", options=options)
        self.adapters.append(KubernetesAdapter(config))
        return self.adapters[-1]


@contextmanager
def scripted(folder: Path) -> Iterator[Scripted]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            server.headers.append((self.command, self.headers.items()))
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != f"Bearer {server.token}":
                told = status(401, "Unauthorized")
            else:
                told = server.answer(self.command, self.path, json.loads(raw) if raw else None)
            if isinstance(told, Feed):
                return told.speak(self)
            self.send_response(told.status)
            for key, value in told.headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(told.body)))
            self.end_headers()
            self.wfile.write(told.body[: told.cut_at])
            self.close_connection = told.cut_at is not None

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815 - the standard library's names

        def log_message(self, *_: Any) -> None:
            pass

    class Listener(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that leaves in the middle of a watch."""

    with Listener(("127.0.0.1", 0), Handler) as listener:
        server = Scripted(f"http://127.0.0.1:{listener.server_address[1]}", folder)
        threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        for adapter in server.adapters:
            adapter.close()
        for feed in server.feeds:
            feed.closed.set()
        listener.shutdown()
