"""Apache's HA stream without sockets: what the bytes mean, and what a peer may not say.

Between connect and close (apache/rocketmq 5.5 DefaultHAConnection, DefaultHAClient), integers big-endian:

    slave → master   report      8 bytes   i64 end of the slave's log; the first one asks where to begin, 0 for an empty slave
    master → slave   transfer   12 bytes   i64 log offset, i32 body size; then the body: raw log bytes of one segment
                     heartbeat  12 bytes   the same with size 0

    between our own nodes  12 bytes   ping: i64 token, i32 -1; answered by a report of -1 - token
                           12 bytes   confirmed: i64 log offset, i32 -2; not answered

A ping asks for a sign of life whose age is known: the token is when the master sent it. Confirmed is what the master's own readers
may see. Both come only behind our own handshake, and confirmed only to a slave that said it takes it.

A report is an acknowledgement, and sends wait for it. So none is believed that could not be true: beyond what was sent, or lower
than the one before (apache/rocketmq#3015: garbage on this port answered sends that no slave had).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

REPORT = struct.Struct(">q")
TRANSFER_HEAD = struct.Struct(">qi")
# An Apache slave reads into 4 MiB; a frame that does not fit is never complete for it.
BODY_SIZE_MAX = (4 << 20) - TRANSFER_HEAD.size
PING_SIZE = -1
CONFIRMED_SIZE = -2


class HaProtocolError(Exception):
    """The peer broke the protocol, or its log cannot be continued by ours: close the connection."""


class ReportReader:
    """The master's side of one connection: splits reports, believes only what can be true."""

    __slots__ = ("_rest", "acknowledged", "pinged", "ponged")

    def __init__(self) -> None:
        self._rest = b""
        # Last report; -1 before the first.
        self.acknowledged = -1
        # Tokens of the last ping that was sent and of the last one that was answered; -1 for none.
        self.pinged = -1
        self.ponged = -1

    def feed(self, data: bytes, believable: int) -> int | None:
        """The newest complete report in what has arrived, ``None`` when there is none.

        ``believable`` is the highest offset that the slave can have: the end of what was sent to it, or before anything was
        sent, the end of the master's own log. Raises HaProtocolError.
        """
        if self._rest:
            data = self._rest + data
        end = len(data) - len(data) % REPORT.size
        self._rest = data[end:]
        if not end:
            return None
        previous = self.acknowledged
        for (offset,) in REPORT.iter_unpack(memoryview(data)[:end]):
            if offset < 0:
                if not self.ponged <= -1 - offset <= self.pinged:
                    raise HaProtocolError(f"report {offset} is no offset, and answers no ping")
                self.ponged = -1 - offset
                continue
            if offset > believable:
                raise HaProtocolError(f"report {offset} is beyond {believable}, the most that this slave can have")
            if offset < previous:
                raise HaProtocolError(f"report {offset} after {previous}: acknowledgements never go back")
            previous = offset
        self.acknowledged = previous
        return previous


class Transferred(NamedTuple):
    """Bytes of the master's log from ``offset`` on; none in a heartbeat."""

    offset: int
    data: memoryview


class TransferReader:
    """The slave's side of one connection: splits frames and hands out their bodies as they arrive.

    ``expected`` is the offset at which the stream must go on; ``None`` for an empty slave, which begins where the master says.
    ``on_ping`` gets the token of each ping, ``on_confirmed`` each confirmed offset; without them these are broken frames.
    """

    __slots__ = ("_left", "_on_told", "_rest", "_segment_size", "expected")

    def __init__(
        self,
        segment_size: int,
        expected: int | None,
        on_ping: Callable[[int], None] | None = None,
        on_confirmed: Callable[[int], None] | None = None,
    ) -> None:
        self._segment_size = segment_size
        self._on_told = {PING_SIZE: on_ping, CONFIRMED_SIZE: on_confirmed}
        self._rest = b""
        self._left = 0
        self.expected = expected

    def feed(self, data: bytes) -> Iterator[Transferred]:
        """What ``data`` completes, in order. Body bytes are slices of ``data``, so a body may come in several pieces.

        Raises HaProtocolError. Consume the iterator before feeding more.
        """
        view = memoryview(data)
        position, end = 0, len(data)
        head_size = TRANSFER_HEAD.size
        while position < end:
            if self._left:
                stop = min(position + self._left, end)
                assert self.expected is not None
                piece = Transferred(self.expected, view[position:stop])
                self._left -= stop - position
                self.expected += stop - position
                position = stop
                yield piece
                continue
            missing = head_size - len(self._rest)
            if end - position < missing:
                self._rest += data[position:]
                return
            if self._rest:
                offset, size = TRANSFER_HEAD.unpack(self._rest + data[position : position + missing])
                self._rest = b""
            else:
                offset, size = TRANSFER_HEAD.unpack_from(data, position)
            position += missing
            self._accept(offset, size)
            if not size:
                yield Transferred(offset, view[:0])

    def _accept(self, offset: int, size: int) -> None:
        if size < 0 <= offset and (on_told := self._on_told.get(size)) is not None:
            on_told(offset)
            return
        if offset < 0 or not 0 <= size <= BODY_SIZE_MAX:
            raise HaProtocolError(f"frame of {size} bytes at offset {offset} is no transfer")
        if self.expected is not None and offset != self.expected:
            raise HaProtocolError(f"the master goes on at offset {offset}, this log ends at {self.expected}")
        if size and offset // self._segment_size != (offset + size - 1) // self._segment_size:
            raise HaProtocolError(
                f"{size} bytes at offset {offset} cross a segment of {self._segment_size} bytes: "
                "mappedFileSizeCommitLog must be the same on master and slave"
            )
        if size or self.expected is not None:
            self.expected = offset
            self._left = size


def encode_pong(token: int) -> bytes:
    """What a slave answers to a ping."""
    return REPORT.pack(-1 - token)


def encode_report(offset: int) -> bytes:
    """What a slave says: its log ends at ``offset``."""
    return REPORT.pack(offset)


def encode_head(offset: int, body_size: int) -> bytes:
    """What stands before a body of log bytes; a heartbeat when ``body_size`` is 0."""
    return TRANSFER_HEAD.pack(offset, body_size)
