"""An admission webhook of the tests: an HTTPS server that the API server asks before it stores anything.

with Webhook(cluster, namespace) as webhook:
    webhook.verdict = denied("images must have a digest")
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.real.kubernetes import pki

GROUP = "admissionregistration.k8s.io/v1"
PATH = f"/apis/{GROUP}/validatingwebhookconfigurations"
ALLOWED: dict[str, Any] = {"allowed": True}


def denied(message: str, code: int = 403) -> dict[str, Any]:
    return {"allowed": False, "status": {"message": message, "code": code}}


class Webhook:
    """Asked for each Job that is to be made in the namespace."""

    def __init__(self, cluster: Any, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.verdict, self.asked = ALLOWED, 0

    def __enter__(self) -> Self:
        folder = self.cluster.layout.pki
        pki.make(folder, "webhook", "/CN=webhook", authority="ca")
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(folder / "webhook.crt", folder / "webhook.key")
        self._serve(0)
        self.cluster.api.ask("POST", PATH, self._configuration())
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.api.delete(f"{PATH}/{self.namespace}")
        self.goes_away()

    def goes_away(self) -> None:
        """Its place is kept: nobody listens there."""
        self._server.shutdown()
        self._server.server_close()

    def comes_back(self) -> None:
        self._serve(self._server.server_address[1])

    def _serve(self, port: int) -> None:
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                webhook.asked += 1
                verdict = {"uid": asked["request"]["uid"], **webhook.verdict}
                said = {"apiVersion": asked["apiVersion"], "kind": asked["kind"], "response": verdict}
                body = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", port), Handler)
        self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _configuration(self) -> dict[str, Any]:
        rule = {
            "apiGroups": ["batch"],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": ["jobs"],
        }
        port = self._server.server_address[1]
        authority = base64.b64encode(self.cluster.ca_file.read_bytes()).decode()
        webhook = {
            "name": "policy.example.org",
            "rules": [rule],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}},
            "clientConfig": {"url": f"https://127.0.0.1:{port}/", "caBundle": authority},
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 2,
        }
        metadata = {"name": self.namespace}
        return {
            "apiVersion": GROUP,
            "kind": "ValidatingWebhookConfiguration",
            "metadata": metadata,
            "webhooks": [webhook],
        }
