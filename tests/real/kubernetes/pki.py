"""The keys and certificates of one cluster, made by openssl; they are worth nothing outside its directory.

certificate      who it is for Kubernetes
apiserver        serves
admin            may do everything
controllers      system:kube-controller-manager
scheduler        system:kube-scheduler
node             system:node:localhost, and serves as kubelet; kwok serves with it too
kubelet-client   the API server when it asks a kubelet
front            the API server when it asks metrics-server; of a second authority, as Kubernetes wants it
metrics-server   serves
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.real.kubernetes.layout import API_SERVICE_IP, NODE_NAME

AUTHORITIES = ("ca", "front-ca")
SERVICE_ACCOUNTS = "service-accounts"  # the key that signs their tokens

SUBJECTS: Mapping[str, str] = {
    "apiserver": "/CN=kube-apiserver",
    "admin": "/O=system:masters/CN=admin",
    "controllers": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "node": f"/O=system:nodes/CN=system:node:{NODE_NAME}",
    "kubelet-client": "/O=system:masters/CN=kube-apiserver-kubelet-client",
    "front": "/CN=front-proxy-client",
    "metrics-server": "/CN=metrics-server",
}
NAMES: Mapping[str, str] = {
    "apiserver": f"IP:127.0.0.1,IP:{API_SERVICE_IP},DNS:localhost,DNS:kubernetes.default.svc",
    "node": "IP:127.0.0.1,DNS:localhost",
    "metrics-server": "DNS:metrics-server.kube-system.svc,DNS:localhost",
    "webhook": "IP:127.0.0.1",
}

# Elliptic curves, because RSA keys take longer than all the rest of the boot on a busy machine.
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
EXTENSIONS = """
[req]
distinguished_name = empty
[empty]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


def make_all(folder: Path) -> None:
    for name in AUTHORITIES:
        make(folder, name, f"/CN=broker-test-{name}")
    for name, subject in SUBJECTS.items():
        make(folder, name, subject, authority="front-ca" if name == "front" else "ca")
    key = f"{folder}/{SERVICE_ACCOUNTS}.key"
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", key)
    openssl("pkey", "-in", key, "-pubout", "-out", f"{folder}/{SERVICE_ACCOUNTS}.pub")


def make(folder: Path, name: str, subject: str, authority: str | None = None) -> None:
    """Without an authority it is one."""
    config = folder / f"{name}.cnf"
    config.write_text(EXTENSIONS.format(names=NAMES.get(name, f"DNS:{name}")))
    signer = ["-CA", f"{folder}/{authority}.crt", "-CAkey", f"{folder}/{authority}.key"] if authority else []
    openssl(
        *("req", "-x509", *NEW_KEY, "-config", str(config), "-subj", subject, *signer),
        *("-extensions", "leaf" if authority else "authority"),
        *("-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.crt"),
    )


def openssl(*words: str) -> None:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"openssl {words[0]} failed: {done.stderr.strip()}")
