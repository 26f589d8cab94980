"""The checkpoint file: where recovery may start.

Apache's part (StoreCheckpoint, i64 big-endian at 0, 8, 16, 24, 32): store times up to which log, queues and index were
flushed, the master's flushed offset, the confirmed offset. It counts in seconds and says nothing about files that went missing, so
ours follows at byte 64, in space that Apache leaves as it is: exact offsets, written only after the syncs that make them true, and
counts by which missing files show. A hint is never trusted without looking: recovery checks that a record begins there.
"""

from __future__ import annotations

import struct
from pathlib import Path
from zlib import crc32

import msgspec

from rocketmq_common.files import FileSystem, Mapping

FILE_NAME = "checkpoint"
FILE_SIZE = 4096
_APACHE = struct.Struct(">qqqqq")
_HINT_POSITION = 64
_HINT = struct.Struct(">Iqqqqqqqqqqqqq")
_MAGIC = 0x524D514B
_CRC = struct.Struct(">I")
APACHE_MARGIN_MS = 3000


class ApacheCheckpoint(msgspec.Struct, frozen=True):
    """Apache's fields: times in ms, offsets in bytes."""

    physic_timestamp_ms: int = 0
    logics_timestamp_ms: int = 0
    index_timestamp_ms: int = 0
    master_flushed_offset: int = 0
    confirmed_offset: int = 0

    @property
    def min_timestamp_ms(self) -> int:
        """Log segments that begin before this time are complete in every respect."""
        return max(0, min(self.physic_timestamp_ms, self.logics_timestamp_ms) - APACHE_MARGIN_MS)


class IndexHint(msgspec.Struct, frozen=True):
    """State of the youngest index file when it was synced, and of all of them together."""

    built_offset: int = 0
    file_name: int = 0
    count: int = 0
    used_slots: int = 0
    end_offset: int = 0
    end_ms: int = 0
    file_total: int = 0
    entry_total: int = 0


class RecoveryHint(msgspec.Struct, frozen=True):
    """`consistent_offset`: log and queues were durable below it. `verify_offset`: an older record boundary to verify from.

    `queue_count` and `unit_total` (sum of all queues' ends) describe the queues at `consistent_offset`; `first_total` is the sum of
    the first entries that were still on disk.
    """

    consistent_offset: int
    verify_offset: int
    queue_count: int
    unit_total: int
    first_total: int
    index: IndexHint


class Checkpoint:
    """The mapped file. `write` is called by the flush thread, everything else before it starts."""

    def __init__(self, files: FileSystem, root: Path) -> None:
        path = root / FILE_NAME
        try:
            is_whole = files.size(path) == FILE_SIZE
        except FileNotFoundError:
            is_whole = True
        if not is_whole:
            # It is only a hint: without it recovery looks at more.
            files.remove(path)
        self._mapping: Mapping = files.map_file(path, FILE_SIZE, create=True)

    def read_apache(self) -> ApacheCheckpoint:
        """Apache's part."""
        return ApacheCheckpoint(*_APACHE.unpack_from(self._mapping.buffer, 0))

    def read_hint(self) -> RecoveryHint | None:
        """Our part; ``None`` when there is none or it is damaged."""
        raw = bytes(self._mapping.buffer[_HINT_POSITION : _HINT_POSITION + _HINT.size])
        (crc,) = _CRC.unpack_from(self._mapping.buffer, _HINT_POSITION + _HINT.size)
        magic, consistent, verify, queues, units, firsts, *index = _HINT.unpack(raw)
        # The sum covers Apache's part too: once Apache's broker has written there, our counts say nothing any more.
        if magic != _MAGIC or crc != crc32(raw, crc32(self._mapping.buffer[: _APACHE.size])):
            return None
        return RecoveryHint(consistent, verify, queues, units, firsts, IndexHint(*index))

    def write(self, apache: ApacheCheckpoint, hint: RecoveryHint | None) -> None:
        """Replace both parts durably; without ``hint`` the next recovery trusts nothing. Raises OSError: fatal.

        Both lie in the first 512 bytes, which a disk writes as one.
        """
        raw = b"\0" * _HINT.size
        if hint is not None:
            index = hint.index
            raw = _HINT.pack(
                _MAGIC,
                hint.consistent_offset,
                hint.verify_offset,
                hint.queue_count,
                hint.unit_total,
                hint.first_total,
                *msgspec.structs.astuple(index),
            )
        block = bytearray(512)
        _APACHE.pack_into(block, 0, *msgspec.structs.astuple(apache))
        block[_HINT_POSITION : _HINT_POSITION + _HINT.size] = raw
        _CRC.pack_into(block, _HINT_POSITION + _HINT.size, crc32(raw, crc32(block[: _APACHE.size])))
        self._mapping.buffer[:512] = block
        self._mapping.sync()

    def close(self) -> None:
        """Unmap."""
        self._mapping.close()
