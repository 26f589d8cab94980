"""Topic configuration and its version, in Java's JSON shapes (TopicConfig, DataVersion)."""

from __future__ import annotations

from typing import Any

import msgspec

from rocketmq_common import permissions

FILTER_SINGLE_TAG = "SINGLE_TAG"
FILTER_MULTI_TAG = "MULTI_TAG"

ATTRIBUTE_QUEUE_TYPE = "queue.type"
ATTRIBUTE_CLEANUP_POLICY = "cleanup.policy"
ATTRIBUTE_MESSAGE_TYPE = "message.type"
MESSAGE_TYPE_PRIORITY = "PRIORITY"

DEFAULT_QUEUE_NUMS = 16

# Bits of ``topic_sys_flag``: made by a producer in unit mode; retry topic of a consumer in unit mode (TopicSysFlag).
FLAG_UNIT = 1
FLAG_UNIT_SUB = 2


class DataVersion(msgspec.Struct, rename="camel", eq=True):
    """Version of a table: compared by state version, then counter, then timestamp (ms)."""

    counter: int = 0
    state_version: int = 0
    timestamp: int = 0

    def next(self, now_ms: int, state_version: int | None = None) -> DataVersion:
        """The version after one more change at ``now_ms``."""
        return DataVersion(
            counter=self.counter + 1,
            state_version=self.state_version if state_version is None else state_version,
            timestamp=now_ms,
        )

    def order(self) -> tuple[int, int, int]:
        """Sort key: a newer version is greater."""
        return (self.state_version, self.counter, self.timestamp)


class TopicConfig(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=False):
    """What a broker knows of one topic. ``perm`` is a bit set of `rocketmq_common.permissions`."""

    topic_name: str
    read_queue_nums: int = DEFAULT_QUEUE_NUMS
    write_queue_nums: int = DEFAULT_QUEUE_NUMS
    perm: int = permissions.READ_WRITE
    topic_filter_type: str = FILTER_SINGLE_TAG
    topic_sys_flag: int = 0
    order: bool = False
    attributes: dict[str, str] = {}

    @property
    def queue_nums_max(self) -> int:
        """Queues that exist for readers or writers."""
        return max(self.read_queue_nums, self.write_queue_nums)


def topic_config_from(raw: dict[str, Any], topic: str | None = None) -> TopicConfig:
    """Build a config from parsed JSON; ``topic`` fills in a missing name. Raises msgspec.ValidationError naming the field."""
    if topic is not None and not raw.get("topicName"):
        raw = {**raw, "topicName": topic}
    return msgspec.convert({key: value for key, value in raw.items() if value is not None}, TopicConfig, strict=False)
