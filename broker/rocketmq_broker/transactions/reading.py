"""Reading half messages, whose newest copy may not be visible yet."""

from __future__ import annotations

from typing import Final

from rocketmq_broker.transactions.half_messages import Half
from rocketmq_common import names
from rocketmq_common.records import RecordError, StoredMessage, decode_message
from rocketmq_store.store import MessageStore

# A record is a body of `maxMessageSize` and at most this much around it.
_AROUND_BODY_SIZE: Final = 1 << 17


def read_half(store: MessageStore, half: Half) -> StoredMessage | None:
    """The newest copy of an undecided message; ``None`` when it is gone from the log."""
    record = store.message_at(half.physical_offset)
    if record is None:
        # With SYNC_FLUSH or replicas: a fast producer's end may come before the copy is visible. Order in the log makes it safe.
        record = store.commit_log_slice(half.physical_offset, store.settings.message_size_max + _AROUND_BODY_SIZE)
    message = None if record is None else _decoded(record)
    if message is None or message.topic != names.TRANS_HALF_TOPIC or message.queue_offset != half.queue_offset:
        return None
    return message


def read_visible(store: MessageStore, physical_offset: int) -> StoredMessage | None:
    """The record at a log offset; ``None`` when none begins there."""
    record = store.message_at(physical_offset)
    return None if record is None else _decoded(record)


def _decoded(record: memoryview) -> StoredMessage | None:
    try:
        return decode_message(record)
    except RecordError:
        return None
