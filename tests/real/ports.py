"""Free TCP ports of this machine, below those that the kernel gives to clients."""

from __future__ import annotations

import random
import socket

FIRST, LAST = 11000, 31000
CHANCE = random.SystemRandom()  # not the seed of a test run, which its processes share


def free_block(length: int) -> int:
    """The first of so many neighbouring ports that nobody listens on."""
    for _ in range(1000):
        first = CHANCE.randrange(FIRST, LAST - length)
        if all(is_free(port) for port in range(first, first + length)):
            return first
    raise RuntimeError(f"no {length} neighbouring ports are free between {FIRST} and {LAST}")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def answers(address: int | str) -> bool:
    """Somebody accepts connections there: a port of this machine or the path of a socket."""
    kind = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
    with socket.socket(kind) as probe:
        probe.settimeout(1)
        try:
            probe.connect(("127.0.0.1", address) if isinstance(address, int) else address)
        except OSError:
            return False
    return True
