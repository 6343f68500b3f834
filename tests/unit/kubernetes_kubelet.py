"""A kubelet that knows a log as the real one does, and the pages of it."""

from __future__ import annotations

from adapters.base import LogQuery
from adapters.kubernetes import logs

SECOND = "2026-11-22T10:00:0"


class Kubelet:
    """As the real one: a time on each line, ``sinceTime`` in whole seconds, a cut at ``limitBytes``."""

    def __init__(self, *lines: tuple[str, bytes]) -> None:
        self.lines = list(lines)
        self.read = 0

    def __call__(self, query: dict[str, str | int]) -> bytes:
        since = str(query.get("sinceTime", ""))[:19]
        shown = [stamp.encode() + b" " + text for stamp, text in self.lines if stamp[:19] >= since]
        if "tailLines" in query:
            shown = shown[-int(query["tailLines"]) :]
        whole = b"".join(shown)[: int(query.get("limitBytes", 1 << 40))]
        self.read += len(whole)
        return whole


def stamped(*texts: bytes, per_second: int = 3) -> Kubelet:
    """Lines of which several have the very same time."""
    return Kubelet(*((f"{SECOND}{number // per_second % 10}.12Z", text) for number, text in enumerate(texts)))


def pages(kubelet, limit, over=True):
    read = [logs.page(kubelet, LogQuery(limit_bytes=limit), over)]
    while not read[-1].complete:
        assert len(read) < 10_000, "the log never ends"
        read.append(logs.page(kubelet, LogQuery(cursor=read[-1].cursor, limit_bytes=limit), over))
    return read


TEXT = ["naïve café\n".encode(), "数字\n".encode(), b"\n", b"\r\n", "🙂\n".encode(), b"a b c\n"] * 4
