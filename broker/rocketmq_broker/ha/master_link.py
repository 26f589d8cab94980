"""One slave's connection at the master: handshake, pushing, acknowledgements, heartbeats and the end of silence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable
from typing import TYPE_CHECKING, cast

from rocketmq_broker.ha.frames import CONFIRMED_SIZE, PING_SIZE, HaProtocolError, ReportReader, encode_head
from rocketmq_broker.ha.handshake import MasterHandshake
from rocketmq_broker.ha.sockets import peer_address, watch_dead_peers
from rocketmq_store.residency import Absent

if TYPE_CHECKING:
    from rocketmq_broker.ha.master import ReplicationMaster

logger = logging.getLogger(__name__)

# The transport holds at most this much of the log per slave beyond what the socket took.
WRITE_BUFFER_MAX = 1 << 20
# Bytes per turn of the loop, so that a slave that catches up does not hold up producers.
PUSH_SIZE_MAX = 1 << 20
SPEED_WINDOW_S = 1.0
# A slave begins at once; whoever connects and does not must not hold a place for long.
HANDSHAKE_TIMEOUT_S = 10.0


class SlaveLink(asyncio.Protocol):
    """See the module; owned by the `ReplicationMaster` that it is given."""

    def __init__(self, master: ReplicationMaster) -> None:
        self._master = master
        self._transport: asyncio.Transport | None = None
        self._handshake: MasterHandshake | None = None
        self._reports = ReportReader()
        self._is_paused = False
        # What comes next is being read from the disk.
        self._is_fetching = False
        self._opened = 0.0
        self._last_read = 0.0
        self._last_write = 0.0
        self._window_start = 0.0
        self._window_bytes = 0
        self._problem: HaProtocolError | None = None
        self.remote = "?"
        self.identity: Hashable = None
        self.is_accepted = False
        self.answers_pings = False
        # What the slave was told that it may show; -1 for one that is not told.
        self._confirmed = -1
        # When it had everything that had been written a moment before; when it came, before that.
        self.caught_up_at = 0.0
        # First byte that was not pushed yet.
        self.next_offset = 0
        self.bytes_per_second = 0

    @property
    def acknowledged(self) -> int:
        """Where the slave says its log ends; -1 before its first report."""
        return self._reports.acknowledged

    @property
    def heard_at(self) -> float | None:
        """When the ping was sent (monotonic seconds) that the slave answered last; ``None`` before the first."""
        return self._reports.ponged / 1000 if self._reports.ponged >= 0 else None

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A slave connected."""
        # Not asserted: uvloop's transports are no subclasses of asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        host, self.remote = peer_address(transport)
        self.caught_up_at = self._opened = self._last_read = self._last_write = self._window_start = self._master.now
        try:
            self._handshake = self._master.open(self, host)
        except HaProtocolError as problem:
            self._fail(problem)
            return
        if self._handshake is None:
            logger.warning("slave %s is refused: there are too many links", self.remote)
            transport.abort()
            return
        watch_dead_peers(transport, self._master.settings.ha_housekeeping_interval)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_MAX, low=WRITE_BUFFER_MAX // 4)

    def data_received(self, data: bytes) -> None:
        """Reports, one or many, whole or not."""
        self._last_read = self._master.now
        try:
            if self._handshake is not None:
                if not self._accept(self._handshake, data):
                    return
            elif self._reports.feed(data, self.next_offset) is None:
                return
            self._master.acknowledged(self)
            self.push()
        except HaProtocolError as problem:
            self._fail(problem)

    def pause_writing(self) -> None:
        """The slave does not keep up."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """The slave took what was waiting."""
        self._is_paused = False
        self.push()

    def connection_lost(self, error: Exception | None) -> None:
        """The end."""
        self._transport = None
        self._master.closed(self, self._problem)

    # From the master.

    def push(self) -> None:
        """Send what the slave lacks, as far as the socket and this turn of the loop allow."""
        transport = self._transport
        if transport is None or not self.is_accepted or transport.is_closing() or self._is_fetching:
            return
        left = PUSH_SIZE_MAX
        frames: list[bytes | memoryview] = []
        try:
            while not self._is_paused and left > 0:
                chunk = self._master.chunk(self.next_offset)
                if chunk is None:
                    break
                frames += (encode_head(self.next_offset, len(chunk)), chunk)
                self.next_offset += len(chunk)
                left -= len(chunk)
            else:
                if not self._is_paused:
                    self._master.wake()
        except Absent as absent:
            self._is_fetching = self._master.fetch(absent, self._fetched)
        except HaProtocolError as problem:
            self._fail(problem)
            return
        if frames:
            if news := self._news_of_confirmed():
                frames.append(news)
            transport.writelines(frames)
            now = self._master.now
            self._last_write = now
            self._window_bytes += PUSH_SIZE_MAX - left
            self._measure(now)

    def tick(self, now: float) -> None:
        """Heartbeat when nothing was sent for a while; close when nothing came for longer."""
        settings = self._master.settings
        self._measure(now)
        transport = self._transport
        if transport is None:
            return
        if now - self._last_read > settings.ha_housekeeping_interval / 1000:
            self.close(f"nothing came for {settings.ha_housekeeping_interval} ms")
        elif not self.is_accepted and now - self._opened > HANDSHAKE_TIMEOUT_S:
            self.close(f"it did not begin to follow within {HANDSHAKE_TIMEOUT_S:g} s")
        elif self.is_accepted and not self._is_paused:
            if now - self._last_write >= settings.ha_send_heartbeat_interval / 1000:
                self._last_write = now
                transport.write(encode_head(self.next_offset, 0))
            self.push()
            self.tell_confirmed()

    def tell_confirmed(self) -> None:
        """Tell the slave what it may show by now, if it does not know."""
        transport = self._transport
        if transport is not None and not self._is_paused and (news := self._news_of_confirmed()):
            transport.write(news)

    def ping(self, now: float) -> None:
        """Ask for a sign of life, even of a slave that does not keep up."""
        if self._transport is not None and self.answers_pings:
            # Rounded down: an answer must never look younger than its question.
            self._reports.pinged = int(now * 1000)
            self._transport.write(encode_head(self._reports.pinged, PING_SIZE))

    def close(self, reason: str) -> None:
        """End the link; what the transport holds is not sent any more."""
        if self._transport is not None:
            logger.info("link to slave %s is closed: %s", self.remote, reason)
            self._transport.abort()

    # Inside.

    def _accept(self, handshake: MasterHandshake, data: bytes) -> bool:
        accepted = handshake.feed(data, self._master.bounds())
        reply = handshake.take_reply()
        if reply and self._transport is not None:
            self._transport.write(reply)
        if accepted is None:
            return False
        self._handshake = None
        self.identity = accepted.identity
        self.next_offset = accepted.start_offset
        self._reports.acknowledged = accepted.acknowledged
        if accepted.rest:
            self._reports.feed(accepted.rest, accepted.start_offset)
        self.is_accepted = True
        self.answers_pings = accepted.answers_pings
        # The welcome may be older than this; the next news come with whatever is sent next.
        self._confirmed = 0 if accepted.takes_confirmed else -1
        logger.info(
            "slave %s has the log up to %d and gets it from %d on",
            self.remote,
            accepted.acknowledged,
            accepted.start_offset,
        )
        return True

    def _fetched(self, error: OSError | None) -> None:
        self._is_fetching = False
        if error is not None:
            self.close(f"the disk does not give the log at {self.next_offset}: {error}")
        else:
            self.push()

    def _news_of_confirmed(self) -> bytes:
        confirmed = self._master.confirmed
        if not 0 <= self._confirmed < confirmed:
            return b""
        self._confirmed = confirmed
        return encode_head(confirmed, CONFIRMED_SIZE)

    def _fail(self, problem: HaProtocolError) -> None:
        self._problem = self._problem or problem
        if self._transport is not None:
            self._transport.abort()

    def _measure(self, now: float) -> None:
        elapsed = now - self._window_start
        if elapsed >= SPEED_WINDOW_S:
            self.bytes_per_second = int(self._window_bytes / elapsed)
            self._window_start = now
            self._window_bytes = 0
