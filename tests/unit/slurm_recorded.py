"""Answers that real servers gave, by dialect and name; ``tests/recorded/slurm/record.py`` makes them."""

from __future__ import annotations

import json
from pathlib import Path

from adapters.slurm.rest.answers import Answer

FOLDER = Path(__file__).parents[1] / "recorded/slurm"
DIALECTS = ("v0.0.38", "v0.0.40", "v0.0.41", "v0.0.42")
NEWER = DIALECTS[1:]


def recorded(dialect: str, name: str) -> Answer:
    kept = json.loads((FOLDER / dialect / f"{name}.json").read_text())
    body = kept["body"]
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return Answer(status=kept["status"], content=content)
