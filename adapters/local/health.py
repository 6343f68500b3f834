"""Is a replica ready?  An HTTP GET of its health path is answered 2xx, within a short time."""

from __future__ import annotations

import asyncio
import contextlib

PATIENCE_S = 2.0


async def is_well(port: int, path: str) -> bool:
    with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        return await asyncio.wait_for(_answers(port, path), PATIENCE_S)
    return False


async def _answers(port: int, path: str) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        words = (await reader.readline()).split()
        return (
            len(words) >= 2 and words[0].startswith(b"HTTP/") and words[1][:1] == b"2" and len(words[1]) == 3
        )
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
