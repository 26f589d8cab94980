"""The seam to brokers and name servers: what reconciling asks of them, and how that fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rocketmq_operator.reconcile.observed import BrokerFacts, DrainFacts

Fields = Mapping[str, Any]


class BrokerSilent(Exception):
    """No usable answer: not reachable, too late, or not understood."""


class BrokerRefused(Exception):
    """An answer that says no; asking again without a change cannot help."""


class BrokerAccess(Protocol):
    """Every call raises BrokerSilent or BrokerRefused. Addresses are ``host:port`` of the remoting port."""

    async def facts(self, address: str) -> BrokerFacts:
        """What a broker says of itself."""
        ...

    async def drain_facts(self, leaving: str, staying: Sequence[str]) -> DrainFacts:
        """What the master ``leaving`` still holds, and what the masters ``staying`` lack of its tables."""
        ...

    async def configure(self, address: str, values: Mapping[str, str]) -> None:
        """Change keys at run time."""
        ...

    async def set_writes(self, group: str, name_servers: Sequence[str], *, is_open: bool) -> None:
        """Give a group's topics to producers, or take them away, in every name server's routes."""
        ...

    async def unregister(
        self, cluster: str, group: str, brokers: Sequence[tuple[int, str]], name_servers: Sequence[str]
    ) -> None:
        """Make every name server forget these (id, address) of a group."""
        ...

    async def topic(self, address: str, topic: str) -> Fields | None:
        """A topic's configuration in Java's shape, or None."""
        ...

    async def put_topic(self, address: str, config: Fields) -> None:
        """Create or change a topic."""
        ...

    async def delete_topic(self, address: str, topic: str) -> None:
        """Delete a topic at a broker; an unknown one is no error."""
        ...

    async def forget_topic(self, name_server: str, topic: str) -> None:
        """Delete a topic from a name server's routes."""
        ...

    async def queue_backlog(self, address: str, topic: str, from_queue: int) -> int:
        """Messages in queues ``from_queue`` and above that some group with offsets there did not consume."""
        ...

    async def group(self, address: str, group: str) -> Fields | None:
        """A consumer group's configuration in Java's shape, or None."""
        ...

    async def put_group(self, address: str, config: Fields) -> None:
        """Create or change a consumer group."""
        ...

    async def delete_group(self, address: str, group: str) -> None:
        """Delete a consumer group and its offsets; an unknown one is no error."""
        ...

    async def group_progress(self, address: str, group: str) -> tuple[int, int]:
        """(messages not consumed, members online) at one broker."""
        ...
