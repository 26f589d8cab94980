"""``config/timercheck``: how far deliveries, timer log and timer queue had come when all three were durable.

Apache's part (TimerCheckpoint, big-endian i64 at 0, 8, …, 48): last read time in ms, timer log position, timer queue
offset, the master's timer queue offset, data version (state version, timestamp, counter). Those 56 bytes are the body
of GET_TIMER_CHECK_POINT, too. At byte 64 stands a mark of ours over them: with it the file is one moment's state;
without it another broker wrote it.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec

from rocketmq_common.files import FileSystem
from rocketmq_common.topics import DataVersion

FILE_NAME: Final = "timercheck"
FILE_SIZE: Final = 4096
_APACHE: Final = struct.Struct(">7q")
_MARK_POSITION: Final = 64
# Magic, precision in ms, CRC of Apache's part and the precision.
_MARK: Final = struct.Struct(">IiI")
_MAGIC: Final = 0x524D5154


class TimerCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """See the module. Slots before ``read_ms`` are delivered. ``is_own``: written by this broker, for slots of
    ``precision_ms``."""

    read_ms: int = 0
    log_position: int = 0
    queue_offset: int = 0
    master_queue_offset: int = 0
    version: DataVersion = msgspec.field(default_factory=DataVersion)
    precision_ms: int = 0
    is_own: bool = False

    def encode(self) -> bytes:
        """The 56 bytes of the wire."""
        version = self.version
        return _APACHE.pack(
            self.read_ms,
            self.log_position,
            self.queue_offset,
            self.master_queue_offset,
            version.state_version,
            version.timestamp,
            version.counter,
        )


def decode_checkpoint(data: bytes) -> TimerCheckpoint:
    """The checkpoint in the first 56 bytes. Raises ValueError when there are fewer."""
    if len(data) < _APACHE.size:
        raise ValueError(f"a timer checkpoint has {_APACHE.size} bytes, not {len(data)}")
    read_ms, position, offset, master_offset, state, timestamp, counter = _APACHE.unpack_from(data)
    return TimerCheckpoint(
        read_ms=read_ms,
        log_position=position,
        queue_offset=offset,
        master_queue_offset=master_offset,
        version=DataVersion(counter=counter, state_version=state, timestamp=timestamp),
    )


def read_checkpoint(files: FileSystem, directory: Path) -> TimerCheckpoint | None:
    """What the file says; ``None`` when there is none, or it has lost its end. Blocking."""
    try:
        data = files.read(directory / FILE_NAME)
    except FileNotFoundError:
        return None
    if len(data) != FILE_SIZE:
        return None
    found = decode_checkpoint(data)
    magic, precision_ms, crc = _MARK.unpack_from(data, _MARK_POSITION)
    if magic != _MAGIC or crc != _crc(data[: _APACHE.size], precision_ms):
        return found
    return msgspec.structs.replace(found, precision_ms=precision_ms, is_own=True)


def write_checkpoint(files: FileSystem, directory: Path, checkpoint: TimerCheckpoint) -> None:
    """Replace the file durably, marked when ``is_own``. Blocking. Raises OSError."""
    data = bytearray(FILE_SIZE)
    head = checkpoint.encode()
    data[: len(head)] = head
    if checkpoint.is_own:
        precision_ms = checkpoint.precision_ms
        _MARK.pack_into(data, _MARK_POSITION, _MAGIC, precision_ms, _crc(head, precision_ms))
    files.replace(directory / FILE_NAME, bytes(data), backup=False)


def _crc(head: bytes, precision_ms: int) -> int:
    return crc32(b"%d" % precision_ms, crc32(head))
