"""Typed request and response bodies that several sides share. Strict JSON unless said otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from rocketmq_common.topics import DataVersion, TopicConfig

EXPRESSION_TAG = "TAG"
EXPRESSION_SQL92 = "SQL92"

CONSUME_ACTIVELY = "CONSUME_ACTIVELY"
CONSUME_PASSIVELY = "CONSUME_PASSIVELY"
CONSUME_POP = "CONSUME_POP"
CLUSTERING = "CLUSTERING"
BROADCASTING = "BROADCASTING"
CONSUME_FROM_LAST_OFFSET = "CONSUME_FROM_LAST_OFFSET"
CONSUME_FROM_FIRST_OFFSET = "CONSUME_FROM_FIRST_OFFSET"
CONSUME_FROM_TIMESTAMP = "CONSUME_FROM_TIMESTAMP"

# Java writes an enumeration as its name and reads its ordinal as well, which is what the C++ client sends.
if TYPE_CHECKING:
    EnumName = str
else:
    EnumName = str | int
ORDINALS = {
    "consume_type": (CONSUME_ACTIVELY, CONSUME_PASSIVELY, CONSUME_POP),
    "message_model": (BROADCASTING, CLUSTERING),
    "consume_from_where": (
        CONSUME_FROM_LAST_OFFSET,
        "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        "CONSUME_FROM_MIN_OFFSET",
        "CONSUME_FROM_MAX_OFFSET",
        CONSUME_FROM_FIRST_OFFSET,
        CONSUME_FROM_TIMESTAMP,
    ),
}


class Body(msgspec.Struct, rename="camel", kw_only=True):
    """Base of bodies: camelCase on the wire."""


class MessageQueue(msgspec.Struct, rename="camel", frozen=True, order=True):
    """One queue; the order is Java's compareTo: topic, broker name, queue id. Serves as object key in some maps."""

    topic: str
    broker_name: str
    queue_id: int


class SubscriptionData(Body):
    """What a consumer wants of one topic. ``sub_version`` is the ms timestamp of the subscription."""

    topic: str = ""
    sub_string: str = "*"
    expression_type: str | None = EXPRESSION_TAG
    tags_set: list[str] = []
    code_set: list[int] = []
    sub_version: int = 0
    class_filter_mode: bool = False


class ConsumerData(Body):
    """One consumer group of a client; an ordinal on the wire is its name here."""

    group_name: str
    consume_type: EnumName = CONSUME_PASSIVELY
    message_model: EnumName = CLUSTERING
    consume_from_where: EnumName = CONSUME_FROM_LAST_OFFSET
    subscription_data_set: list[SubscriptionData] = []
    unit_mode: bool = False

    def __post_init__(self) -> None:
        for field, names in ORDINALS.items():
            value = getattr(self, field)
            if isinstance(value, int):
                if not 0 <= value < len(names):
                    raise ValueError(f"{field} {value} is none of {', '.join(names)}")
                setattr(self, field, names[value])


class ProducerData(Body):
    """One producer group of a client."""

    group_name: str


class HeartbeatData(Body):
    """Body of HEART_BEAT."""

    client_id: str = msgspec.field(name="clientID")
    producer_data_set: list[ProducerData] = []
    consumer_data_set: list[ConsumerData] = []
    heartbeat_fingerprint: int = 0
    without_sub: bool = False


class QueueData(Body):
    """Queues of a topic at one broker name."""

    broker_name: str
    read_queue_nums: int
    write_queue_nums: int
    perm: int
    topic_sys_flag: int = 0


class BrokerData(Body):
    """Addresses of one broker name by broker id; id 0 is the master."""

    cluster: str
    broker_name: str
    broker_addrs: dict[int, str]
    enable_acting_master: bool = False
    zone_name: str | None = None


class TopicRouteData(Body):
    """Where a topic lives."""

    queue_datas: list[QueueData] = []
    broker_datas: list[BrokerData] = []
    filter_server_table: dict[str, list[str]] = {}
    order_topic_conf: str | None = None


class TopicConfigSerializeWrapper(Body):
    """All topics of a broker with their version; mappings of static topics pass through untyped."""

    data_version: DataVersion = msgspec.field(default_factory=DataVersion)
    topic_config_table: dict[str, TopicConfig] = {}
    mapping_data_version: DataVersion | None = None
    topic_queue_mapping_info_map: dict[str, Any] | None = None
    topic_queue_mapping_detail_map: dict[str, Any] | None = None


class RegisterBrokerBody(Body):
    """Uncompressed body of REGISTER_BROKER."""

    topic_config_serialize_wrapper: TopicConfigSerializeWrapper
    filter_server_list: list[str] = []


class LockBatchRequestBody(Body):
    """Bodies of LOCK_BATCH_MQ and UNLOCK_BATCH_MQ."""

    consumer_group: str
    client_id: str
    mq_set: list[MessageQueue] = []
    only_this_broker: bool = False


class LockBatchResponseBody(Body):
    """The queues now held."""

    lock_ok_mq_set: list[MessageQueue] = msgspec.field(name="lockOKMQSet", default_factory=list)


class ConsumerListBody(Body):
    """Client ids of a group."""

    consumer_id_list: list[str]


class CheckClientRequestBody(Body):
    """Body of CHECK_CLIENT_CONFIG."""

    client_id: str
    group: str
    subscription_data: SubscriptionData
    namespace: str | None = None
