"""The two ids of a message: where it is stored (offset id) and who made it (unique id).

Layouts: apache/rocketmq 5.5 MessageDecoder.createMessageId and MessageClientIDSetter, upper-case hexadecimal.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from datetime import datetime
from typing import NamedTuple


class OffsetId(NamedTuple):
    """The parts of an offset message id."""

    host: str
    port: int
    physical_offset: int


def pack_host(host: str, port: int) -> bytes:
    """Address bytes (4 or 16) followed by the port as i32, the form that records use.

    Raises ValueError when ``host`` is no literal IP address: a name cannot be stored.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        address = socket.inet_pton(family, host.partition("%")[0])
    except OSError as error:
        raise ValueError(f"{host!r} is no literal IP address") from error
    return address + struct.pack(">i", port)


def unpack_host(packed: bytes) -> tuple[str, int]:
    """The reverse of `pack_host`."""
    family = socket.AF_INET if len(packed) == 8 else socket.AF_INET6
    return socket.inet_ntop(family, packed[:-4]), int.from_bytes(packed[-4:], "big", signed=True)


def offset_message_id(store_host: bytes, physical_offset: int) -> str:
    """32 or 56 hex digits: store host as packed by `pack_host`, then the commit log offset as i64."""
    return (store_host + physical_offset.to_bytes(8, "big", signed=True)).hex().upper()


def parse_offset_message_id(message_id: str) -> OffsetId:
    """Split an offset message id; raises ValueError naming the id when it is malformed."""
    if len(message_id) not in (32, 56):
        raise ValueError(f"message id {message_id!r} has {len(message_id)} characters; an offset id has 32 or 56")
    try:
        raw = bytes.fromhex(message_id)
    except ValueError as error:
        raise ValueError(f"message id {message_id!r} is not hexadecimal") from error
    host, port = unpack_host(raw[:-8])
    return OffsetId(host, port, int.from_bytes(raw[-8:], "big", signed=True))


class UniqueIds:
    """Makes unique message ids: ip, pid, a random process tag, milliseconds since the month began, a counter.

    The month's start is the local one, as in Java, so that ids of both sort alike.
    """

    def __init__(self, address: bytes | None = None) -> None:
        tag = int.from_bytes(os.urandom(4), "big")
        prefix = (address or _own_address()) + struct.pack(">HI", os.getpid() & 0xFFFF, tag)
        self._prefix = prefix.hex().upper()
        self._counter = itertools.count()
        self._month_start_ms = 0
        self._next_month_ms = 0

    def create(self) -> str:
        """A new id, 32 hex digits on IPv4."""
        now_ms = time.time_ns() // 1_000_000
        if not self._month_start_ms <= now_ms < self._next_month_ms:
            self._roll(now_ms)
        return f"{self._prefix}{(now_ms - self._month_start_ms) & 0xFFFFFFFF:08X}{next(self._counter) & 0xFFFF:04X}"

    def _roll(self, now_ms: int) -> None:
        start = datetime.fromtimestamp(now_ms / 1000).astimezone()
        start = start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        following = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
        self._month_start_ms = int(start.timestamp() * 1000)
        self._next_month_ms = int(following.timestamp() * 1000)


def _own_address() -> bytes:
    # A connected datagram socket reveals the outgoing address without sending anything (192.0.2.1 is never routed).
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return socket.inet_aton(probe.getsockname()[0])
        except OSError:
            return socket.inet_aton("127.0.0.1")
