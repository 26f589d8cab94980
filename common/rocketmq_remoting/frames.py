"""Splitting a byte stream into frames; knows nothing of sockets or meanings.

Frame: total i32 (bytes that follow), one byte serialization type and three bytes header length, header, body.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from rocketmq_remoting.errors import FrameError

# Java's decoder counts the four length bytes in (com.rocketmq.remoting.frameMaxLength).
FRAME_SIZE_MAX = 16 * 1024 * 1024
HEADER_SIZE_MAX = 1 << 20

SERIALIZE_JSON = 0
SERIALIZE_ROCKETMQ = 1

_HEAD = struct.Struct(">iI")
_HEAD_SIZE = _HEAD.size


class Frame(NamedTuple):
    """One frame, split but not understood."""

    serialize_type: int
    header: bytes
    body: bytes


class FrameReader:
    """Collects received bytes and gives back whole frames. Checks lengths before it allocates anything for them."""

    __slots__ = ("_buffer", "_frame_size_max", "_header_size_max")

    def __init__(self, *, frame_size_max: int = FRAME_SIZE_MAX, header_size_max: int = HEADER_SIZE_MAX) -> None:
        self._buffer: bytes | bytearray = b""
        self._frame_size_max = frame_size_max
        self._header_size_max = header_size_max

    @property
    def pending(self) -> int:
        """Bytes of an incomplete frame held."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` completes, in order.

        Raises FrameError when a length cannot be right; frames before it in ``data`` are lost with the connection.
        """
        if self._buffer:
            # A large frame arrives in many reads: without this test each read would copy all that came before.
            if len(self._buffer) >= 4:
                wanted = int.from_bytes(self._buffer[:4], "big", signed=True) + 4
                if len(self._buffer) + len(data) < wanted and isinstance(self._buffer, bytearray):
                    self._buffer += data
                    return []
            data = bytes(self._buffer) + data
            self._buffer = b""
        frames: list[Frame] = []
        position = 0
        size = len(data)
        unpack = _HEAD.unpack_from
        append = frames.append
        new = tuple.__new__
        while size - position >= _HEAD_SIZE:
            total, word = unpack(data, position)
            header_size = word & 0xFFFFFF
            if total < 4 or total + 4 > self._frame_size_max:
                raise FrameError(f"frame of {total + 4} bytes; 8 to {self._frame_size_max} are allowed")
            if header_size > total - 4:
                raise FrameError(f"header of {header_size} bytes in a frame of {total + 4}")
            if header_size > self._header_size_max:
                raise FrameError(f"header of {header_size} bytes; {self._header_size_max} are allowed")
            end = position + 4 + total
            if end > size:
                break
            body_start = position + _HEAD_SIZE + header_size
            # tuple.__new__ directly: NamedTuple's own constructor costs as much as both slices.
            append(new(Frame, (word >> 24, data[position + _HEAD_SIZE : body_start], data[body_start:end])))
            position = end
        rest = size - position
        if 4 <= rest < _HEAD_SIZE:
            (total,) = struct.unpack_from(">i", data, position)
            if total < 4 or total + 4 > self._frame_size_max:
                raise FrameError(f"frame of {total + 4} bytes; 8 to {self._frame_size_max} are allowed")
        if rest:
            self._buffer = bytearray(data[position:]) if rest > 65536 else data[position:]
        return frames


# (4 + header size + body size, serialization type in the top byte | header size) as the eight bytes before a header.
pack_frame_head = _HEAD.pack


def frame_head(header_size: int, body_size: int, serialize_type: int) -> bytes:
    """The eight bytes before a header."""
    return _HEAD.pack(4 + header_size + body_size, serialize_type << 24 | header_size)
