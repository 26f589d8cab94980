"""From a RocketMQTopic or RocketMQConsumerGroup to the configuration that brokers should have: pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rocketmq_common import permissions
from rocketmq_common.groups import SubscriptionGroupConfig
from rocketmq_common.topics import ATTRIBUTE_MESSAGE_TYPE

Fields = Mapping[str, Any]

PERMISSIONS = {
    "ReadWrite": permissions.READ_WRITE,
    "ReadOnly": permissions.READ,
    "WriteOnly": permissions.WRITE,
}


def topic_name(document: Fields) -> str:
    """RocketMQ's name of a RocketMQTopic."""
    return str(document["spec"].get("topicName") or document["metadata"]["name"])


def group_name(document: Fields) -> str:
    """RocketMQ's name of a RocketMQConsumerGroup."""
    return str(document["spec"].get("groupName") or document["metadata"]["name"])


def topic_config(document: Fields, live: Fields | None, backlog: int | None) -> dict[str, Any]:
    """What one master should have next.

    Fewer queues come in two steps: producers leave the last ones at once, consumers keep them until ``backlog``, what is left in
    them, is 0 (None: not known).
    """
    spec = document["spec"]
    read = int(spec.get("readQueues", 8))
    if live is not None and int(live["readQueueNums"]) > read and backlog != 0:
        read = int(live["readQueueNums"])
    kind = spec.get("messageType", "Unspecified")
    attributes = {ATTRIBUTE_MESSAGE_TYPE: kind.upper()} if kind != "Unspecified" else {}
    return {
        "topicName": topic_name(document),
        "readQueueNums": read,
        "writeQueueNums": int(spec.get("writeQueues", 8)),
        "perm": PERMISSIONS[spec.get("perm", "ReadWrite")],
        "order": bool(spec.get("order", False)),
        "attributes": {**attributes, **(spec.get("attributes") or {})},
    }


def group_config(document: Fields, live: Fields | None) -> dict[str, Any]:
    """What one master should have; fields that the resource does not know stay as they are."""
    spec = document["spec"]
    defaults = SubscriptionGroupConfig(group_name=group_name(document))
    return {
        **(live or {}),
        "groupName": defaults.group_name,
        "consumeEnable": bool(spec.get("consumeEnable", True)),
        "consumeBroadcastEnable": bool(spec.get("broadcastEnable", True)),
        "consumeMessageOrderly": bool(spec.get("orderly", False)),
        "retryQueueNums": int(spec.get("retryQueueNums", defaults.retry_queue_nums)),
        "retryMaxTimes": int(spec.get("retryMaxTimes", defaults.retry_max_times)),
    }


def is_as_wanted(live: Fields | None, wanted: Fields) -> bool:
    """Whether a live configuration has every wanted value; attributes of others may stand beside ours."""
    if live is None:
        return False
    for key, value in wanted.items():
        if key == "attributes":
            if not value.items() <= (live.get("attributes") or {}).items():
                return False
        elif live.get(key) != value:
            return False
    return True
