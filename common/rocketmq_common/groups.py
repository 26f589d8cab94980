"""Subscription group configuration in Java's JSON shape (SubscriptionGroupConfig)."""

from __future__ import annotations

from typing import Any

import msgspec

RETRY_TIMES_MAX = 16


class SubscriptionGroupConfig(msgspec.Struct, rename="camel", kw_only=True):
    """What a broker knows of one consumer group; times are minutes where the name says so."""

    group_name: str
    consume_enable: bool = True
    consume_from_min_enable: bool = True
    consume_broadcast_enable: bool = True
    consume_message_orderly: bool = False
    retry_queue_nums: int = 1
    retry_max_times: int = RETRY_TIMES_MAX
    group_retry_policy: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "CUSTOMIZED"})
    broker_id: int = 0
    which_broker_when_consume_slowly: int = 1
    notify_consumer_ids_changed_enable: bool = True
    group_sys_flag: int = 0
    consume_timeout_minute: int = 15
    subscription_data_set: list[dict[str, Any]] | None = None
    attributes: dict[str, str] = {}


def group_config_from(raw: dict[str, Any], group: str | None = None) -> SubscriptionGroupConfig:
    """Build a config from parsed JSON; ``group`` fills in a missing name. Raises msgspec.ValidationError naming the field."""
    if group is not None and not raw.get("groupName"):
        raw = {**raw, "groupName": group}
    return msgspec.convert(
        {key: value for key, value in raw.items() if value is not None}, SubscriptionGroupConfig, strict=False
    )
