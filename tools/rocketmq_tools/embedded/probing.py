"""HTTP probes as a kubelet does them, small enough to run every few milliseconds during start-up."""

from __future__ import annotations

import asyncio

from rocketmq_tools.embedded.plan import Probe

STATUS_LINE_SIZE_MAX = 256


async def succeeds(probe: Probe, host: str) -> bool:
    """Whether the probe's address answers with a status from 200 to 399 in time."""
    try:
        async with asyncio.timeout(probe.timeout_s):
            return await _get(host, probe.port, probe.path)
    except (OSError, TimeoutError):
        return False


async def _get(host: str, port: int, path: str) -> bool:
    reader, writer = await asyncio.open_connection(host, port, limit=STATUS_LINE_SIZE_MAX)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode("ascii"))
        try:
            status_line = await reader.readuntil(b"\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return False
        parts = status_line.split()
        return len(parts) >= 2 and parts[1].isdigit() and 200 <= int(parts[1]) < 400
    finally:
        # Aborted, not closed: the rest of the answer is of no interest and closing would wait for it.
        writer.transport.abort()
