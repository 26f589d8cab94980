"""Sending: SendMessageRequestHeader and its short-named V2, send-back, and their answers."""

from __future__ import annotations

from msgspec import field

from rocketmq_remoting.commands import Header


class SendMessageRequestHeader(Header):
    """Codes 310 and 320 (one-letter names). ``born_timestamp`` is ms; ``queue_id`` < 0 lets the broker choose."""

    producer_group: str = field(name="a")
    topic: str = field(name="b")
    default_topic: str = field(name="c")
    default_topic_queue_nums: int = field(name="d")
    queue_id: int = field(name="e")
    sys_flag: int = field(name="f")
    born_timestamp: int = field(name="g")
    flag: int = field(name="h")
    properties: str = field(name="i", default="")
    reconsume_times: int = field(name="j", default=0)
    unit_mode: bool = field(name="k", default=False)
    max_reconsume_times: int | None = field(name="l", default=None)
    batch: bool = field(name="m", default=False)
    broker_name: str | None = field(name="n", default=None)


class SendMessageRequestHeaderV1(Header):
    """Code 10 and 324: the same fields with their long names."""

    producer_group: str
    topic: str
    default_topic: str
    default_topic_queue_nums: int
    queue_id: int
    sys_flag: int
    born_timestamp: int
    flag: int
    properties: str = ""
    reconsume_times: int = 0
    unit_mode: bool = False
    max_reconsume_times: int | None = None
    batch: bool = False
    broker_name: str | None = field(name="bname", default=None)


class SendMessageResponseHeader(Header):
    """Answer to a send. ``msg_id`` is the offset id, comma-joined for a batch; ``queue_offset`` is that of the first."""

    msg_id: str
    queue_id: int
    queue_offset: int
    transaction_id: str | None = None
    batch_uniq_id: str | None = None
    recall_handle: str | None = None
    region_id: str | None = field(name="MSG_REGION", default=None)
    # "false" asks clients not to trace the message.
    trace_on: str | None = field(name="TRACE_ON", default=None)


class ConsumerSendMsgBackRequestHeader(Header):
    """Code 36. ``offset`` is the commit log offset; ``delay_level`` 0 lets the broker choose, < 0 means dead letter."""

    offset: int
    group: str
    delay_level: int
    origin_msg_id: str | None = None
    origin_topic: str | None = None
    unit_mode: bool = False
    max_reconsume_times: int | None = None
