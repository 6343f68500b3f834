"""The image that containers of a real node run: Debian's static busybox with its applets, in one layer.

It is imported, never pulled.  Its ``wget`` crashes, as static glibc cannot look names up; ``nc`` and
``httpd`` work.  The image of the pods' sandboxes is the same with another command.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from tests.real.kubernetes.install import PATH

REGISTRY = "broker-test.example.org"
BUSYBOX = f"{REGISTRY}/busybox:1"
PAUSE = f"{REGISTRY}/pause:1"
COMMANDS = {BUSYBOX: ["sh"], PAUSE: ["sleep", "1000000000"]}

FOLDERS = {"bin": 0o755, "etc": 0o755, "tmp": 0o1777, "var": 0o755, "www": 0o755}
USERS = "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/tmp:/bin/sh\n"


def write_archive(path: Path, name: str) -> None:
    """As ``docker save`` writes one image."""
    layer = busybox_layer()
    digest = hashlib.sha256(layer).hexdigest()
    config = encoded(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": COMMANDS[name], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    )
    config_name, layer_name = f"{hashlib.sha256(config).hexdigest()}.json", f"{digest}/layer.tar"
    manifest = encoded([{"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}])
    with tarfile.open(path, "w") as tar:
        for member, data in ((config_name, config), (layer_name, layer), ("manifest.json", manifest)):
            add(tar, member, data=data)


def busybox_layer() -> bytes:
    """Raises ``FileNotFoundError`` when there is no busybox."""
    busybox = shutil.which("busybox", path=PATH)
    if busybox is None:
        raise FileNotFoundError("busybox is not installed")
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as tar:
        for folder, mode in FOLDERS.items():
            add(tar, folder, mode=mode, type=tarfile.DIRTYPE)
        add(tar, "bin/busybox", data=Path(busybox).read_bytes())
        for applet in set(applets) - {"busybox"}:
            add(tar, f"bin/{applet}", type=tarfile.SYMTYPE, linkname="busybox")
        add(tar, "etc/passwd", data=USERS.encode(), mode=0o644)
    return into.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", mode: int = 0o755, **fields: Any) -> None:
    info = tarfile.TarInfo(name)
    info.mode, info.size = mode, len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data))


def encoded(thing: object) -> bytes:
    return json.dumps(thing).encode()
