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


class TraceEvent(NamedTuple):
    """A record read back. ``kind`` is Java's name of it; times and costs are ms; fields that a kind lacks are empty or 0."""

    kind: str
    time_ms: int
    group: str
    topic: str
    message_id: str
    tag: str
    keys: str
    host: str
    cost_ms: int
    is_success: bool
    retry_times: int
    request_id: str
    detail: str


# Names of the fields behind the kind, in the order of each record; unknown kinds and short records are left out.
_FIELDS = {
    "Pub": ("time", "region", "group", "topic", "id", "tags", "keys", "host", "size", "cost", "type", "offset_id", "ok"),
    "SubBefore": ("time", "region", "group", "request", "id", "retries", "keys"),
    "SubAfter": ("request", "id", "cost", "ok", "keys", "code", "time", "group"),
    "EndTransaction": (
        "time", "region", "group", "topic", "id", "tags", "keys", "host", "type", "transaction", "state", "checked",
    ),
    "Recall": ("time", "region", "group", "topic", "id", "ok"),
}  # fmt: skip
# What is needed of a record; older clients leave out the last fields of SubAfter.
_NEEDED = {"SubAfter": 5, "Pub": 10}


def parse_records(text: str) -> list[TraceEvent]:
    """The records in the body of a trace message."""
    result = []
    for line in text.split(RECORD_SEPARATOR):
        kind, *values = line.split(FIELD_SEPARATOR)
        names = _FIELDS.get(kind)
        if names is None or len(values) < _NEEDED.get(kind, len(names)):
            continue
        found = dict(zip(names, values, strict=False))
        code = int(found["code"]) if found.get("code", "").isdigit() else 0
        result.append(
            TraceEvent(
                kind,
                _number(found.get("time")),
                found.get("group", ""),
                found.get("topic", ""),
                found["id"],
                found.get("tags", ""),
                found.get("keys", ""),
                found.get("host", ""),
                _number(found.get("cost")),
                found.get("ok", "true") == "true",
                _number(found.get("retries")),
                found.get("request", ""),
                found.get("state", "") or (ContextCode(code).name if kind == "SubAfter" and code <= 4 else ""),
            )
        )
    return result


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
