"""The entry to administration."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rocketmq_client.admin.access import REQUEST_TIMEOUT_MS, Access
from rocketmq_client.admin.brokers import Brokers
from rocketmq_client.admin.dead_letters import DeadLetters
from rocketmq_client.admin.diagnosis import Diagnosis, diagnose, gather
from rocketmq_client.admin.groups import Groups
from rocketmq_client.admin.messages import Messages
from rocketmq_client.admin.topics import Topics
from rocketmq_client.instance import ClientInstance
from rocketmq_client.name_servers import parse_addresses


class Admin:
    """Administration of a cluster, Apache's or ours.

    ```python
    async with Admin("127.0.0.1:9876") as admin:
        await admin.topics.create("orders", queues=8)
        print((await admin.groups.progress("billing")).lag)
    ```
    """

    def __init__(
        self, name_servers: str | Sequence[str] | None = None, *, timeout_ms: int = REQUEST_TIMEOUT_MS
    ) -> None:
        self._addresses = parse_addresses(name_servers)
        self._access = Access()
        self._access.timeout_ms = timeout_ms
        self.topics = Topics(self._access)
        self.groups = Groups(self._access)
        self.brokers = Brokers(self._access)
        self.messages = Messages(self._access)
        self.dead_letters = DeadLetters(self._access, self.topics, self.messages)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Join the process's client instance; nothing is asked yet."""
        if self._access.joined is None:
            self._access.joined = ClientInstance.acquire(self._addresses)

    async def close(self) -> None:
        """Leave."""
        joined, self._access.joined = self._access.joined, None
        if joined is not None:
            await joined.release()

    async def diagnose(self, group: str) -> Diagnosis:
        """Why ``group`` does not consume as it should; raises GroupNotFound, NameServerUnavailable."""
        evidence = await gather(self.groups, self.topics, self.dead_letters, group)
        return Diagnosis(diagnose(evidence), evidence)
