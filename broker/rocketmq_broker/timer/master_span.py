"""Which part of the log a slave may remove although timer messages lie in it: what its master removed.

A master stores what still waits anew before it removes a part of its log. So below the master's first byte nothing waits any
more, once the slave has everything that the master had when it said where that byte is: the copies are among it.
"""

from __future__ import annotations


class MasterSpan:
    """What the master said, and what follows from it. Offsets are log bytes."""

    def __init__(self) -> None:
        self._told: tuple[int, int] | None = None
        self._released = 0

    def note(self, min_offset: int, end_offset: int) -> None:
        """The master's log goes from ``min_offset`` to ``end_offset``."""
        # One that this log has not come up to yet is kept: a slave that is always a little behind must get somewhere.
        if self._told is None:
            self._told = (min_offset, end_offset)

    def released(self, written: int) -> int:
        """Below this offset no timer message waits; ``written`` is the end of the slave's log."""
        if self._told is not None and self._told[1] <= written:
            self._released = max(self._released, self._told[0])
            self._told = None
        return self._released
