"""Where a slave begins: decided from what it has and what its master's log spans, before the link is opened.

Apache's stream knows only "my log ends at n", with 0 for "give me the newest segment". A master whose log begins at 0 and has
several segments would so keep its older messages to itself, and a slave without them cannot take over. The first byte of a log that
begins at 0 is the high byte of the first record's size, always zero: a slave that says "I have one byte" gets all the others.
"""

from __future__ import annotations

from typing import NamedTuple


class MasterLog(NamedTuple):
    """What the master said about its log over remoting. ``segment_size`` is ``None`` when it did not say."""

    min_offset: int
    end_offset: int
    segment_size: int | None = None


class OwnLog(NamedTuple):
    """The slave's log. ``is_empty`` logs may begin anywhere."""

    end_offset: int
    is_empty: bool
    segment_size: int


class Origin(NamedTuple):
    """``report`` is the first thing the slave says; ``begin_at`` is where its empty log starts, ``None`` to let the master say."""

    report: int
    begin_at: int | None
    # Bytes that the slave knows without being told: the zero at offset 0.
    known: bytes = b""


class MasterSilent(Exception):
    """The master could not be asked about its log; the message says why."""


class CannotFollow(Exception):
    """This log cannot be continued by that master's; the message says why and what to do."""


def decide_origin(own: OwnLog, master: MasterLog | None, *, sync_from_last_file: bool = False) -> Origin:
    """Raises CannotFollow. ``master`` is ``None`` when it cannot be asked."""
    if master is not None:
        if master.segment_size is not None and master.segment_size != own.segment_size:
            raise CannotFollow(
                f"mappedFileSizeCommitLog is {master.segment_size} at the master and {own.segment_size} here: make them the same"
            )
        if not own.is_empty:
            check_continuation(own.end_offset, master)
    if not own.is_empty:
        return Origin(own.end_offset, None)
    if master is None or sync_from_last_file or master.end_offset <= 0:
        return Origin(0, None)
    if master.min_offset > 0:
        return Origin(master.min_offset, master.min_offset)
    if master.end_offset <= own.segment_size:
        return Origin(0, 0)
    return Origin(1, 0, b"\0")


def check_continuation(own_end: int, master: MasterLog) -> None:
    """Raises CannotFollow when ``own_end``, taken before the master was asked, is outside the master's log."""
    if own_end > master.end_offset:
        raise CannotFollow(
            f"this log ends at {own_end}, beyond the master's end {master.end_offset}: it holds messages that the master does not "
            "have; empty this store to follow, or make this broker the master"
        )
    if own_end < master.min_offset:
        raise CannotFollow(
            f"this log ends at {own_end}, but the master's begins at {master.min_offset}: what lies between was removed there; "
            "empty this store to start from there"
        )
