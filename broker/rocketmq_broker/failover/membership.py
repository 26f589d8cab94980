"""Which replicas are in sync: what the master wants to write into the lease next.

A member is waited for by every send, so one that is gone must leave soon; only a member may be elected, so none enters before it
has everything that was acknowledged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# A link that broke is made again within this time when nothing is wrong with the replica.
GONE_GRACE_MS = 1000


class Follower(NamedTuple):
    """A replica as its master sees it: times are monotonic seconds, the offset is what it acknowledged."""

    acknowledged: int
    is_linked: bool
    # When it was linked last, and when it had all that had been written a moment before.
    linked_at: float
    caught_up_at: float
    # When the ping was sent that it answered last.
    heard_at: float


def next_in_sync(
    current: tuple[str, ...],
    member: str,
    followers: Mapping[str, Follower],
    now: float,
    *,
    reign_started: float,
    confirmed: int,
    epoch_start: int,
    count_min: int,
    behind_max_ms: int,
) -> tuple[str, ...]:
    """The set that master ``member`` should ask for, in name order; never smaller than ``count_min`` by leaving.

    Keeping dead members rather than going below the minimum costs nothing: such a group takes no messages anyway, and whichever
    of them comes back first can lead it.
    """
    wanted = set(current) | {member}
    for name, follower in followers.items():
        if name not in wanted and follower.is_linked and follower.acknowledged >= max(confirmed, epoch_start):
            wanted.add(name)
    late = []
    for name in wanted - {member}:
        found = followers.get(name)
        linked_at = max(reign_started, found.linked_at if found else 0.0)
        caught_up_at = max(reign_started, found.caught_up_at if found else 0.0)
        is_gone = (found is None or not found.is_linked) and now - linked_at > GONE_GRACE_MS / 1000
        if is_gone or now - caught_up_at > behind_max_ms / 1000:
            late.append((caught_up_at, name))
    for _, name in sorted(late):
        if len(wanted) > max(count_min, 1):
            wanted.discard(name)
    return tuple(sorted(wanted))
