"""How the members of a group divide queues, as far as client and broker both compute it (AllocateMessageQueueAveragely, …ByCircle).

Every party computes a share from the same sorted lists, so all must agree to the letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def contiguous_share(queues: Sequence[T], member: str, members: Sequence[str]) -> list[T]:
    """A run of neighbours; the first members get one more when it does not come out even. Empty for nobody's ``member``."""
    if member not in members:
        return []
    index = members.index(member)
    share, rest = divmod(len(queues), len(members))
    start = index * share + min(index, rest)
    return list(queues[start : start + share + (1 if index < rest else 0)])


def dealt_share(queues: Sequence[T], member: str, members: Sequence[str]) -> list[T]:
    """Queues dealt one by one. Empty for nobody's ``member``."""
    return list(queues[members.index(member) :: len(members)]) if member in members else []
