"""Options of the broker: Apache's ``broker.conf`` keys, defaults and meaning, and a few of ours.

One file serves broker and store, so each key is offered to both structs. Keys of Apache's that steer its threads, or parts that
this broker does not have, are accepted without effect; keys nobody knows are reported.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import msgspec

from rocketmq_broker import listeners
from rocketmq_broker.failover.settings import FailoverSettings
from rocketmq_broker.foreign_keys import KEYS_WITHOUT_EFFECT, ONLY_VALUES
from rocketmq_broker.ha.settings import ReplicationSettings
from rocketmq_common import permissions
from rocketmq_common.settings import (
    SettingsError,
    bind,
    from_environment,
    parse_assignments,
    parse_java_properties,
)
from rocketmq_store.settings import StoreSettings

LISTEN_PORT = 10911
HTTP_PORT = 8080
REGISTER_PERIOD_MS_MIN = 10_000
REGISTER_PERIOD_MS_MAX = 60_000


class BrokerRole(Enum):
    """How a broker takes part in its group."""

    ASYNC_MASTER = "ASYNC_MASTER"
    SYNC_MASTER = "SYNC_MASTER"
    SLAVE = "SLAVE"


class BrokerSettings(msgspec.Struct, kw_only=True, rename="camel"):
    """Fields are ``broker.conf`` keys in our spelling. Times are ms, sizes bytes. What may change at run time is read at each use.

    ``vip_port``, ``ha_listen_port`` and ``http_port`` left at ``None`` follow from ``listen_port``; port 0 lets the system choose.
    """

    broker_cluster_name: str = "DefaultCluster"
    broker_name: str = msgspec.field(default_factory=lambda: socket.gethostname() or "DEFAULT_BROKER")
    broker_id: int = 0
    broker_role: BrokerRole = BrokerRole.ASYNC_MASTER
    namesrv_addr: str = ""
    listen_port: int = LISTEN_PORT
    bind_address: str = "0.0.0.0"
    broker_ip1: str = msgspec.field(default="", name="brokerIP1")
    broker_ip2: str = msgspec.field(default="", name="brokerIP2")
    # Ours; see `rocketmq_broker.listeners`.
    listener_addresses: str = ""
    listener_host: str = ""
    ha_listen_port: int | None = None
    broker_permission: int = permissions.READ_WRITE
    register_name_server_period: int = 30_000
    register_broker_timeout_mills: int = 24_000
    force_register: bool = True
    server_channel_max_idle_time_seconds: int = 120
    # What clients together can make the broker hold; 0: a quarter of the memory.
    client_memory_max_bytes: int = 0
    region_id: str = "DefaultRegion"
    trace_on: bool = True
    trace_topic_enable: bool = False
    msg_trace_topic_name: str = "RMQ_SYS_TRACE_TOPIC"

    auto_create_topic_enable: bool = True
    default_topic_queue_nums: int = 8
    cluster_topic_enable: bool = True
    broker_topic_enable: bool = True
    auto_create_subscription_group: bool = True
    start_accept_send_request_time_stamp: int = 0
    reject_transaction_message: bool = False
    store_reply_message_enable: bool = True
    transaction_time_out: int = 6000
    transaction_check_max: int = 15
    transaction_check_interval: int = 30_000
    transaction_op_msg_max_size: int = 4096
    long_polling_enable: bool = True
    short_polling_time_mills: int = 1000
    flush_consumer_offset_interval: int = 5000
    consumer_offset_update_version_step: int = 500
    flush_delay_offset_interval: int = 10_000
    delay_offset_update_version_step: int = 200
    use_server_side_reset_offset: bool = True
    slave_read_enable: bool = False
    enable_property_filter: bool = False
    filter_support_retry: bool = False
    lite_pull_message_enable: bool = True
    revive_queue_num: int = 8
    pop_polling_size: int = 1024
    max_pop_polling_size: int = 100_000
    pop_inflight_message_threshold: int = 10_000
    enable_retry_topic_v2: bool = msgspec.field(name="enableRetryTopicV2", default=False)
    retrieve_message_from_pop_retry_topic_v1: bool = msgspec.field(
        name="retrieveMessageFromPopRetryTopicV1", default=True
    )
    pop_from_retry_probability: int = 20
    pop_response_return_actual_retry_topic: bool = False
    default_message_request_mode: str = "PULL"
    default_pop_share_queue_num: int = -1
    timer_wheel_enable: bool = True
    timer_precision_ms: int = 1000
    timer_roll_window_slot: int = 172_800
    timer_max_delay_sec: int = 259_200
    timer_flush_interval_ms: int = 1000
    timer_congest_num_each_slot: int = (1 << 31) - 1
    timer_stop_enqueue: bool = False
    timer_stop_dequeue: bool = False
    recall_message_enable: bool = False
    default_query_max_num: int = 32
    clean_resource_interval: int = 10_000
    wait_time_mills_in_send_queue: int = 200
    broker_fast_failure_enable: bool = True
    delete_topic_with_broker_registration: bool = False
    metrics_label: str = ""
    disk_low_remark: str = ""

    # Ours: Apache has no such keys.
    http_port: int | None = None
    http_bind_address: str = ""
    vip_port: int | None = None
    stop_grace_ms: int = 5000

    @property
    def group(self) -> str:
        """The replicas of one log, as they name themselves to each other."""
        return f"{self.broker_cluster_name}/{self.broker_name}"

    def http_address(self) -> str:
        """Where the HTTP server listens: its own address, or the one of the broker."""
        return self.http_bind_address or self.bind_address


class LoadedSettings(NamedTuple):
    """What a broker starts with. ``file`` is rewritten when the configuration is changed over the wire."""

    broker: BrokerSettings
    store: StoreSettings
    replication: ReplicationSettings
    failover: FailoverSettings
    file: Path | None
    file_values: dict[str, str]
    unknown: list[str]
    notes: list[str]


def load_settings(
    file: Path | None,
    environment: Mapping[str, str],
    assignments: Sequence[str] = (),
    flags: Mapping[str, str] | None = None,
) -> LoadedSettings:
    """Merge file, environment, ``--set`` assignments and flags; check; return both structs.

    Raises SettingsError: one line that names key, value and remedy.
    """
    file_values: dict[str, str] = {}
    if file is not None:
        try:
            file_values = parse_java_properties(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"{file}: cannot be read ({error.strerror}): give an existing file with -c") from error
        except UnicodeDecodeError as error:
            raise SettingsError(f"{file}: is not UTF-8 text: convert it") from error
    overrides = dict(
        from_environment(environment, BrokerSettings, StoreSettings, ReplicationSettings, FailoverSettings)
    )
    if "namesrvAddr" not in overrides and environment.get("NAMESRV_ADDR") and not file_values.get("namesrvAddr"):
        overrides["namesrvAddr"] = environment["NAMESRV_ADDR"]
    overrides.update(parse_assignments(list(assignments)))
    overrides.update(flags or {})
    values = {**file_values, **overrides}
    values.setdefault("storePathRootDir", str(Path(environment.get("HOME") or os.path.expanduser("~")) / "store"))
    source = str(file) if file is not None else "configuration"
    store, not_store = bind(StoreSettings, values, source=source)
    remaining = {key: values[key] for key in values if key in not_store}
    shared = {key: values[key] for key in values if key in BrokerSettings.__struct_encode_fields__}
    broker, unknown = bind(BrokerSettings, {**remaining, **shared}, source=source)
    replication, unknown = bind(ReplicationSettings, {key: values[key] for key in unknown}, source=source)
    failover, unknown = bind(FailoverSettings, {key: values[key] for key in unknown}, source=source)
    unknown = [key for key in unknown if not _is_without_effect(key, values[key], store, source)]
    if failover.is_enabled:
        notes = _prepare_election(broker, replication, failover)
    else:
        notes = _settle_role(broker, explicit="brokerId" in overrides)
    _check(broker, store, source)
    replication.check(source)
    failover.check(source)
    return LoadedSettings(broker, store, replication, failover, file, file_values, unknown, notes)


def _is_without_effect(key: str, value: str, store: StoreSettings, source: str) -> bool:
    allowed = ONLY_VALUES.get(key)
    if allowed is not None:
        if value.strip().lower() not in allowed:
            raise SettingsError(
                f"{source}: {key}={value}: not supported by this broker: remove it or write {allowed[0]}"
            )
        return True
    if key == "storePathCommitLog":
        if Path(value) != Path(store.root) / "commitlog":
            raise SettingsError(
                f"{source}: {key}={value}: the commit log stands in {Path(store.root) / 'commitlog'}: "
                "move it there, or set storePathRootDir"
            )
        return True
    return key in KEYS_WITHOUT_EFFECT or key.startswith(("rocketmq.", "tls.", "com.rocketmq."))


def _settle_role(broker: BrokerSettings, *, explicit: bool) -> list[str]:
    """Make role and id agree. Apache forces a master's id to 0; an id given beside the file (a Pod's ordinal) makes a slave."""
    if broker.broker_role is BrokerRole.SLAVE:
        if broker.broker_id <= 0:
            raise SettingsError(f"brokerId={broker.broker_id}: a slave (brokerRole=SLAVE) needs a brokerId above 0")
        return []
    if broker.broker_id == 0:
        return []
    if broker.broker_id < 0:
        raise SettingsError(f"brokerId={broker.broker_id}: write 0 for a master, a number above 0 for a slave")
    if explicit:
        broker.broker_role = BrokerRole.SLAVE
        return [f"brokerId {broker.broker_id} is above 0: this broker is a slave of {broker.broker_name}"]
    ignored = broker.broker_id
    broker.broker_id = 0
    return [f"brokerRole is {broker.broker_role.value}, so brokerId {ignored} is taken as 0"]


def _prepare_election(
    broker: BrokerSettings, replication: ReplicationSettings, failover: FailoverSettings
) -> list[str]:
    """Every replica begins as a slave; ``brokerId`` was its number in the group, ``brokerRole`` what it will be when elected."""
    if broker.broker_id < 0:
        raise SettingsError(f"brokerId={broker.broker_id}: write the number of this replica in its group, from 0")
    failover.ordinal = broker.broker_id
    if broker.broker_role is not BrokerRole.SLAVE:
        failover.is_sync = broker.broker_role is BrokerRole.SYNC_MASTER
    broker.broker_role = BrokerRole.SLAVE
    # Id 0 is the master's, whoever that is.
    broker.broker_id = broker.broker_id or max(replication.total_replicas, 1)
    # A master that was elected is looked for at once.
    replication.ha_reconnect_interval = min(replication.ha_reconnect_interval, failover.lease_retry_period)
    return [
        f"failoverMode is {failover.failover_mode.value}: the lease decides whether replica {failover.ordinal} is master"
    ]


def _check(broker: BrokerSettings, store: StoreSettings, source: str) -> None:
    listeners.check(broker.listener_addresses)
    ports = {
        "listenPort": broker.listen_port,
        "httpPort": broker.http_port,
        "vipPort": broker.vip_port,
        "haListenPort": broker.ha_listen_port,
    }
    for key, port in ports.items():
        if port is not None and not 0 <= port <= 65535:
            raise SettingsError(f"{source}: {key}={port}: write a port from 0 to 65535")
    numbers = {
        "brokerPermission": (broker.broker_permission, 0, 15),
        "defaultTopicQueueNums": (broker.default_topic_queue_nums, 1, 1024),
        "flushConsumerOffsetInterval": (broker.flush_consumer_offset_interval, 100, 3_600_000),
        "flushDelayOffsetInterval": (broker.flush_delay_offset_interval, 100, 3_600_000),
        "transactionTimeOut": (broker.transaction_time_out, 0, 86_400_000),
        "transactionCheckMax": (broker.transaction_check_max, 0, 1_000_000),
        "transactionCheckInterval": (broker.transaction_check_interval, 100, 86_400_000),
        "transactionOpMsgMaxSize": (broker.transaction_op_msg_max_size, 32, 1 << 20),
        "timerPrecisionMs": (broker.timer_precision_ms, 100, 1000),
        "timerMaxDelaySec": (broker.timer_max_delay_sec, 1, 10 * 366 * 86_400),
        "timerFlushIntervalMs": (broker.timer_flush_interval_ms, 10, 3_600_000),
        "timerCongestNumEachSlot": (broker.timer_congest_num_each_slot, 1, (1 << 31) - 1),
        "popPollingSize": (broker.pop_polling_size, 1, 100_000),
        "maxPopPollingSize": (broker.max_pop_polling_size, 1, 1_000_000),
        "popInflightMessageThreshold": (broker.pop_inflight_message_threshold, 32, 1_000_000),
        "popFromRetryProbability": (broker.pop_from_retry_probability, 0, 100),
        "serverChannelMaxIdleTimeSeconds": (broker.server_channel_max_idle_time_seconds, 10, 86_400),
        "clientMemoryMaxBytes": (broker.client_memory_max_bytes, 0, 1 << 40),
        "cleanResourceInterval": (broker.clean_resource_interval, 100, 3_600_000),
        "mappedFileSizeCommitLog": (store.commit_log_segment_size, 1 << 14, 1 << 31),
        "mappedFileSizeConsumeQueue": (store.consume_queue_segment_size, 20, 1 << 31),
        "maxLmqConsumeQueueNum": (store.light_queue_count_max, 1, 1_000_000),
        "maxMessageSize": (store.message_size_max, 1, 128 << 20),
        "maxHashSlotNum": (store.index_slot_count, 1, 1 << 30),
        "maxIndexNum": (store.index_entry_count, 2, 1 << 30),
        "mappedFileSizeTimerLog": (store.timer_log_segment_size, 1 << 12, 1 << 31),
        "fileReservedTime": (store.file_reserved_hours, 0, 24 * 3650),
        "diskMaxUsedSpaceRatio": (store.disk_max_used_percent, 1, 100),
    }
    for key, (value, low, high) in numbers.items():
        if not low <= value <= high:
            raise SettingsError(f"{source}: {key}={value}: write a number from {low} to {high}")
    if broker.default_message_request_mode not in ("PULL", "POP"):
        raise SettingsError(
            f"{source}: defaultMessageRequestMode={broker.default_message_request_mode}: write PULL or POP"
        )
    for key, text in {"brokerName": broker.broker_name, "brokerClusterName": broker.broker_cluster_name}.items():
        if not text or any(character.isspace() or character in "/;," for character in text):
            raise SettingsError(f"{source}: {key}={text!r}: write a name without spaces, '/', ';' and ','")
    try:
        store.delay_level_ms()
    except (ValueError, IndexError) as error:
        raise SettingsError(f"{source}: {error}") from error
