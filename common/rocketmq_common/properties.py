"""The property string of a message: ``name 0x01 value 0x02`` repeated (MessageDecoder, MessageConst).

Clients up to 4.9 leave out the last 0x02 and 5.x clients write it; whoever appends a property must therefore go through
`append_property`, else the last value of an old client's string swallows the new name.
"""

from __future__ import annotations

from collections.abc import Mapping

NAME_VALUE_SEPARATOR = "\x01"
PROPERTY_SEPARATOR = "\x02"
PROPERTIES_SIZE_MAX = 32767

PROPERTY_KEYS = "KEYS"
PROPERTY_TAGS = "TAGS"
PROPERTY_WAIT_STORE_OK = "WAIT"
PROPERTY_DELAY_LEVEL = "DELAY"
PROPERTY_RETRY_TOPIC = "RETRY_TOPIC"
PROPERTY_REAL_TOPIC = "REAL_TOPIC"
PROPERTY_REAL_QUEUE_ID = "REAL_QID"
PROPERTY_TRANSACTION_PREPARED = "TRAN_MSG"
PROPERTY_PRODUCER_GROUP = "PGROUP"
PROPERTY_MIN_OFFSET = "MIN_OFFSET"
PROPERTY_MAX_OFFSET = "MAX_OFFSET"
PROPERTY_ORIGIN_MESSAGE_ID = "ORIGIN_MESSAGE_ID"
PROPERTY_RECONSUME_TIME = "RECONSUME_TIME"
PROPERTY_MAX_RECONSUME_TIMES = "MAX_RECONSUME_TIMES"
PROPERTY_CONSUME_START_TIME = "CONSUME_START_TIME"
PROPERTY_MSG_REGION = "MSG_REGION"
PROPERTY_TRACE_SWITCH = "TRACE_ON"
PROPERTY_UNIQUE_KEY = "UNIQ_KEY"
PROPERTY_CLUSTER = "CLUSTER"
PROPERTY_INNER_NUM = "INNER_NUM"
PROPERTY_INNER_BASE = "INNER_BASE"
PROPERTY_INSTANCE_ID = "INSTANCE_ID"
PROPERTY_CORRELATION_ID = "CORRELATION_ID"
PROPERTY_REPLY_TO_CLIENT = "REPLY_TO_CLIENT"
PROPERTY_MESSAGE_TYPE = "MSG_TYPE"
PROPERTY_TTL = "TTL"
PROPERTY_POP_CK = "POP_CK"
PROPERTY_FIRST_POP_TIME = "1ST_POP_TIME"
PROPERTY_SHARDING_KEY = "__SHARDINGKEY"
PROPERTY_TIMER_DELIVER_MS = "TIMER_DELIVER_MS"
PROPERTY_TIMER_DELAY_MS = "TIMER_DELAY_MS"
PROPERTY_TIMER_DELAY_SEC = "TIMER_DELAY_SEC"
PROPERTY_TIMER_OUT_MS = "TIMER_OUT_MS"
PROPERTY_TIMER_ENQUEUE_MS = "TIMER_ENQUEUE_MS"
PROPERTY_TIMER_DEQUEUE_MS = "TIMER_DEQUEUE_MS"
PROPERTY_TIMER_ROLL_TIMES = "TIMER_ROLL_TIMES"
PROPERTY_TIMER_DEL_UNIQUE_KEY = "TIMER_DEL_UNIQKEY"
PROPERTY_BORN_TIMESTAMP = "BORN_TIMESTAMP"
PROPERTY_TRANSACTION_ID = "__transactionId__"
PROPERTY_DLQ_ORIGIN_TOPIC = "DLQ_ORIGIN_TOPIC"
PROPERTY_DLQ_ORIGIN_MESSAGE_ID = "DLQ_ORIGIN_MESSAGE_ID"
PROPERTY_CRC32 = "__CRC32#"
PROPERTY_PRIORITY = "_SYS_MSG_PRIORITY_"
PROPERTY_TRANSIENT_PREFIX = "__RMQ.TRANSIENT."
PROPERTY_INNER_MULTI_DISPATCH = "INNER_MULTI_DISPATCH"
PROPERTY_INNER_MULTI_QUEUE_OFFSET = "INNER_MULTI_QUEUE_OFFSET"

KEY_SEPARATOR = " "

# Names that a client library sets itself; an application that sets them gets an error (MessageConst.STRING_HASH_SET).
RESERVED_PROPERTY_NAMES = frozenset(
    {
        PROPERTY_KEYS,
        PROPERTY_TAGS,
        PROPERTY_WAIT_STORE_OK,
        PROPERTY_DELAY_LEVEL,
        PROPERTY_RETRY_TOPIC,
        PROPERTY_REAL_TOPIC,
        PROPERTY_REAL_QUEUE_ID,
        PROPERTY_TRANSACTION_PREPARED,
        PROPERTY_PRODUCER_GROUP,
        PROPERTY_MIN_OFFSET,
        PROPERTY_MAX_OFFSET,
        PROPERTY_ORIGIN_MESSAGE_ID,
        PROPERTY_RECONSUME_TIME,
        PROPERTY_MAX_RECONSUME_TIMES,
        PROPERTY_CONSUME_START_TIME,
        PROPERTY_MSG_REGION,
        PROPERTY_TRACE_SWITCH,
        PROPERTY_UNIQUE_KEY,
        PROPERTY_CLUSTER,
        PROPERTY_INNER_NUM,
        PROPERTY_INNER_BASE,
        PROPERTY_INSTANCE_ID,
        PROPERTY_POP_CK,
        PROPERTY_FIRST_POP_TIME,
        PROPERTY_CRC32,
    }
)


def encode_properties(properties: Mapping[str, str]) -> str:
    """Join ``properties`` in their order; every pair ends with 0x02.

    Raises ValueError naming the property when a name or value holds a separator, for that would corrupt its neighbours.
    """
    parts: list[str] = []
    for name, value in properties.items():
        if "\x01" in name or "\x02" in name or "\x01" in value or "\x02" in value:
            raise ValueError(f"property {name!r} holds a byte 0x01 or 0x02, which separates properties on the wire")
        parts.append(f"{name}\x01{value}\x02")
    return "".join(parts)


def parse_properties(text: str) -> dict[str, str]:
    """Split a property string as Java does: short pairs, empty names and empty values vanish."""
    properties: dict[str, str] = {}
    for pair in text.split("\x02"):
        if len(pair) < 3:
            continue
        name, separator, value = pair.partition("\x01")
        if separator and name and value:
            properties[name] = value
    return properties


def find_property(text: str, name: str) -> str | None:
    """The value of one property without building the whole map; ``None`` when absent or empty."""
    needle = name + "\x01"
    start = text.find(needle)
    while start > 0 and text[start - 1] != "\x02":
        start = text.find(needle, start + 1)
    if start < 0:
        return None
    start += len(needle)
    end = text.find("\x02", start)
    value = text[start:] if end < 0 else text[start:end]
    return value or None


def append_property(text: str, name: str, value: str) -> str:
    """Add a pair at the end, with the separator that an older client left out."""
    if text and text[-1] != "\x02":
        return f"{text}\x02{name}\x01{value}\x02"
    return f"{text}{name}\x01{value}\x02"


def remove_property(text: str, name: str) -> str:
    """Cut every pair called ``name``; the others keep their order and bytes."""
    needle = name + "\x01"
    if needle not in text:
        return text
    kept = [pair for pair in text.split("\x02") if pair and not pair.startswith(needle)]
    return "\x02".join(kept) + "\x02" if kept else ""


def split_keys(keys: str) -> list[str]:
    """The single index keys of a KEYS property."""
    return [key for key in keys.split(KEY_SEPARATOR) if key]
