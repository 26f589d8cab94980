"""One client on one connection, as producers and consumers both know it."""

from __future__ import annotations

from dataclasses import dataclass

from rocketmq_common.versions import version_name
from rocketmq_remoting.connection import Connection

# Of one group, and groups of one connection: both are client input.
MEMBERS_MAX = 20_000
GROUPS_PER_CONNECTION_MAX = 4096
# Without a heartbeat for this long a client is dropped (Java: CHANNEL_EXPIRED_TIMEOUT).
EXPIRY_MS = 120_000


@dataclass(frozen=True, slots=True)
class Wish:
    """What one member of a consumer group wants: all members should want the same. Topic → expression type and expression."""

    message_model: str
    subscriptions: frozenset[tuple[str, str, str]]


class Member:
    """A client id on its connection. ``last_heartbeat`` is in seconds of the monotonic clock; only consumers have a ``wish``."""

    __slots__ = ("client_id", "connection", "language", "last_heartbeat", "version", "wish")

    def __init__(self, connection: Connection, client_id: str, language: str, version: int, now: float) -> None:
        self.connection = connection
        self.client_id = client_id
        self.language = language
        self.version = version
        self.last_heartbeat = now
        self.wish: Wish | None = None

    @property
    def address(self) -> str:
        """``ip:port`` of the client."""
        return self.connection.remote

    @property
    def version_description(self) -> str:
        """The version's name as Java prints it."""
        return version_name(self.version)
