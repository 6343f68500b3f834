"""Makes the dump of a release: ``python -m tests.recorded.make_store_dump 0.1``, once, before it goes out.

What it writes is never made again: each later release has to load it (tests/integration/test_dump.py).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from broker.embedded.server import EmbeddedServer
from broker.store.dump import export_lines
from tests.integration.test_dump import RECORDED, live_through
from tests.kit import fake_kit


def main(release: str) -> None:
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder) / "state") as server:
        (Path(folder) / "fake").mkdir()
        with fake_kit(server.url, Path(folder) / "fake") as kit:
            ids = live_through(kit)
            lines = list(export_lines(kit.store))
            expected = {job_id: kit.get(job_id).state for job_id in ids.values()}
    (RECORDED / f"{release}.jsonl").write_text("".join(lines))
    (RECORDED / f"{release}.expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
