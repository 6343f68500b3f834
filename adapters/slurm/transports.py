"""Which transport a backend has.  The only module that names them; each is loaded when it is wanted."""

from __future__ import annotations

from typing import cast

from adapters.slurm.options import Options
from adapters.slurm.transport import Transport

PYSLURM = "adapters.slurm.pyslurm_transport:PyslurmTransport"
"""Never imported here."""


def open_transport(options: Options) -> Transport:
    """Calls nothing yet."""
    if options.transport == "pyslurm":
        from adapters.slurm.apart import TransportApart

        return cast(Transport, TransportApart(PYSLURM, options))
    from adapters.slurm.rest.transport import RestTransport

    return RestTransport(options)
