"""Splitting a batch body into columns: all flags, all bodies, all properties.

Layout of an entry: see `rocketmq_common.batches`. Messages of one producer mostly have equal sizes; then the length fields are
compared column by column and the parts are cut out by stride, with no look at the single entry.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from rocketmq_common.batches import ENTRY_SIZE_MIN, BatchError

_HEAD = struct.Struct(">iiiii")
# Bytes of an entry's head that must agree with those of the first: total size, flag, body size.
_COMPARED_COLUMNS = (0, 1, 2, 3, 12, 13, 14, 15, 16, 17, 18, 19)


class BatchColumns(NamedTuple):
    """The entries of a batch, one item per message; ``is_even``: equal body sizes, equal properties sizes, equal flags."""

    flags: list[int]
    bodies: list[bytes]
    properties: list[bytes]
    is_even: bool


def split_batch(batch: bytes) -> BatchColumns:
    """The columns of a batch body. Raises BatchError naming the position of the first entry that does not add up."""
    return _split_even(batch) or _split_one_by_one(batch)


def _split_even(batch: bytes) -> BatchColumns | None:
    end = len(batch)
    if end < ENTRY_SIZE_MIN:
        return None
    size, _, _, flag, body_size = _HEAD.unpack_from(batch)
    if size < ENTRY_SIZE_MIN or end % size or not 0 <= body_size <= size - ENTRY_SIZE_MIN:
        return None
    count = end // size
    body_end = 20 + body_size
    if body_end + 2 + (batch[body_end] << 8 | batch[body_end + 1]) != size:
        return None
    for column in (*_COMPARED_COLUMNS, body_end, body_end + 1):
        if batch[column::size] != batch[column : column + 1] * count:
            return None
    properties_size = size - body_end - 2
    entry_ends = range(size, end + 1, size)
    return BatchColumns(
        [flag] * count,
        [batch[start : start + body_size] for start in range(20, end, size)],
        [batch[entry_end - properties_size : entry_end] for entry_end in entry_ends],
        is_even=True,
    )


def _split_one_by_one(batch: bytes) -> BatchColumns:
    flags: list[int] = []
    bodies: list[bytes] = []
    properties: list[bytes] = []
    unpack_head = _HEAD.unpack_from
    position, end = 0, len(batch)
    while position < end:
        if end - position < ENTRY_SIZE_MIN:
            raise BatchError(f"batch entry at byte {position}: {end - position} bytes left")
        entry_size, _, _, flag, body_size = unpack_head(batch, position)
        body_end = position + 20 + body_size
        entry_end = position + entry_size
        if (
            body_size < 0
            or entry_end > end
            or body_end + 2 > entry_end
            or body_end + 2 + (batch[body_end] << 8 | batch[body_end + 1]) != entry_end
        ):
            raise BatchError(f"batch entry at byte {position}: its sizes do not add up")
        flags.append(flag)
        bodies.append(batch[position + 20 : body_end])
        properties.append(batch[body_end + 2 : entry_end])
        position = entry_end
    return BatchColumns(flags, bodies, properties, is_even=False)
