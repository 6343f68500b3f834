"""What the usual inference servers listen on when nobody tells them otherwise: port, health, metrics.  Pure.

``service.preset`` fills what the job does not say itself when the job is read, so that its canonical form
shows it; nothing looks a preset up afterwards.  Sources: the servers' own documentation of vLLM 0.8, Triton
2.x, and of KServe's runtimes (Open Inference Protocol, version 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from api_spec.jobs import Health, Metrics, Preset


@dataclass(frozen=True, kw_only=True)
class Defaults:
    port: int
    health: Health
    metrics: Metrics | None = None


OPEN_INFERENCE = Health(path="/v2/health/ready", live_path="/v2/health/live")
PRESETS: Mapping[Preset, Defaults] = {
    # Its HTTP server answers only once the model is loaded, and 503 when the engine is dead.
    Preset.VLLM: Defaults(port=8000, health=Health(path="/health"), metrics=Metrics(port=8000)),
    # 8001 is gRPC's.
    Preset.TRITON: Defaults(port=8000, health=OPEN_INFERENCE, metrics=Metrics(port=8002)),
    Preset.KSERVE: Defaults(port=8080, health=OPEN_INFERENCE, metrics=Metrics(port=8080)),
    Preset.HTTP: Defaults(port=8080, health=Health(path="/health")),
}
