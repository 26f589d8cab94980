"""The listening side: sockets, the sweep of idle and half-sent connections, orderly stop."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from time import monotonic

from rocketmq_remoting.commands import Command
from rocketmq_remoting.connection import Connection, Endpoint, Handler, Route
from rocketmq_remoting.limits import Limits

logger = logging.getLogger(__name__)

SWEEP_MS = 1000
BACKLOG = 1024


class RemotingServer(Endpoint):
    """Serves one table of routes on one port."""

    def __init__(
        self,
        routes: Sequence[Route],
        limits: Limits | None = None,
        *,
        fallback: Handler | None = None,
        check: Callable[[Connection, Command], None] | None = None,
    ) -> None:
        super().__init__(routes, limits or Limits(), fallback=fallback, check=check)
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port listened on; raises RuntimeError before `start`."""
        if self._server is None or not self._server.sockets:
            raise RuntimeError("the server does not listen")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self, host: str, port: int, sock: socket.socket | None = None) -> None:
        """Listen; port 0 lets the system choose. Raises OSError when the address is taken.

        ``sock`` listens already (an earlier server's `listening`) and belongs to this server from now on.
        """
        loop = asyncio.get_running_loop()

        def connection() -> Connection:
            return Connection(self, is_server=True)

        if sock is None:
            self._server = await loop.create_server(connection, host, port, backlog=BACKLOG, reuse_address=True)
        else:
            self._server = await loop.create_server(connection, sock=sock, backlog=BACKLOG)
        self.tasks.every(SWEEP_MS, self._sweep, "sweep of idle connections", critical=False)

    def listening(self) -> socket.socket | None:
        """The socket once more: it goes on listening when this server stops, and whoever connects then waits for the next.

        ``None`` where the host stands for several addresses.
        """
        found = [] if self._server is None else self._server.sockets
        return socket.socket(fileno=os.dup(found[0].fileno())) if len(found) == 1 else None

    async def stop(self, grace_ms: float = 1000) -> None:
        """Accept no more, let requests under way be answered for ``grace_ms``, then close what is left."""
        self.is_draining = True
        if self._server is not None:
            self._server.close()
        deadline = asyncio.get_running_loop().time() + grace_ms / 1000
        while any(c.in_flight for c in self.connections) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.close("server stops")
        await self.tasks.stop()
        while self.connections and asyncio.get_running_loop().time() < deadline + 0.2:
            await asyncio.sleep(0.005)
        for connection in list(self.connections):
            connection.abort("server stops")
        self._server = None

    def _sweep(self) -> None:
        if self.budget is not None:
            self.budget.recount()
        now = monotonic()
        limits = self.limits
        idle_before = now - limits.idle_ms / 1000
        partial_before = now - limits.frame_ms / 1000
        for connection in list(self.connections):
            if connection.partial_since and connection.partial_since < partial_before:
                connection.abort(f"a frame was not complete after {limits.frame_ms} ms")
            elif connection.last_active < idle_before:
                logger.info("connection from %s closed: idle for %d ms", connection.remote, limits.idle_ms)
                connection.close("idle")
