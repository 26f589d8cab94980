"""The calling side: one connection per address, opened when needed, shared by all calls."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import monotonic

from rocketmq_remoting.commands import Buffer, Command, Header
from rocketmq_remoting.connection import Connection, Endpoint, Route
from rocketmq_remoting.errors import RemotingConnectError, RemotingTimeout
from rocketmq_remoting.limits import Limits


def split_address(address: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` in two; raises ValueError naming the address."""
    host, separator, port = address.strip().rpartition(":")
    if not separator or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"address {address!r}: write it as host:port")
    return host.strip("[]"), int(port)


class RemotingClient(Endpoint):
    """Calls servers; ``routes`` answer the requests that servers send on these connections."""

    def __init__(self, limits: Limits | None = None, routes: Sequence[Route] = ()) -> None:
        super().__init__(routes, limits or Limits())
        self._by_address: dict[str, Connection] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._is_stopped = False

    async def connect(self, address: str, *, timeout_ms: float | None = None) -> Connection:
        """The open connection to ``address``, made if there is none; raises RemotingConnectError."""
        connection = self._by_address.get(address)
        if connection is not None and not connection.is_closed:
            return connection
        if self._is_stopped:
            raise RemotingConnectError(address, "the client is closed")
        lock = self._locks.setdefault(address, asyncio.Lock())
        async with lock:
            connection = self._by_address.get(address)
            if connection is not None and not connection.is_closed:
                return connection
            wait_ms = self.limits.connect_ms if timeout_ms is None else min(timeout_ms, self.limits.connect_ms)
            try:
                host, port = split_address(address)
                async with asyncio.timeout(wait_ms / 1000):
                    _, connection = await asyncio.get_running_loop().create_connection(
                        lambda: Connection(self, is_server=False), host, port
                    )
            except TimeoutError:
                raise RemotingConnectError(address, f"no connection within {wait_ms:g} ms") from None
            except (OSError, ValueError) as error:
                raise RemotingConnectError(address, str(error)) from error
            self._by_address[address] = connection
            connection.on_close.append(lambda closed: self._forget(address, closed))
            return connection

    async def invoke(
        self,
        address: str,
        code: int,
        header: Header | Mapping[str, str] | bytes | None = None,
        body: Buffer = b"",
        *,
        timeout_ms: float = 3000,
    ) -> Command:
        """Ask ``address`` and return its answer, whatever its code.

        Raises RemotingConnectError or RemotingTimeout; connecting counts against ``timeout_ms``.
        """
        connection = self._by_address.get(address)
        left_ms = timeout_ms
        if connection is None or connection.is_closed:
            started = monotonic()
            connection = await self.connect(address, timeout_ms=timeout_ms)
            left_ms -= (monotonic() - started) * 1000
        try:
            return await connection.invoke(code, header, body, timeout_ms=left_ms)
        except RemotingTimeout:
            raise RemotingTimeout(address, code, timeout_ms) from None

    async def invoke_oneway(
        self,
        address: str,
        code: int,
        header: Header | Mapping[str, str] | None = None,
        body: Buffer = b"",
    ) -> None:
        """Send a request that is never answered; raises RemotingConnectError when it cannot even be sent."""
        (await self.connect(address)).notify(code, header, body)

    def disconnect(self, address: str) -> None:
        """Close the connection to ``address``, if any."""
        connection = self._by_address.get(address)
        if connection is not None:
            connection.close("closed by this side")

    async def close(self) -> None:
        """Close every connection and end every task."""
        self._is_stopped = True
        for connection in list(self.connections):
            connection.close("client closes")
        await self.tasks.stop()
        deadline = asyncio.get_running_loop().time() + 1
        while self.connections and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.005)
        for connection in list(self.connections):
            connection.abort("client closes")

    def _forget(self, address: str, connection: Connection) -> None:
        if self._by_address.get(address) is connection:
            del self._by_address[address]
            self._locks.pop(address, None)
