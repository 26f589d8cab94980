"""What stands at the beginning of a link, before log bytes flow: who the slave is and where it begins.

An Apache slave says nothing but the end of its log, in its first report. Peers that can prove more get another handshake object;
the link only knows `MasterHandshake`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple, Protocol

from rocketmq_broker.ha.frames import REPORT, HaProtocolError


class LogBounds(NamedTuple):
    """Log offsets of the master: first byte, end of what may be pushed, size of a segment; end of what its readers see."""

    min_offset: int
    end_offset: int
    segment_size: int
    confirmed: int = -1


class Accepted(NamedTuple):
    """The outcome of a handshake. ``acknowledged`` is what the slave has, ``start_offset`` the first byte it gets."""

    identity: Hashable
    acknowledged: int
    start_offset: int
    # Bytes that came behind the handshake.
    rest: bytes
    # The slave is one of ours and answers pings.
    answers_pings: bool = False
    # And wants to be told what the master's readers see.
    takes_confirmed: bool = False


class MasterHandshake(Protocol):
    """The master's side of a beginning."""

    def feed(self, data: bytes, bounds: LogBounds) -> Accepted | None:
        """``None`` while more bytes are needed. Raises HaProtocolError."""
        ...

    def take_reply(self) -> bytes:
        """What must be sent to the slave now, often nothing."""
        ...


class ApacheHandshake:
    """An Apache slave: its first report. It is known by its address only, for the stream names no broker id.

    An empty slave gets the whole log, not only the newest segment as from Apache: a slave that lacks the older messages could not
    take over. ``sync_from_last_file`` restores Apache's way.
    """

    def __init__(self, peer_host: str, *, sync_from_last_file: bool) -> None:
        self._peer_host = peer_host
        self._sync_from_last_file = sync_from_last_file
        self._buffer = b""

    def named(self, identity: str) -> ApacheHandshake:
        """The same beginning of a slave whose name is known."""
        return ApacheHandshake(identity, sync_from_last_file=self._sync_from_last_file)

    def take_reply(self) -> bytes:
        """Nothing: Apache's stream has no words for it."""
        return b""

    def feed(self, data: bytes, bounds: LogBounds) -> Accepted | None:
        """See `MasterHandshake.feed`."""
        self._buffer += data
        if len(self._buffer) < REPORT.size:
            return None
        (offset,) = REPORT.unpack_from(self._buffer)
        rest = self._buffer[REPORT.size :]
        if offset == 0:
            start = bounds.min_offset
            if self._sync_from_last_file:
                start = max(start, bounds.end_offset - bounds.end_offset % bounds.segment_size)
            return Accepted(self._peer_host, 0, start, rest)
        if not 0 < offset <= bounds.end_offset:
            raise HaProtocolError(
                f"the slave's log ends at {offset}, beyond this master's end {bounds.end_offset}: it holds bytes that this master "
                "never had, or is no slave; empty its store to follow this master"
            )
        if offset < bounds.min_offset:
            raise HaProtocolError(
                f"the slave's log ends at {offset}, but this master's begins at {bounds.min_offset}: what lies between was "
                "removed; empty the slave's store to follow this master"
            )
        return Accepted(self._peer_host, offset, offset, rest)
