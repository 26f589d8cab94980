"""Topics: 17 and 18 create and change, 215 delete, 21 and 351 look up, 305 system topics, 316 unused queues."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from rocketmq_broker.admin import attributes
from rocketmq_broker.admin.requests import converted, invalid, list_in, object_body, page
from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.topics import TopicLimitReached, TopicTable
from rocketmq_common import javajson, names, permissions
from rocketmq_common.topics import FILTER_MULTI_TAG, FILTER_SINGLE_TAG, TopicConfig, topic_config_from
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.admin import (
    CreateTopicRequestHeader,
    GetAllTopicConfigRequestHeader,
    GetAllTopicConfigResponseHeader,
    TopicHeader,
)
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

QUEUE_NUMS_MAX: Final = 16_384
ATTRIBUTES: Final[Mapping[str, attributes.Attribute]] = {
    "message.type": attributes.Attribute(
        values=("UNSPECIFIED", "NORMAL", "FIFO", "DELAY", "TRANSACTION", "PRIORITY"), refused=("MIXED",)
    ),
    "queue.type": attributes.Attribute(values=("SimpleCQ",), refused=("BatchCQ", "RocksDBConsumeQueue"), is_fixed=True),
    "cleanup.policy": attributes.Attribute(values=("DELETE",), refused=("COMPACTION",), is_fixed=True),
    "reserve.time": attributes.Attribute(is_number=True),
}


class TopicAdministration:
    """See the module. Changes are answered after they are on disk and the name servers were told."""

    def __init__(
        self, topics: TopicTable, offsets: ConsumerOffsets, store: MessageStore, forget_topic: Callable[[str], None]
    ) -> None:
        self._topics = topics
        self._offsets = offsets
        self._store = store
        self._forget_topic = forget_topic

    def routes(self) -> list[Route]:
        """The rows of the table that this part serves."""
        return [
            Route(RequestCode.UPDATE_AND_CREATE_TOPIC, CreateTopicRequestHeader, self.create),
            Route(RequestCode.UPDATE_AND_CREATE_TOPIC_LIST, None, self.create_all),
            Route(RequestCode.DELETE_TOPIC_IN_BROKER, TopicHeader, self.delete),
            Route(RequestCode.GET_ALL_TOPIC_CONFIG, GetAllTopicConfigRequestHeader, self.all),
            Route(RequestCode.GET_TOPIC_CONFIG, TopicHeader, self.get),
            Route(RequestCode.GET_SYSTEM_TOPIC_LIST_FROM_BROKER, None, self.system),
            Route(RequestCode.CLEAN_UNUSED_TOPIC, None, self.clean_unused),
        ]

    async def create(self, connection: Connection, _: Command, header: CreateTopicRequestHeader) -> Response:
        """17."""
        config = TopicConfig(
            topic_name=header.topic.strip(),
            read_queue_nums=header.read_queue_nums,
            write_queue_nums=header.write_queue_nums,
            perm=header.perm,
            topic_filter_type=header.topic_filter_type,
            topic_sys_flag=header.topic_sys_flag or 0,
            order=header.order,
        )
        config.attributes = self._attributes(config.topic_name, header.attributes)
        await self._apply([config], connection)
        return Response()

    async def create_all(self, connection: Connection, command: Command, _: None) -> Response:
        """18; all of them or none."""
        configs = []
        for fields in list_in(object_body(command), "topicConfigList"):
            try:
                config = topic_config_from(fields)
            except msgspec.ValidationError as error:
                raise converted(error, f"topic {fields.get('topicName')}") from error
            config.attributes = self._attributes(config.topic_name, config.attributes)
            configs.append(config)
        await self._apply(configs, connection)
        return Response()

    async def delete(self, connection: Connection, _: Command, header: TopicHeader) -> Response:
        """215: configuration, offsets, statistics and queues; the records go when the log expires."""
        topic = header.topic.strip()
        if not topic:
            raise invalid("The specified topic is blank.")
        self._refuse_system(topic)
        try:
            existed = await self._topics.delete(topic)
        except OSError as error:
            raise _not_written(topic, error) from error
        self._offsets.forget_topic(topic)
        queue_count = self._store.delete_topic(topic)
        self._forget_topic(topic)
        if existed or queue_count:
            logger.info("topic %s with %d queues deleted by %s", topic, queue_count, connection.remote)
        return Response()

    def get(self, _: Connection, __: Command, header: TopicHeader) -> Response:
        """351."""
        config = self._topics.get(header.topic)
        if config is None:
            raise RemotingError(ResponseCode.TOPIC_NOT_EXIST, f"No topic in this broker. topic: {header.topic}")
        return Response(body=javajson.dumps(config))

    def all(self, _: Connection, __: Command, header: GetAllTopicConfigRequestHeader) -> Response:
        """21, whole or by pages."""
        configs = self._topics.configs
        body: dict[str, Any] = {
            "dataVersion": self._topics.data_version,
            "topicConfigTable": page(configs, header.topic_seq, header.max_topic_num),
            "mappingDataVersion": {"counter": 0, "stateVersion": 0, "timestamp": 0},
            "topicQueueMappingDetailMap": {},
            "topicQueueMappingInfoMap": {},
        }
        return Response(ext=GetAllTopicConfigResponseHeader(total_topic_num=len(configs)), body=javajson.dumps(body))

    def system(self, _: Connection, __: Command, ___: None) -> Response:
        """305."""
        return Response(body=javajson.dumps({"topicList": sorted(self._topics.system_topics | names.SYSTEM_TOPICS)}))

    def clean_unused(self, connection: Connection, _: Command, __: None) -> Response:
        """316: remove queues of topics that are not configured any more."""
        unused = [t for t in self._store.topics() if self._topics.get(t) is None and not self._topics.is_system(t)]
        for topic in unused:
            self._store.delete_topic(topic)
        logger.info("%d unused topics removed for %s", len(unused), connection.remote)
        return Response()

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _apply(self, configs: list[TopicConfig], connection: Connection) -> None:
        for config in configs:
            self._check(config)
        known = self._topics.configs
        changed = [config for config in configs if known.get(config.topic_name) != config]
        if not changed:
            return
        try:
            await self._topics.update_all(changed)
        except TopicLimitReached as error:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, str(error)) from error
        except OSError as error:
            raise _not_written(changed[0].topic_name, error) from error
        logger.info("%s created or changed topics: %s", connection.remote, [config.topic_name for config in changed])

    def _check(self, config: TopicConfig) -> None:
        topic = config.topic_name
        problem = names.topic_name_problem(topic)
        if problem is not None:
            raise invalid(problem)
        self._refuse_system(topic)
        for field, value in (("readQueueNums", config.read_queue_nums), ("writeQueueNums", config.write_queue_nums)):
            if not 1 <= value <= QUEUE_NUMS_MAX:
                raise invalid(f"topic {topic}: {field}={value}: 1 to {QUEUE_NUMS_MAX} are allowed")
        if not permissions.is_valid(config.perm):
            raise invalid(f"topic {topic}: perm={config.perm}: write 2 (write), 4 (read) or 6 (both)")
        if config.topic_filter_type not in (FILTER_SINGLE_TAG, FILTER_MULTI_TAG):
            raise invalid(
                f"topic {topic}: topicFilterType={config.topic_filter_type}: write {FILTER_SINGLE_TAG} or {FILTER_MULTI_TAG}"
            )

    def _attributes(self, topic: str, wanted: Mapping[str, str] | str | None) -> dict[str, str]:
        known = self._topics.get(topic)
        try:
            signed = wanted if isinstance(wanted, Mapping) else attributes.parse(wanted)
            return attributes.altered(ATTRIBUTES, None if known is None else known.attributes, signed)
        except attributes.AttributeProblem as error:
            raise invalid(f"topic {topic}: {error}") from error

    def _refuse_system(self, topic: str) -> None:
        if self._topics.is_system(topic):
            raise invalid(f"The topic[{topic}] is conflict with system topic.")


def _not_written(topic: str, error: OSError) -> RemotingError:
    logger.error("topic %s: configuration not written: %s", topic, error)
    return RemotingError(
        ResponseCode.SYSTEM_ERROR, f"topic {topic}: configuration not written: {error.strerror or error}"
    )
