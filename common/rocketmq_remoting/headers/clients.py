"""Client management: heartbeat, unregistration, member lists, notifications."""

from __future__ import annotations

from msgspec import field

from rocketmq_remoting.commands import Header


class UnregisterClientRequestHeader(Header):
    """Code 35."""

    client_id: str = field(name="clientID")
    producer_group: str | None = None
    consumer_group: str | None = None


class ConsumerGroupHeader(Header):
    """Codes 38, 40 and 203: one consumer group."""

    consumer_group: str


class ProducerGroupHeader(Header):
    """Code 204: one producer group."""

    producer_group: str


class GetConsumerRunningInfoRequestHeader(Header):
    """Code 307."""

    consumer_group: str
    client_id: str
    jstack_enable: bool = False


class ConsumeMessageDirectlyRequestHeader(Header):
    """Code 309."""

    consumer_group: str
    client_id: str | None = None
    msg_id: str | None = None
    broker_name: str | None = None
    topic: str | None = None
    topic_sys_flag: int | None = None
    group_sys_flag: int | None = None


class ResetOffsetRequestHeader(Header):
    """Codes 220 and 222. ``timestamp`` ms, -1 is latest; ``offset`` and ``queue_id`` -1 mean not given."""

    topic: str
    group: str
    timestamp: int
    is_force: bool = False
    queue_id: int = -1
    offset: int | None = None


class GetConsumerStatusRequestHeader(Header):
    """Codes 221 and 223."""

    topic: str
    group: str
    client_addr: str | None = None


class CheckTransactionStateRequestHeader(Header):
    """Code 39."""

    tran_state_table_offset: int
    commit_log_offset: int
    topic: str | None = None
    msg_id: str | None = None
    transaction_id: str | None = None
    offset_msg_id: str | None = None
    broker_name: str | None = field(name="bname", default=None)
