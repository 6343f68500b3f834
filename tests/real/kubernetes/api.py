"""A small client of the API server: what the helpers and tests of the cluster itself need, in plain JSON.

It is not the broker's client, so that a fault of that one is not believed twice.
"""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from broker.yaml_files import read_documents

Object = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"


class ApiError(Exception):
    """The API server said no."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message = status, reason, message


class Api:
    """As who the kubeconfig says.  Each call has its own connection: a killed server leaves none to mend."""

    def __init__(self, kubeconfig: Path) -> None:
        config = current(read_kubeconfig(kubeconfig))
        self.server = urlsplit(config["cluster"]["server"])
        self._headers = {"Accept": "application/json"}
        if token := token_of(config["user"]):
            self._headers["Authorization"] = f"Bearer {token}"
        self._tls = tls(config) if self.server.scheme == "https" else None

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        timeout_s: float = 20,
    ) -> bytes:
        """Raises ``ApiError`` for a no, ``OSError`` when there is no answer."""
        with closing(self._connection(timeout_s)) as connection:
            sent = None if body is None else json.dumps(body).encode()
            headers = {**self._headers, **({"Content-Type": content_type} if sent else {})}
            try:
                connection.request(
                    method, f"{self.server.path.rstrip('/')}{path}", body=sent, headers=headers
                )
                answer = connection.getresponse()
                said = answer.read()
            except HTTPException as error:
                raise ConnectionError(f"the API server's answer ended early: {error}") from error
            if answer.status >= 400:
                raise refusal(answer.status, said)
            return said

    def lines(self, path: str, timeout_s: float) -> Iterator[bytes]:
        """An answer that goes on, line by line: a watch."""
        with closing(self._connection(timeout_s)) as connection:
            connection.request("GET", f"{self.server.path.rstrip('/')}{path}", headers=self._headers)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise refusal(answer.status, answer.read())
            yield from answer

    def _connection(self, timeout_s: float) -> HTTPConnection:
        host, port = self.server.hostname or "", self.server.port
        if self._tls is None:
            return HTTPConnection(host, port, timeout=timeout_s)
        return HTTPSConnection(host, port, timeout=timeout_s, context=self._tls)

    def get(self, path: str) -> Object:
        found: Object = json.loads(self.ask("GET", path))
        return found

    def items(self, path: str) -> list[Object]:
        return list(self.get(path)["items"])

    def text(self, path: str) -> str:
        return self.ask("GET", path).decode()

    def create(self, thing: Mapping[str, Any]) -> Object:
        """Where it belongs by its own apiVersion, kind and namespace."""
        made: Object = json.loads(self.ask("POST", place_of(thing), thing))
        return made

    def patch(self, path: str, change: Mapping[str, Any]) -> Object:
        """JSON merge patch."""
        made: Object = json.loads(self.ask("PATCH", path, change, content_type=MERGE_PATCH))
        return made

    def delete(self, path: str, **options: Any) -> None:
        """Dependants go too; does nothing when it is gone."""
        try:
            self.ask("DELETE", path, {"propagationPolicy": "Background", **options})
        except ApiError as error:
            if error.status != 404:
                raise

    def exists(self, path: str) -> bool:
        try:
            self.ask("GET", path)
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return True

    def answers(self) -> bool:
        """It is there and ready for everything."""
        try:
            return self.ask("GET", "/readyz", timeout_s=5) == b"ok"
        except (ApiError, OSError):
            return False


def place_of(thing: Mapping[str, Any]) -> str:
    group, namespace = thing["apiVersion"], thing["metadata"].get("namespace")
    prefix = f"/apis/{group}" if "/" in group else f"/api/{group}"
    return f"{prefix}{f'/namespaces/{namespace}' if namespace else ''}/{plural(thing['kind'])}"


def plural(kind: str) -> str:
    """As Kubernetes makes it of the kinds that it has itself."""
    word = kind.lower()
    if word.endswith(("s", "x")):
        return f"{word}es"
    return f"{word[:-1]}ies" if word.endswith("y") and not word.endswith("ay") else f"{word}s"


def refusal(status: int, said: bytes) -> ApiError:
    try:
        told = json.loads(said)
        return ApiError(status, told.get("reason", ""), told.get("message", ""))
    except (ValueError, AttributeError):
        return ApiError(status, "", said.decode(errors="replace")[:500])


# ---- kubeconfig --------------------------------------------------------------------------------------


def read_kubeconfig(path: Path) -> Object:
    [document] = read_documents(path.read_text(), str(path))
    return dict(document.data)


def current(config: Mapping[str, Any]) -> Object:
    """Cluster, user and namespace of the current context."""
    context = named(config["contexts"], config["current-context"])["context"]
    return {
        "cluster": named(config["clusters"], context["cluster"])["cluster"],
        "user": named(config["users"], context["user"])["user"],
        "namespace": context.get("namespace", "default"),
    }


def named(rows: list[Object], name: str) -> Object:
    return next(row for row in rows if row["name"] == name)


def token_of(user: Mapping[str, Any]) -> str | None:
    """Raises ``ValueError`` for ways to sign in that this client does not know."""
    if unknown := {"exec", "auth-provider", "username"}.intersection(user):
        raise ValueError(
            f"the tests cannot sign in with {', '.join(sorted(unknown))}: give a token or a certificate"
        )
    if "tokenFile" in user:
        return Path(user["tokenFile"]).read_text().strip()
    return user.get("token")


def tls(config: Mapping[str, Any]) -> ssl.SSLContext:
    cluster, user = config["cluster"], config["user"]
    context = ssl.create_default_context(cafile=cluster.get("certificate-authority"))
    if data := cluster.get("certificate-authority-data"):
        context.load_verify_locations(cadata=base64.b64decode(data).decode())
    with tempfile.TemporaryDirectory() as folder:  # ssl reads certificates of clients from files only
        files = [in_a_file(user, part, Path(folder)) for part in ("client-certificate", "client-key")]
        if files[0]:
            context.load_cert_chain(files[0], files[1])
    return context


def in_a_file(user: Mapping[str, Any], part: str, folder: Path) -> str | None:
    if data := user.get(f"{part}-data"):
        path = folder / part
        path.touch(0o600)
        path.write_bytes(base64.b64decode(data))
        return str(path)
    return user.get(part)
