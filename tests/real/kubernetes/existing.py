"""A cluster that was there before the tests; they may use it, and break nothing in it."""

from __future__ import annotations

from pathlib import Path

from tests.real.kubernetes.api import Api
from tests.real.kubernetes.cluster import Access


class ExistingCluster(Access):
    def __init__(self, kubeconfig: Path, scratch: Path) -> None:
        self.kubeconfig, self.scratch, self.api = kubeconfig, scratch, Api(kubeconfig)

    def calm(self) -> None:
        """It is nobody's to mend."""
