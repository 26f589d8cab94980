"""POP: codes 200050 to 200055 and 200151 (PopMessageRequestHeader, AckMessageRequestHeader, … of apache/rocketmq 5.5).

Times are ms, offsets queue offsets. ``queue_id`` -1 means any queue of the topic. ``extra_info`` is a receipt handle, see
`rocketmq_remoting.pop_handles`.
"""

from __future__ import annotations

import msgspec

from rocketmq_remoting.bodies import Body
from rocketmq_remoting.commands import Header


class PopMessageRequestHeader(Header):
    """Code 200050. ``init_mode`` says where a new group begins: 0 at the first message, 1 at the last.

    ``attempt_id`` names an attempt of an ordered pop: the same one again gets the same messages.
    """

    consumer_group: str
    topic: str
    queue_id: int
    max_msg_nums: int
    invisible_time: int
    poll_time: int
    init_mode: int = 0
    born_time: int = 0
    exp_type: str | None = None
    exp: str | None = None
    order: bool = False
    attempt_id: str | None = None


class PopMessageResponseHeader(Header):
    """Answer to pop and peek; the three ``…_info`` texts are described in `rocketmq_remoting.pop_handles`."""

    pop_time: int = 0
    invisible_time: int = 0
    revive_qid: int = 0
    rest_num: int = 0
    start_offset_info: str | None = None
    msg_offset_info: str | None = None
    order_count_info: str | None = None


class AckMessageRequestHeader(Header):
    """Code 200051. ``topic`` is the one the message is stored in: for a retried message its retry topic."""

    consumer_group: str
    topic: str
    queue_id: int
    extra_info: str
    offset: int


class ChangeInvisibleTimeRequestHeader(Header):
    """Code 200053. ``invisible_time`` counts from now; 0 gives the message back at once."""

    consumer_group: str
    topic: str
    queue_id: int
    extra_info: str
    offset: int
    invisible_time: int


class ChangeInvisibleTimeResponseHeader(Header):
    """What the new handle is made of."""

    pop_time: int
    invisible_time: int
    revive_qid: int


class PeekMessageRequestHeader(Header):
    """Code 200052."""

    consumer_group: str
    topic: str
    queue_id: int
    max_msg_nums: int


class NotificationRequestHeader(Header):
    """Code 200054: is there anything to pop? Waits for it like a pop."""

    consumer_group: str
    topic: str
    queue_id: int
    poll_time: int
    born_time: int = 0
    order: bool = False
    attempt_id: str | None = None
    exp_type: str | None = None
    exp: str | None = None


class NotificationResponseHeader(Header):
    """Whether there is something to pop, and whether too many wait already."""

    has_msg: bool
    polling_full: bool


class PollingInfoRequestHeader(Header):
    """Code 200055."""

    consumer_group: str
    topic: str
    queue_id: int


class PollingInfoResponseHeader(Header):
    """How many pops of the group wait for this queue."""

    polling_num: int


class BatchAck(Body):
    """Acknowledgements of messages that one pop took from one queue. Java writes the short names and reads the long ones, too.

    ``bit_set`` is base64 of a little-endian bit set; bit i stands for queue offset ``start_offset`` + i. ``topic`` is the
    original one; ``retry`` tells which of its topics the messages were in ("0" itself, "1" and "2" the retry topics).
    """

    consumer_group: str = msgspec.field(name="c")
    topic: str = msgspec.field(name="t")
    start_offset: int = msgspec.field(name="so")
    queue_id: int = msgspec.field(name="q")
    pop_time: int = msgspec.field(name="pt")
    bit_set: str = msgspec.field(name="b")
    retry: str = msgspec.field(name="r", default="0")
    revive_queue_id: int = msgspec.field(name="rq", default=0)
    invisible_time: int = msgspec.field(name="it", default=0)


class BatchAckMessageRequestBody(Body):
    """Body of 200151."""

    broker_name: str | None = None
    acks: list[BatchAck] = msgspec.field(default_factory=list)
