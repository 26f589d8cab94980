"""Topics: create, look at, delete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rocketmq_client.admin.access import Access, BrokerAddress, convert, parse
from rocketmq_client.admin.connections import ClientConnection, ConnectionsBody
from rocketmq_client.errors import InvalidArgument, NotFound, RequestRefused, TopicNotFound
from rocketmq_client.routes import Route
from rocketmq_common import names, permissions
from rocketmq_common.javajson import ObjectKey
from rocketmq_common.topics import TopicConfig, topic_config_from
from rocketmq_remoting.bodies import MessageQueue
from rocketmq_remoting.codes import RequestCode, ResponseCode

DEFAULT_QUEUES = 8


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Extent of one queue: offsets, and ms of the last message (0: none)."""

    queue: MessageQueue
    min_offset: int
    max_offset: int
    last_update_ms: int


class Topics:
    """``admin.topics``."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def names(self, *, with_system: bool = False) -> list[str]:
        """All topics known to the name server, sorted; retry, dead-letter and RocketMQ's own only ``with_system``."""
        answer = await self._access.ask_name_server(RequestCode.GET_ALL_TOPIC_LIST_FROM_NAMESERVER)
        found = sorted(parse(answer.body).get("topicList") or [])
        if with_system:
            return found
        system = await self.system_names()
        return [t for t in found if t not in system and not _is_internal(t)]

    async def system_names(self) -> set[str]:
        """Topics that belong to RocketMQ: named after clusters and brokers, and those that brokers report."""
        answer = await self._access.ask_name_server(RequestCode.GET_SYSTEM_TOPIC_LIST_FROM_NS)
        body = parse(answer.body)
        found = set(body.get("topicList") or []) | names.SYSTEM_TOPICS
        address = body.get("brokerAddr")
        if address:
            reported = await self._access.ask(address, RequestCode.GET_SYSTEM_TOPIC_LIST_FROM_BROKER)
            found |= set(parse(reported.body).get("topicList") or [])
        return found

    async def create(
        self,
        topic: str,
        *,
        queues: int = DEFAULT_QUEUES,
        read_queues: int | None = None,
        write_queues: int | None = None,
        perm: int = permissions.READ_WRITE,
        order: bool = False,
        attributes: Mapping[str, str] | None = None,
        cluster: str | None = None,
        broker: str | None = None,
    ) -> list[BrokerAddress]:
        """Create or alter ``topic`` at all masters (of a cluster, or one broker); returns where. Attributes are only added.

        Raises InvalidArgument, RequestRefused.
        """
        problem = names.topic_name_problem(topic)
        if problem is not None:
            raise InvalidArgument(problem)
        config = TopicConfig(
            topic_name=topic,
            read_queue_nums=queues if read_queues is None else read_queues,
            write_queue_nums=queues if write_queues is None else write_queues,
            perm=perm,
            order=order,
            attributes=dict(attributes or {}),
        )
        masters = await self._access.masters(cluster=cluster, broker=broker)
        await self._access.each(masters, lambda b: self.apply(b.address, config))
        return masters

    async def apply(self, address: str, config: TopicConfig) -> None:
        """Put ``config`` in force at one broker; raises InvalidArgument, RequestRefused."""
        if min(config.read_queue_nums, config.write_queue_nums) < 0 or config.queue_nums_max < 1:
            raise InvalidArgument("a topic needs at least one queue")
        if not permissions.is_valid(config.perm):
            raise InvalidArgument(f"perm {config.perm} is no combination of read 4, write 2, inherit 1")
        header = {
            "topic": config.topic_name,
            "defaultTopic": names.DEFAULT_TOPIC,
            "readQueueNums": str(config.read_queue_nums),
            "writeQueueNums": str(config.write_queue_nums),
            "perm": str(config.perm),
            "topicFilterType": config.topic_filter_type,
            "topicSysFlag": str(config.topic_sys_flag),
            "order": "true" if config.order else "false",
            "attributes": ",".join(f"+{name}={value}" for name, value in config.attributes.items()),
            "force": "false",
        }
        await self._access.ask(
            address, RequestCode.UPDATE_AND_CREATE_TOPIC, header, context=f"topic {config.topic_name} at {address}"
        )

    async def delete(self, topic: str, *, cluster: str | None = None) -> None:
        """Delete ``topic`` with its messages at all brokers and name servers; raises TopicNotFound."""
        await self.route(topic)
        header = {"topic": topic}
        brokers = await self._access.brokers(cluster=cluster)
        await self._access.each(
            brokers, lambda b: self._access.ask(b.address, RequestCode.DELETE_TOPIC_IN_BROKER, header)
        )
        name_servers = self._access.instance.name_servers
        await name_servers.tell_all(RequestCode.DELETE_TOPIC_IN_NAMESRV, header)

    async def route(self, topic: str) -> Route:
        """Where the topic lives, as the name server says now; raises TopicNotFound."""
        return await self._access.instance.routes.fetch(topic)

    async def configs(self, topic: str) -> dict[str, TopicConfig]:
        """Configuration by broker name; raises TopicNotFound when no broker has the topic."""
        result: dict[str, TopicConfig] = {}
        for broker in await self._access.masters_of(await self.route(topic)):
            try:
                answer = await self._access.ask(
                    broker.address, RequestCode.GET_TOPIC_CONFIG, {"topic": topic, "lo": "true"}
                )
            except NotFound:
                continue
            except RequestRefused as error:
                if error.code != ResponseCode.REQUEST_CODE_NOT_SUPPORTED:
                    raise
                # A broker before 5.0 tells all of them or none.
                if (known := (await self.all_configs(broker)).get(topic)) is not None:
                    result[broker.name] = known
                continue
            raw = {key: value for key, value in parse(answer.body).items() if key != "mappingDetail"}
            result[broker.name] = topic_config_from(raw, topic)
        if not result:
            raise TopicNotFound(ResponseCode.TOPIC_NOT_EXIST, f"no broker has topic {topic}")
        return result

    async def all_configs(self, broker: BrokerAddress) -> dict[str, TopicConfig]:
        """Every topic of one broker."""
        answer = await self._access.ask(broker.address, RequestCode.GET_ALL_TOPIC_CONFIG)
        table: dict[str, Any] = parse(answer.body).get("topicConfigTable") or {}
        return {name: topic_config_from(raw, name) for name, raw in sorted(table.items())}

    async def stats(self, topic: str) -> list[QueueStats]:
        """Extent of every queue, sorted; raises TopicNotFound."""
        result: list[QueueStats] = []
        masters = await self._access.masters_of(await self.route(topic))
        for _, answer in await self._access.each(
            masters, lambda b: self._access.ask(b.address, RequestCode.GET_TOPIC_STATS_INFO, {"topic": topic})
        ):
            for key, row in (parse(answer.body).get("offsetTable") or {}).items():
                result.append(
                    QueueStats(
                        queue_from(key),
                        int(row.get("minOffset", 0)),
                        int(row.get("maxOffset", 0)),
                        int(row.get("lastUpdateTimestamp", 0)),
                    )
                )
        return sorted(result, key=lambda stats: stats.queue)

    async def groups(self, topic: str) -> list[str]:
        """Consumer groups that have offsets or members on the topic."""
        found: set[str] = set()
        masters = await self._access.masters_of(await self.route(topic))
        for _, answer in await self._access.each(
            masters, lambda b: self._access.ask(b.address, RequestCode.QUERY_TOPIC_CONSUME_BY_WHO, {"topic": topic})
        ):
            found |= set(parse(answer.body).get("groupList") or [])
        return sorted(found)

    async def exists(self, topic: str) -> bool:
        """Whether the name server knows a route."""
        try:
            await self.route(topic)
        except TopicNotFound:
            return False
        return True

    async def producers(self, topic: str, group: str) -> list[ClientConnection]:
        """Connections of a producer group at the topic's brokers; empty when nobody is there."""
        found: dict[str, ClientConnection] = {}
        for broker in await self._access.masters_of(await self.route(topic)):
            try:
                answer = await self._access.ask(
                    broker.address, RequestCode.GET_PRODUCER_CONNECTION_LIST, {"producerGroup": group}
                )
            except RequestRefused as error:
                if error.code == ResponseCode.SYSTEM_ERROR:
                    continue  # Apache's word for "none"
                raise
            for connection in convert(answer.body, ConnectionsBody).connection_set:
                found[connection.client_id] = connection
        return sorted(found.values(), key=lambda c: c.client_id)


def queue_from(key: ObjectKey | str) -> MessageQueue:
    """The queue that serves as key of an object-keyed map; old servers may write it as a string of JSON."""
    fields = parse(key.encode()) if isinstance(key, str) else key.as_dict()
    return MessageQueue(str(fields["topic"]), str(fields["brokerName"]), int(fields["queueId"]))


def _is_internal(topic: str) -> bool:
    return names.is_retry_topic(topic) or names.is_dlq_topic(topic) or names.is_system_topic(topic)
