"""Consumer groups: create, progress, members, moving offsets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from rocketmq_client.admin import seeking
from rocketmq_client.admin.access import Access, BrokerAddress, convert, parse
from rocketmq_client.admin.connections import ClientConnection, ConsumerConnections
from rocketmq_client.admin.seeking import LATEST
from rocketmq_client.admin.topics import queue_from
from rocketmq_client.errors import GroupNotFound, InvalidArgument, NobodyOnline, NotFound, RequestRefused, TopicNotFound
from rocketmq_client.routes import Route
from rocketmq_common import names
from rocketmq_common.groups import SubscriptionGroupConfig, group_config_from
from rocketmq_remoting.bodies import MessageQueue
from rocketmq_remoting.codes import RequestCode, ResponseCode


@dataclass(frozen=True, slots=True)
class QueueProgress:
    """How far a group is on one queue: offsets, and the ms time of the last message consumed (0: unknown)."""

    queue: MessageQueue
    broker_offset: int
    consumer_offset: int
    pull_offset: int
    last_timestamp_ms: int

    @property
    def lag(self) -> int:
        """Messages not consumed yet."""
        return max(self.broker_offset - max(self.consumer_offset, 0), 0)

    @property
    def in_flight(self) -> int:
        """Messages pulled but not committed yet."""
        return max(self.pull_offset - max(self.consumer_offset, 0), 0)


@dataclass(frozen=True, slots=True)
class GroupProgress:
    """How far a group is on all its queues; ``tps`` is what brokers measure."""

    group: str
    queues: tuple[QueueProgress, ...]
    tps: float

    @property
    def lag(self) -> int:
        """Messages not consumed yet, all queues together."""
        return sum(queue.lag for queue in self.queues)


class Groups:
    """``admin.groups``."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def configs(self, *, with_system: bool = False) -> dict[str, SubscriptionGroupConfig]:
        """Configuration of every group that some broker knows, by name."""
        result: dict[str, SubscriptionGroupConfig] = {}
        for _, found in await self._access.each(await self._access.masters(), self._configs_at):
            result |= {name: c for name, c in found.items() if with_system or not names.is_system_group(name)}
        return dict(sorted(result.items()))

    async def _configs_at(self, broker: BrokerAddress) -> dict[str, SubscriptionGroupConfig]:
        answer = await self._access.ask(broker.address, RequestCode.GET_ALL_SUBSCRIPTIONGROUP_CONFIG)
        table: dict[str, Any] = parse(answer.body).get("subscriptionGroupTable") or {}
        return {name: group_config_from(raw, name) for name, raw in table.items()}

    async def config(self, group: str) -> SubscriptionGroupConfig:
        """The configuration of one group; raises GroupNotFound."""
        for broker in await self._access.masters():
            try:
                answer = await self._access.ask(
                    broker.address, RequestCode.GET_SUBSCRIPTIONGROUP_CONFIG, {"group": group}
                )
            except NotFound:
                continue
            except RequestRefused as error:
                if error.code != ResponseCode.REQUEST_CODE_NOT_SUPPORTED:
                    raise
                # A broker before 5.0 tells all of them or none.
                if (known := (await self._configs_at(broker)).get(group)) is None:
                    continue
                return known
            return group_config_from(parse(answer.body), group)
        raise GroupNotFound(
            ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, f"no broker knows group {group}", hint="see: rocketmq group ls"
        )

    async def create(
        self, config: SubscriptionGroupConfig | str, *, cluster: str | None = None, broker: str | None = None
    ) -> list[BrokerAddress]:
        """Create or alter a group at all masters (of a cluster, or one broker); returns where. Raises InvalidArgument."""
        wanted = SubscriptionGroupConfig(group_name=config) if isinstance(config, str) else config
        problem = names.group_name_problem(wanted.group_name)
        if problem is not None:
            raise InvalidArgument(problem)
        masters = await self._access.masters(cluster=cluster, broker=broker)
        body = msgspec.json.encode({k: v for k, v in msgspec.to_builtins(wanted).items() if v is not None})
        await self._access.each(
            masters, lambda b: self._access.ask(b.address, RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, None, body)
        )
        return masters

    async def delete(self, group: str, *, clean_offsets: bool = False) -> None:
        """Delete a group, with ``clean_offsets`` its progress, and its retry and dead-letter topics; raises GroupNotFound."""
        await self.config(group)
        header = {"groupName": group, "cleanOffset": "true" if clean_offsets else "false"}
        await self._access.each(
            await self._access.masters(),
            lambda b: self._access.ask(b.address, RequestCode.DELETE_SUBSCRIPTIONGROUP, header),
        )
        name_servers = self._access.instance.name_servers
        for topic in (names.retry_topic(group), names.dlq_topic(group)):
            try:
                route = await self._access.instance.routes.fetch(topic)
            except TopicNotFound:
                continue
            for broker in await self._access.masters_of(route):
                await self._access.ask(broker.address, RequestCode.DELETE_TOPIC_IN_BROKER, {"topic": topic})
            await name_servers.tell_all(RequestCode.DELETE_TOPIC_IN_NAMESRV, {"topic": topic})

    async def progress(self, group: str, *, topic: str | None = None) -> GroupProgress:
        """Offsets and lag on every queue that the group has offsets of; empty when it never consumed.

        Raises GroupNotFound when no broker knows the group.
        """
        header = {"consumerGroup": group} | ({"topic": topic} if topic else {})
        queues: list[QueueProgress] = []
        tps = 0.0
        for broker in await self._access.masters():
            try:
                answer = await self._access.ask(broker.address, RequestCode.GET_CONSUME_STATS, header)
            except NotFound:
                continue
            body = parse(answer.body)
            tps += float(body.get("consumeTps") or 0)
            queues += (_progress(key, row) for key, row in (body.get("offsetTable") or {}).items())
        if not queues:
            await self.config(group)
        return GroupProgress(group, tuple(sorted(queues, key=lambda q: q.queue)), tps)

    async def members(self, group: str) -> ConsumerConnections:
        """Connected consumers, their subscriptions and model; raises NobodyOnline."""
        merged: ConsumerConnections | None = None
        by_id: dict[str, ClientConnection] = {}
        for broker in await self._access.masters():
            try:
                answer = await self._access.ask(
                    broker.address, RequestCode.GET_CONSUMER_CONNECTION_LIST, {"consumerGroup": group}
                )
            except NotFound:
                continue
            part = convert(answer.body, ConsumerConnections)
            by_id |= {connection.client_id: connection for connection in part.connection_set}
            if merged is None:
                merged = part
            merged.subscription_table |= part.subscription_table
        if merged is None:
            raise NobodyOnline(
                ResponseCode.CONSUMER_NOT_ONLINE, f"no consumer of group {group} is connected", hint="start one"
            )
        merged.connection_set = sorted(by_id.values(), key=lambda c: c.client_id)
        return merged

    async def running_info(self, group: str, client_id: str) -> dict[str, Any]:
        """What a connected consumer says of itself; raises NobodyOnline, RequestTimeout."""
        header = {"consumerGroup": group, "clientId": client_id, "jstackEnable": "false"}
        refusal: RequestRefused | None = None
        for broker in await self._access.masters():
            try:
                answer = await self._access.ask(
                    broker.address, RequestCode.GET_CONSUMER_RUNNING_INFO, header, timeout_ms=12_000
                )
            except RequestRefused as error:
                refusal = error
                continue
            info: dict[str, Any] = parse(answer.body)
            return info
        raise refusal or NobodyOnline(ResponseCode.CONSUMER_NOT_ONLINE, f"{client_id} is not connected")

    async def seek(
        self, group: str, topic: str, timestamp_ms: int = LATEST, *, force: bool = True
    ) -> dict[MessageQueue, int]:
        """Move the group on ``topic`` to the messages stored at ``timestamp_ms`` (-1: the end); returns the new offsets.

        ``force`` allows moving forward past what is not consumed. Raises TopicNotFound, GroupNotFound.
        """
        route = await self._route(topic)
        result: dict[MessageQueue, int] = {}
        for _, moved in await self._access.each(
            await self._access.masters_of(route),
            lambda b: seeking.seek_all(self._access, b, route, group, timestamp_ms, force=force),
        ):
            result |= moved
        return dict(sorted(result.items()))

    async def seek_queue(self, group: str, queue: MessageQueue, offset: int) -> None:
        """Move the group on one queue to ``offset``, also while its consumers run; raises TopicNotFound, GroupNotFound.

        Brokers before 5.1 can do so only for a group without running consumers: RequestRefused otherwise.
        """
        await self._route(queue.topic)
        await seeking.seek_one(self._access, group, queue, offset)

    async def commit(self, group: str, offsets: Mapping[MessageQueue, int]) -> None:
        """Set committed offsets as a consumer would; for groups without running consumers."""
        for queue, offset in offsets.items():
            await self._route(queue.topic)
            await seeking.commit(self._access, group, queue, offset)

    async def copy_offsets(self, source: str, target: str, *, topic: str) -> None:
        """Give group ``target`` the progress of ``source`` on ``topic``, creating it if need be; raises TopicNotFound."""
        try:
            await self.config(target)
        except GroupNotFound:
            await self.create(target)
        header = {"srcGroup": source, "destGroup": target, "topic": topic, "offline": "false"}
        await self._access.each(
            await self._access.masters_of(await self._route(topic)),
            lambda b: self._access.ask(b.address, RequestCode.CLONE_GROUP_OFFSET, header),
        )

    async def set_mode(
        self,
        group: str,
        topic: str,
        mode: str,
        *,
        share_count: int = 0,
        cluster: str | None = None,
        broker: str | None = None,
    ) -> list[BrokerAddress]:
        """Have the members of ``group`` that ask brokers for their queues PULL or POP ``topic``; returns where that is set.

        ``share_count``: so many further members pop from each queue (0: all). Raises RequestRefused.
        """
        masters = await self._access.masters(cluster=cluster, broker=broker)
        wanted = {"topic": topic, "consumerGroup": group, "mode": mode, "popShareQueueNum": share_count}
        body = msgspec.json.encode(wanted)
        await self._access.each(
            masters, lambda b: self._access.ask(b.address, RequestCode.SET_MESSAGE_REQUEST_MODE, None, body)
        )
        return masters

    async def modes(self, group: str) -> list[tuple[BrokerAddress, dict[str, Any]]]:
        """What `set_mode` has set for ``group``, by broker, in Java's words."""
        found: list[tuple[BrokerAddress, dict[str, Any]]] = []
        for broker, answer in await self._access.each(
            await self._access.masters(),
            lambda b: self._access.ask(b.address, RequestCode.GET_ALL_MESSAGE_REQUEST_MODE),
        ):
            table: dict[str, dict[str, Any]] = parse(answer.body).get("messageRequestModeMap") or {}
            found += [(broker, of_groups[group]) for _, of_groups in sorted(table.items()) if group in of_groups]
        return found

    async def topics(self, group: str) -> list[str]:
        """Topics that the group has offsets of."""
        found: set[str] = set()
        for _, answer in await self._access.each(
            await self._access.masters(),
            lambda b: self._access.ask(b.address, RequestCode.QUERY_TOPICS_BY_CONSUMER, {"group": group}),
        ):
            found |= set(parse(answer.body).get("topicList") or [])
        return sorted(found)

    async def _route(self, topic: str) -> Route:
        return await self._access.instance.routes.fetch(topic)


def _progress(key: Any, row: Mapping[str, Any]) -> QueueProgress:
    return QueueProgress(
        queue_from(key),
        int(row.get("brokerOffset", 0)),
        int(row.get("consumerOffset", 0)),
        int(row.get("pullOffset", 0)),
        int(row.get("lastTimestamp", 0)),
    )
