"""The slave's connection to its master: log bytes in, acknowledgements out.

What arrives is verified and stored in the same turn of the loop, so reading as fast as the socket delivers is bounded by the
store. Acknowledged is what this slave would still have after a crash of its kind: flushed bytes with SYNC_FLUSH, written ones else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from rocketmq_broker.ha.authentication import SlaveProof
from rocketmq_broker.ha.epoch_handshake import Diverged, Following, SlaveGreeting
from rocketmq_broker.ha.frames import HaProtocolError, TransferReader, encode_pong, encode_report
from rocketmq_broker.ha.origin import CannotFollow, Origin
from rocketmq_broker.ha.settings import ReplicationSettings
from rocketmq_broker.ha.sockets import peer_address, watch_dead_peers
from rocketmq_common.clock import Clock
from rocketmq_store.following import FollowError
from rocketmq_store.positions import UNBOUNDED
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

# Records that wait for their flush; with more the link is not read.
UNFLUSHED_COUNT_MAX = 65_536
SPEED_WINDOW_S = 1.0


class MasterLink(asyncio.Protocol):
    """See the module. ``on_close`` gets the reason, empty when the link just ended. Without an ``origin`` the link begins with the
    greeting of ``following``, which says where to begin.
    """

    def __init__(
        self,
        settings: ReplicationSettings,
        store: MessageStore,
        clock: Clock,
        origin: Origin | None,
        on_close: Callable[[str], None],
        following: Following | None = None,
        proof: SlaveProof | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._origin = origin
        self._on_close = on_close
        self._follower = store.follower
        self._transport: asyncio.Transport | None = None
        self._following = following
        # Until the master has proved that it has the group's secret.
        self._proof = proof
        self._greeting: SlaveGreeting | None = None
        self._reader: TransferReader | None = None
        self._is_waiting_durable = False
        self._is_reading_paused = False
        self._last_read = 0.0
        self._last_write = 0.0
        self._window_start = 0.0
        self._window_bytes = 0
        self._reason = ""
        self.remote = "?"
        self.acknowledged = -1 if origin is None else origin.report
        # Where this log must be cut before the master can be followed.
        self.diverged_at: int | None = None
        # The master took no part in the proof, or gave a wrong one.
        self.is_unproven = False
        # The master's epoch, and when its last ping came (monotonic seconds).
        self.epoch = 0
        self.heard_at = 0.0
        self.bytes_per_second = 0
        self.received_frames = 0
        self.last_read_ms = 0
        self.last_write_ms = 0
        # Where the master's next byte stands, as its last heartbeat said: nothing is missing then.
        self.heartbeat_offset = -1

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say where this log ends."""
        # Not asserted: uvloop's transports are no subclasses of asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        _, self.remote = peer_address(transport)
        watch_dead_peers(transport, self._settings.ha_housekeeping_interval)
        self._follower.forget_partial()
        self._last_read = self._window_start = self._clock.monotonic()
        if self._proof is not None:
            transport.write(self._proof.hello)
        else:
            self._open(transport)

    def data_received(self, data: bytes) -> None:
        """Frames of the master, whole or not."""
        now = self._clock.monotonic()
        self._last_read = now
        self.last_read_ms = self._clock.now_ms()
        self._window_bytes += len(data)
        self._measure(now)
        follower = self._follower
        if self._proof is not None:
            rest = self._proven(self._proof, data)
            if not rest:
                return
            data = rest
        if self._greeting is not None:
            rest = self._welcomed(self._greeting, data)
            if not rest:
                return
            data = rest
        if self._reader is None:
            return
        try:
            for piece in self._reader.feed(data):
                self.received_frames += 1
                if not piece.data:
                    self.heartbeat_offset = piece.offset
                    continue
                if follower.is_empty and piece.offset != follower.received:
                    follower.begin_at(piece.offset)
                follower.append(piece.offset, piece.data)
        except (HaProtocolError, FollowError) as problem:
            self._acknowledge()
            self.close(str(problem))
            return
        except OSError as error:
            self.close(f"no room for what the master sends: {error}")
            return
        self._acknowledge()

    def connection_lost(self, error: Exception | None) -> None:
        """The end."""
        self._transport = None
        if self._proof is not None and not self._reason:
            self.is_unproven = True
            self._reason = (
                "the master ended the link before it proved that it has the secret of haSecretFile; its log says why"
            )
        self._follower.forget_partial()
        self._on_close(self._reason or (str(error) if error is not None else ""))

    # From the owner.

    def tick(self, now: float) -> None:
        """Report again when silent for a while; close when nothing came for longer."""
        settings = self._settings
        self._measure(now)
        if self._transport is None:
            return
        if not self._is_reading_paused and now - self._last_read > settings.ha_housekeeping_interval / 1000:
            self.close(f"nothing came from the master for {settings.ha_housekeeping_interval} ms")
        elif self._reader is not None and now - self._last_write >= settings.ha_send_heartbeat_interval / 1000:
            self._report(self.acknowledged)

    def close(self, reason: str) -> None:
        """End the link."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()

    # Inside.

    def _proven(self, proof: SlaveProof, data: bytes) -> bytes:
        """Take a part of the master's proof; return what came behind it."""
        transport = self._transport
        if transport is None:
            return b""
        try:
            answer, rest = proof.feed(data)
        except HaProtocolError as problem:
            self.is_unproven = True
            self.close(str(problem))
            return b""
        if answer:
            transport.write(answer)
        if rest is None:
            return b""
        self._proof = None
        self._open(transport)
        return rest

    def _open(self, transport: asyncio.Transport) -> None:
        if self._origin is not None:
            self._begin(self._origin)
        elif self._following is not None:
            self._greeting = self._following.greet()
            transport.write(self._greeting.greeting)

    def _welcomed(self, greeting: SlaveGreeting, data: bytes) -> bytes:
        """Take a part of the master's welcome; return what came behind it."""
        try:
            found = greeting.feed(data)
        except Diverged as divergence:
            self.diverged_at = divergence.offset
            self.close(str(divergence))
            return b""
        except (HaProtocolError, CannotFollow) as problem:
            self.close(str(problem))
            return b""
        if found is None:
            return b""
        self._greeting = None
        # A master that does not tell bounds nothing.
        self._store.confirm(UNBOUNDED if greeting.confirmed < 0 else greeting.confirmed)
        self.epoch = greeting.epoch
        self.heartbeat_offset = greeting.master_end
        self.received_frames += 1
        self.heard_at = self._clock.monotonic()
        self._begin(found[0])
        return found[1]

    def _begin(self, origin: Origin) -> None:
        expected = origin.report if origin.report or not self._follower.is_empty else None
        segment_size = self._store.settings.commit_log_segment_size
        if self._following is None:
            self._reader = TransferReader(segment_size, expected)
        else:
            self._reader = TransferReader(segment_size, expected, self._answer_ping, self._store.confirm)
        try:
            if origin.begin_at is not None:
                self._follower.begin_at(origin.begin_at)
            if origin.known:
                self._follower.append(origin.begin_at or 0, origin.known)
        except FollowError as problem:
            self.close(str(problem))
            return
        self._report(origin.report)

    def _answer_ping(self, token: int) -> None:
        self.heard_at = self._clock.monotonic()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode_pong(token))
            if self._following is not None:
                self._following.acknowledged()

    def _acknowledge(self) -> None:
        positions = self._store.positions
        if not positions.is_sync:
            if positions.written > self.acknowledged:
                self._report(positions.written)
            return
        if positions.written > max(self.acknowledged, positions.flushed) and not self._is_waiting_durable:
            self._is_waiting_durable = True
            self._store.when_durable(positions.written, self._flushed)
        is_behind = self._is_waiting_durable and self._store.pending_dispatch_count > UNFLUSHED_COUNT_MAX
        if is_behind and self._transport is not None:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def _flushed(self, status: PutStatus) -> None:
        self._is_waiting_durable = False
        if self._transport is None:
            return
        if status is PutStatus.UNKNOWN_ERROR:
            self.close("the disk failed")
            return
        flushed = self._store.positions.flushed
        if flushed > self.acknowledged:
            self._report(flushed)
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._last_read = self._clock.monotonic()
            self._transport.resume_reading()
        # More may have been written since the flush began.
        self._acknowledge()

    def _report(self, offset: int) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        # Said again it is a sign of life only. A master that is not heard of any more must not hold up an election by it.
        is_new, self.acknowledged = offset != self.acknowledged, offset
        self._last_write = self._clock.monotonic()
        self.last_write_ms = self._clock.now_ms()
        self._transport.write(encode_report(offset))
        if is_new and self._following is not None:
            self._following.acknowledged()

    def _measure(self, now: float) -> None:
        elapsed = now - self._window_start
        if elapsed >= SPEED_WINDOW_S:
            self.bytes_per_second = int(self._window_bytes / elapsed)
            self._window_start = now
            self._window_bytes = 0
