"""The tags code of a queue entry, which lets a read skip messages without looking at them (storage.md 2.2)."""

from __future__ import annotations

from rocketmq_common.hashing import java_hash

_CACHE_SIZE_MAX = 4096
_codes: dict[bytes, int] = {}


def find_value(properties: bytes, name: bytes) -> bytes | None:
    """The value of property ``name`` (given with its 0x01) in encoded properties; ``None`` when absent or empty."""
    if properties.startswith(name):
        start = len(name)
    else:
        start = properties.find(b"\x02" + name)
        if start < 0:
            return None
        start += len(name) + 1
    end = properties.find(b"\x02", start)
    value = properties[start:] if end < 0 else properties[start:end]
    return value or None


def tags_code(tags: bytes) -> int:
    """Java's hash of the TAGS property, sign-extended."""
    code = _codes.get(tags)
    if code is None:
        if len(_codes) >= _CACHE_SIZE_MAX:
            _codes.clear()
        code = _codes[tags] = java_hash(tags.decode("utf-8", "replace"))
    return code


def entry_code(properties: bytes) -> int:
    """The tags code of a message with these properties; 0 without tags."""
    # Written out for the append: this is called for every message.
    start = properties.find(b"TAGS\x01")
    if start < 0:
        return 0
    if start and properties[start - 1] != 2:
        tags = find_value(properties, b"TAGS\x01")
    else:
        end = properties.find(b"\x02", start)
        tags = properties[start + 5 : end] if end >= 0 else properties[start + 5 :]
    if not tags:
        return 0
    code = _codes.get(tags)
    return tags_code(tags) if code is None else code


def deliver_time_code(properties: bytes, store_timestamp_ms: int, levels_ms: list[int]) -> int:
    """For the schedule topic: when the message is due, in ms; falls back to the tags code without a DELAY level.

    A level beyond the last counts as the last (ScheduleMessageService.computeDeliverTimestamp).
    """
    level_text = find_value(properties, b"DELAY\x01")
    if level_text is None or not level_text.isdigit() or int(level_text) <= 0:
        return entry_code(properties)
    level = min(int(level_text), len(levels_ms))
    return store_timestamp_ms + (levels_ms[level - 1] if level else 1000)
