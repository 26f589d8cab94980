"""Consumer offsets and queue bounds."""

from __future__ import annotations

from rocketmq_remoting.commands import Header


class QueryConsumerOffsetRequestHeader(Header):
    """Code 14."""

    consumer_group: str
    topic: str
    queue_id: int
    set_zero_if_not_found: bool | None = None


class UpdateConsumerOffsetRequestHeader(Header):
    """Code 15."""

    consumer_group: str
    topic: str
    queue_id: int
    commit_offset: int


class QueueHeader(Header):
    """Codes 30, 31, 32: one queue."""

    topic: str
    queue_id: int
    committed: bool = True


class SearchOffsetRequestHeader(Header):
    """Code 29; ``timestamp`` is ms, ``boundary_type`` lower or upper in any case."""

    topic: str
    queue_id: int
    timestamp: int
    boundary_type: str | None = None


class OffsetResponseHeader(Header):
    """A queue offset."""

    offset: int


class TimestampResponseHeader(Header):
    """A store time in ms."""

    timestamp: int
