"""Rules for topic and group names, and the names that RocketMQ reserves (TopicValidator, MixAll)."""

from __future__ import annotations

import re

DEFAULT_TOPIC = "TBW102"
SCHEDULE_TOPIC = "SCHEDULE_TOPIC_XXXX"
TRANS_HALF_TOPIC = "RMQ_SYS_TRANS_HALF_TOPIC"
TRANS_OP_HALF_TOPIC = "RMQ_SYS_TRANS_OP_HALF_TOPIC"
TRANS_CHECK_MAX_TIME_TOPIC = "TRANS_CHECK_MAX_TIME_TOPIC"
TRACE_TOPIC = "RMQ_SYS_TRACE_TOPIC"
SELF_TEST_TOPIC = "SELF_TEST_TOPIC"
BENCHMARK_TOPIC = "BenchmarkTest"
OFFSET_MOVED_EVENT = "OFFSET_MOVED_EVENT"
TIMER_TOPIC = "rmq_sys_wheel_timer"
SYNC_BROKER_MEMBER_PREFIX = "rmq_sys_SYNC_BROKER_MEMBER_"
REVIVE_TOPIC_PREFIX = "rmq_sys_REVIVE_LOG_"
REPLY_TOPIC_POSTFIX = "REPLY_TOPIC"
SYSTEM_TOPIC_PREFIX = "rmq_sys_"

RETRY_TOPIC_PREFIX = "%RETRY%"
DLQ_TOPIC_PREFIX = "%DLQ%"
LIGHT_QUEUE_PREFIX = "%LMQ%"
SYSTEM_GROUP_PREFIX = "CID_RMQ_SYS_"

ORDER_TOPIC_NAMESPACE = "ORDER_TOPIC_CONFIG"

TOOLS_CONSUMER_GROUP = "TOOLS_CONSUMER"
CLIENT_INNER_PRODUCER_GROUP = "CLIENT_INNER_PRODUCER"

TOPIC_LENGTH_MAX = 127
RETRY_OR_DLQ_TOPIC_LENGTH_MAX = 255
GROUP_LENGTH_MAX = 120

SYSTEM_TOPICS = frozenset(
    {
        DEFAULT_TOPIC,
        SCHEDULE_TOPIC,
        BENCHMARK_TOPIC,
        TRANS_HALF_TOPIC,
        TRACE_TOPIC,
        TRANS_OP_HALF_TOPIC,
        TRANS_CHECK_MAX_TIME_TOPIC,
        SELF_TEST_TOPIC,
        OFFSET_MOVED_EVENT,
    }
)

TOPICS_CLOSED_TO_CLIENTS = frozenset(
    {
        SCHEDULE_TOPIC,
        TRANS_HALF_TOPIC,
        TRANS_OP_HALF_TOPIC,
        TRANS_CHECK_MAX_TIME_TOPIC,
        SELF_TEST_TOPIC,
        OFFSET_MOVED_EVENT,
    }
)

SYSTEM_GROUPS = frozenset(
    {
        TOOLS_CONSUMER_GROUP,
        "FILTERSRV_CONSUMER",
        "SELF_TEST_C_GROUP",
        "CID_ONS-HTTP-PROXY",
        "CID_ONSAPI_PULL",
        "CID_ONSAPI_PERMISSION",
        "CID_ONSAPI_OWNER",
        "CID_RMQ_SYS_TRANS",
    }
)

_ALLOWED = re.compile(r"[%|a-zA-Z0-9_-]+\Z")


def retry_topic(group: str) -> str:
    """The topic through which a consumer group gets its failed messages again."""
    return RETRY_TOPIC_PREFIX + group


def dlq_topic(group: str) -> str:
    """The dead-letter topic of a consumer group."""
    return DLQ_TOPIC_PREFIX + group


def is_retry_topic(topic: str) -> bool:
    """Whether ``topic`` is some group's retry topic."""
    return topic.startswith(RETRY_TOPIC_PREFIX)


def is_dlq_topic(topic: str) -> bool:
    """Whether ``topic`` is some group's dead-letter topic."""
    return topic.startswith(DLQ_TOPIC_PREFIX)


def is_light_queue(name: str) -> bool:
    """Whether ``name`` is that of a light queue, or of a group that reads such."""
    return name.startswith(LIGHT_QUEUE_PREFIX)


def is_system_topic(topic: str) -> bool:
    """Whether ``topic`` belongs to RocketMQ itself; names given by clusters and brokers are not known here."""
    return topic in SYSTEM_TOPICS or topic.startswith(SYSTEM_TOPIC_PREFIX)


def is_closed_to_clients(topic: str) -> bool:
    """Whether only the broker itself may store messages in ``topic``: what it reads there, it believes."""
    return topic in TOPICS_CLOSED_TO_CLIENTS or topic == TIMER_TOPIC or topic.startswith(REVIVE_TOPIC_PREFIX)


def is_system_group(group: str) -> bool:
    """Whether ``group`` belongs to RocketMQ itself."""
    return group in SYSTEM_GROUPS or group.startswith(SYSTEM_GROUP_PREFIX)


def topic_name_problem(topic: str) -> str | None:
    """Why ``topic`` is no valid topic name, in words for the user; ``None`` when it is valid."""
    if not topic or topic.isspace():
        return "The specified topic is blank."
    if not _ALLOWED.match(topic):
        return f"The specified topic[{topic}] contains illegal characters, allowing only %|a-zA-Z0-9_-"
    limit = RETRY_OR_DLQ_TOPIC_LENGTH_MAX if is_retry_topic(topic) or is_dlq_topic(topic) else TOPIC_LENGTH_MAX
    if len(topic) > limit:
        return f"The specified topic[{topic}] is longer than topic max length {limit}."
    return None


def group_name_problem(group: str) -> str | None:
    """Why ``group`` is no valid group name, in words for the user; ``None`` when it is valid."""
    if not group or group.isspace():
        return "The specified group is blank."
    if len(group) > GROUP_LENGTH_MAX:
        return f"The specified group[{group}] is longer than group max length {GROUP_LENGTH_MAX}."
    if not _ALLOWED.match(group):
        return f"The specified group[{group}] contains illegal characters, allowing only %|a-zA-Z0-9_-"
    return None
