"""From a `Position` to the offset of one queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rocketmq_tools.cli.values import Position

if TYPE_CHECKING:
    from rocketmq_client import Admin, MessageQueue


async def offset_of(admin: Admin, queue: MessageQueue, position: Position) -> int:
    """The offset that ``position`` means on ``queue``, within what the queue holds."""
    first, end = await admin.messages.bounds(queue)
    if position.kind == "start":
        return first
    if position.kind == "end":
        return end
    if position.kind == "last":
        return max(first, end - position.value)
    if position.kind == "skip":
        return min(end, first + position.value)
    if position.kind == "time":
        return await admin.messages.offset_at(queue, position.value)
    return min(max(position.value, first), end)
