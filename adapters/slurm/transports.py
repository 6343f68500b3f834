"""Which transport a backend has.  The only module that names them; each is loaded when it is wanted."""

from __future__ import annotations

from adapters.slurm.options import Options
from adapters.slurm.transport import Transport


def open_transport(options: Options) -> Transport:
    """Calls nothing yet."""
    if options.transport == "pyslurm":
        from adapters.slurm.pyslurm_driver import PyslurmTransport

        return PyslurmTransport(options)
    from adapters.slurm.rest.transport import RestTransport

    return RestTransport(options)
