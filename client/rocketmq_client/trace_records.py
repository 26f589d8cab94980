"""Records of the message trace topic, as Java's tools read them (TraceDataEncoder): 0x01 between fields, 0x02 after each record.

    Pub             time region group topic msgId tags keys storeHost bodyLength costMs msgType offsetMsgId success
    SubBefore       time region group requestId msgId retryTimes keys
    SubAfter        requestId msgId costMs success keys contextCode time group
    EndTransaction  time region group topic msgId tags keys storeHost msgType transactionId state fromCheck

Times are ms. A record of consumption appears twice, before and after the listener, joined by its request id.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

FIELD_SEPARATOR = "\x01"
RECORD_SEPARATOR = "\x02"


class MessageKind(IntEnum):
    """Java's MessageType, by ordinal."""

    NORMAL = 0
    TRANSACTION_HALF = 1
    TRANSACTION_COMMIT = 2
    DELAY = 3
    ORDER = 4


class ContextCode(IntEnum):
    """How a listener ended: Java's ConsumeReturnType, by ordinal."""

    SUCCESS = 0
    TIME_OUT = 1
    EXCEPTION = 2
    RETURN_NULL = 3
    FAILED = 4


class TraceRecord(NamedTuple):
    """An encoded record, and the keys under which tools look it up."""

    text: str
    keys: tuple[str, ...]


class Traced(NamedTuple):
    """What a record says of its message."""

    topic: str
    message_id: str
    tag: str
    keys: tuple[str, ...]
    store_host: str
    kind: MessageKind = MessageKind.NORMAL


def published(
    message: Traced,
    *,
    time_ms: int,
    region: str,
    group: str,
    body_size: int,
    cost_ms: int,
    offset_message_id: str,
    is_success: bool,
) -> TraceRecord:
    """One send."""
    return _record(
        message, "Pub", time_ms, region, group, message.topic, message.message_id, message.tag, " ".join(message.keys),
        message.store_host, body_size, cost_ms, int(message.kind), offset_message_id, _text(is_success),
    )  # fmt: skip


def about_to_consume(
    message: Traced, *, time_ms: int, region: str, group: str, request_id: str, retry_times: int
) -> TraceRecord:
    """The listener is about to be called."""
    return _record(
        message, "SubBefore", time_ms, region, group, request_id, message.message_id, retry_times,
        " ".join(message.keys),
    )  # fmt: skip


def consumed(
    message: Traced, *, time_ms: int, group: str, request_id: str, cost_ms: int, code: ContextCode
) -> TraceRecord:
    """The listener returned."""
    return _record(
        message, "SubAfter", request_id, message.message_id, cost_ms, _text(code is ContextCode.SUCCESS),
        " ".join(message.keys), int(code), time_ms, group,
    )  # fmt: skip


def transaction_ended(
    message: Traced, *, time_ms: int, region: str, group: str, transaction_id: str, state: str, is_checked: bool
) -> TraceRecord:
    """A producer told how a transaction ended; ``state`` is Java's name of it."""
    return _record(
        message, "EndTransaction", time_ms, region, group, message.topic, message.message_id, message.tag,
        " ".join(message.keys), message.store_host, int(message.kind), transaction_id, state, _text(is_checked),
    )  # fmt: skip


def _record(message: Traced, *fields: object) -> TraceRecord:
    # A separator inside a value would shift everything behind it.
    texts = [str(field).replace(FIELD_SEPARATOR, " ").replace(RECORD_SEPARATOR, " ") for field in fields]
    return TraceRecord(FIELD_SEPARATOR.join(texts) + RECORD_SEPARATOR, (message.message_id, *message.keys))


def _text(value: bool) -> str:
    return "true" if value else "false"
