"""The remoting ports of a broker, and what is said when one is taken.

Where elections decide on the role, a reign that ends begins a new life of the broker (see `failover.succession`), which opens its
store anew. The ports stay open meanwhile: whoever connects waits for the next life, instead of being refused and failing its send.
"""

from __future__ import annotations

import os
import socket

from rocketmq_remoting.server import RemotingServer


class ListenError(Exception):
    """An address cannot be listened on; the message says which, why and what to do."""


class Ports:
    """Listening sockets by the key of the configuration that names them; kept from life to life when ``is_kept``."""

    def __init__(self, *, is_kept: bool = False) -> None:
        self._is_kept = is_kept
        self._sockets: dict[str, socket.socket] = {}

    async def listen(self, server: RemotingServer, host: str, port: int, key: str) -> None:
        """Start ``server``. Raises ListenError."""
        kept = self._sockets.get(key)
        try:
            await server.start(host, port, None if kept is None else kept.dup())
        except OSError as error:
            raise listen_error(host, port, key, error) from error
        if self._is_kept and kept is None and (sock := server.listening()) is not None:
            self._sockets[key] = sock

    def close(self) -> None:
        """There is no next life."""
        self._is_kept = False
        while self._sockets:
            self._sockets.popitem()[1].close()


def listen_error(host: str, port: int, key: str, error: OSError) -> ListenError:
    """``error`` in words that say what to do."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return ListenError(f"{host}:{port} ({key}): cannot listen: {reason}: free the port or change it")
