"""The body of a batch send (SEND_BATCH_MESSAGE): messages of one topic and queue, one after another.

Entry: total size i32 (itself included), magic i32 = 0, body CRC i32 = 0, flag i32, body length i32, body,
properties length i16, properties (apache/rocketmq MessageDecoder.encodeMessage).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

_HEAD = struct.Struct(">iiiii")
_SHORT = struct.Struct(">H")
ENTRY_SIZE_MIN = _HEAD.size + _SHORT.size


class BatchError(ValueError):
    """A batch body that is malformed; the message says at which byte."""


class BatchEntry(NamedTuple):
    """One message of a batch, properties still in their wire form."""

    flag: int
    body: bytes
    properties: bytes


def encode_batch(entries: Iterable[BatchEntry]) -> bytes:
    """The batch body of ``entries``."""
    parts: list[bytes] = []
    for flag, body, properties in entries:
        size = ENTRY_SIZE_MIN + len(body) + len(properties)
        parts += (_HEAD.pack(size, 0, 0, flag, len(body)), body, _SHORT.pack(len(properties)), properties)
    return b"".join(parts)


def decode_batch(body: bytes) -> list[BatchEntry]:
    """Split a batch body; raises BatchError naming the position of the first entry that does not add up."""
    entries: list[BatchEntry] = []
    position = 0
    end = len(body)
    unpack_head = _HEAD.unpack_from
    while position < end:
        if end - position < ENTRY_SIZE_MIN:
            raise BatchError(f"batch entry at byte {position}: {end - position} bytes left, {ENTRY_SIZE_MIN} needed")
        size, _, _, flag, body_size = unpack_head(body, position)
        body_start = position + 20
        body_end = body_start + body_size
        if size < ENTRY_SIZE_MIN or body_size < 0 or position + size > end or body_end + 2 > position + size:
            raise BatchError(f"batch entry at byte {position}: size {size} and body size {body_size} do not fit {end}")
        properties_start = body_end + 2
        properties_end = properties_start + (body[body_end] << 8 | body[body_end + 1])
        if properties_end != position + size:
            raise BatchError(
                f"batch entry at byte {position}: parts end at {properties_end}, entry at {position + size}"
            )
        entries.append(BatchEntry(flag, body[body_start:body_end], body[properties_start:properties_end]))
        position += size
    return entries
