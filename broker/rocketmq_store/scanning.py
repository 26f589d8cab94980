"""Reading the log record by record without trusting it: for recovery.

A record is valid when its magic, its parts' sizes, its own physical offset and its body's checksum agree. The physical offset
unmasks stale blocks. What ends the valid part is told apart: a torn tail (nothing valid behind it, or blocks that were never
written) is cut; damage with intact records behind it is not recovery's to drop.
"""

from __future__ import annotations

import struct
from enum import Enum
from zlib import crc32

import msgspec

from rocketmq_common.records import BLANK_SIZE, CRC_MASK, MAGIC_BLANK, MAGIC_V1, MAGIC_V2

_PREFIX = struct.Struct(">iIiiiqqi")
_BODY_SIZE = struct.Struct(">i")
_LONG = struct.Struct(">q")
_SHORT = struct.Struct(">H")
RECORD_SIZE_MIN = 91
SECTOR_SIZE = 512
# Longest stretch searched for a valid record behind a bad one at a time (find works on copies).
_SEARCH_CHUNK_SIZE = 4 << 20
_MAGIC_BYTES = (MAGIC_V1.to_bytes(4, "big"), MAGIC_V2.to_bytes(4, "big"))


class Scanned(msgspec.Struct, gc=False):
    """What dispatching needs of a record; offsets in bytes of the log, times in ms."""

    physical_offset: int
    size: int
    queue_id: int
    queue_offset: int
    sys_flag: int
    store_timestamp_ms: int
    topic: bytes
    properties: bytes


class Blank(Enum):
    """Ends of a segment that are no record."""

    FILLER = "filler"
    BAD = "bad"


def parse(view: memoryview, position: int, base: int, *, check_crc: bool) -> Scanned | Blank:
    """The record at ``position`` of a segment that starts at log offset ``base``; never raises for bad bytes."""
    available = len(view) - position
    if available < BLANK_SIZE:
        return Blank.FILLER
    if available < RECORD_SIZE_MIN:
        size, magic = struct.unpack_from(">iI", view, position)
        return Blank.FILLER if magic == MAGIC_BLANK and size == available else Blank.BAD
    size, magic, body_crc, queue_id, _, queue_offset, physical_offset, sys_flag = _PREFIX.unpack_from(view, position)
    if magic == MAGIC_BLANK:
        return Blank.FILLER if size == available else Blank.BAD
    if (magic != MAGIC_V1 and magic != MAGIC_V2) or not RECORD_SIZE_MIN <= size <= available:
        return Blank.BAD
    if physical_offset != base + position:
        return Blank.BAD
    stored_position = position + (68 if sys_flag & 0x10 else 56)
    body_position = stored_position + (28 if not sys_flag & 0x20 else 40)
    end = position + size
    if body_position + 7 > end:
        return Blank.BAD
    (body_size,) = _BODY_SIZE.unpack_from(view, body_position)
    body_start = body_position + 4
    body_end = body_start + body_size
    if body_size < 0 or body_end + 3 > end:
        return Blank.BAD
    if magic == MAGIC_V1:
        topic_start = body_end + 1
        topic_end = topic_start + view[body_end]
    else:
        topic_start = body_end + 2
        topic_end = topic_start + _SHORT.unpack_from(view, body_end)[0]
    if topic_end + 2 > end or topic_end + 2 + _SHORT.unpack_from(view, topic_end)[0] != end:
        return Blank.BAD
    if check_crc and body_size and crc32(view[body_start:body_end]) & CRC_MASK != body_crc:
        return Blank.BAD
    return Scanned(
        physical_offset,
        size,
        queue_id,
        queue_offset,
        sys_flag,
        _LONG.unpack_from(view, stored_position)[0],
        bytes(view[topic_start:topic_end]),
        bytes(view[topic_end + 2 : end]),
    )


def is_record_of(
    view: memoryview, position: int, base: int, size: int, queue_id: int, queue_offset: int, topic_part: bytes
) -> bool:
    """Whether the record at ``position`` is the whole one that a queue entry means, with an intact body.

    ``topic_part`` is the topic with its length, as records have it. Cheaper than `parse`, for reads; never raises for bad bytes.
    """
    end = position + size
    if size < RECORD_SIZE_MIN or end > len(view):
        return False
    total, magic, body_crc, found_id, _, found_offset, physical, sys_flag = _PREFIX.unpack_from(view, position)
    if total != size or physical != base + position or found_id != queue_id or found_offset != queue_offset:
        return False
    body_start = position + (68 if sys_flag & 0x10 else 56) + (32 if not sys_flag & 0x20 else 44)
    if (magic != MAGIC_V1 and magic != MAGIC_V2) or body_start > end:
        return False
    body_end: int = body_start + _BODY_SIZE.unpack_from(view, body_start - 4)[0]
    topic_end = body_end + len(topic_part)
    if not body_start <= body_end or topic_end + 2 > end or view[body_end:topic_end] != topic_part:
        return False
    if topic_end + 2 + _SHORT.unpack_from(view, topic_end)[0] != end:
        return False
    return body_start == body_end or bool(crc32(view[body_start:body_end]) & CRC_MASK == body_crc)


def find_valid_after(view: memoryview, base: int, position: int) -> int | None:
    """Position of the first valid record after ``position``, ``None`` when there is none in the segment."""
    start = position + 1
    while start < len(view):
        # Chunks overlap so that a magic on the seam is found.
        chunk = bytes(view[start : start + _SEARCH_CHUNK_SIZE + 8])
        candidates: list[int] = []
        for magic in _MAGIC_BYTES:
            at = chunk.find(magic)
            while at >= 0:
                candidates.append(start + at - 4)
                at = chunk.find(magic, at + 1)
        for candidate in sorted(candidates):
            if candidate > position and isinstance(parse(view, candidate, base, check_crc=True), Scanned):
                return candidate
        start += _SEARCH_CHUNK_SIZE
    return None


def has_unwritten_part(view: memoryview, start: int, end: int) -> bool:
    """The end of a sector between the positions reads as zeros: it was lost on its way to the disk, not damaged there.

    A page may have been on its way while a record was copied into it, so a sector can hold a beginning and then what was there
    before: zeros. A record behind ``end`` shows that its sector was not cut, but for the zeros with which every size begins.
    """
    first = start - start % SECTOR_SIZE + SECTOR_SIZE
    # Of each sector, its last byte: zero also when the whole sector is.
    if 0 in bytes(view[first - 1 : end + 3 : SECTOR_SIZE]):
        return True
    # A record whose head stands at the end of a sector may begin in the lost one.
    head = bytes(view[start : min(start + 8, end)])
    return not any(head)


def end_of_damage(view: memoryview, position: int) -> int:
    """Where a bad record at ``position`` ends if nothing valid follows in the segment: at the filler, else at the segment's end."""
    if position + 8 <= len(view):
        size: int = _BODY_SIZE.unpack_from(view, position)[0]
        end = position + size
        if size >= RECORD_SIZE_MIN and end <= len(view) and parse(view, end, 0, check_crc=False) is Blank.FILLER:
            return end
    return len(view)
