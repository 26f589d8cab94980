"""Taking a timer message back (370)."""

from __future__ import annotations

from msgspec import field

from rocketmq_remoting.commands import Header


class RecallMessageRequestHeader(Header):
    """Code 370. ``recall_handle`` came with the answer to the send."""

    topic: str
    recall_handle: str
    producer_group: str | None = None
    broker_name: str | None = field(name="bname", default=None)


class RecallMessageResponseHeader(Header):
    """Answer: the unique key of the message that was taken back."""

    msg_id: str
