"""Bounds of one remoting endpoint, with their units. Reaching one never hurts another connection."""

from __future__ import annotations

import msgspec

from rocketmq_remoting.frames import FRAME_SIZE_MAX, HEADER_SIZE_MAX


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """All are per connection unless the name says otherwise."""

    frame_size_max: int = FRAME_SIZE_MAX
    header_size_max: int = HEADER_SIZE_MAX
    connections_max: int = 20_000  # of the whole endpoint
    connections_per_host_max: int = 20_000
    idle_ms: int = 120_000  # neither read nor written
    frame_ms: int = 30_000  # from a frame's first byte to its last
    in_flight_max: int = 4096  # requests taken but not answered; reading pauses at it
    pending_calls_max: int = 65_536  # requests sent but not answered
    write_buffer_high: int = 1 << 20  # bytes; reading pauses above it
    write_buffer_max: int = 256 << 20  # bytes; the connection is dropped above it
    connect_ms: int = 3000
