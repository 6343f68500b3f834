"""What one attempt was given and has used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RunUsage:
    """Of all its tasks together.  ``None``: nobody has measured it, or not yet."""

    elapsed_s: float | None = None
    cpu_s: float | None = None  # allocated, in units times seconds, whether it was used or not
    gpu_s: float | None = None
    memory_mib_s: float | None = None
    peak_cpus: float | None = None
    peak_memory_mib: float | None = None
    energy_j: float | None = None
