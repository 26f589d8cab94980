"""Permission bits of topics and brokers (PermName)."""

from __future__ import annotations

PRIORITY = 8
READ = 4
WRITE = 2
INHERIT = 1
READ_WRITE = READ | WRITE


def is_readable(perm: int) -> bool:
    """Whether consumers may read."""
    return perm & READ == READ


def is_writeable(perm: int) -> bool:
    """Whether producers may write."""
    return perm & WRITE == WRITE


def is_inherited(perm: int) -> bool:
    """Whether a topic may serve as template for auto-created topics."""
    return perm & INHERIT == INHERIT


def is_valid(perm: int) -> bool:
    """Whether ``perm`` is a combination that a topic may carry."""
    return 0 <= perm < 16


def describe(perm: int) -> str:
    """The three-letter form that tools print, for example ``RW-``."""
    return f"{'R' if perm & READ else '-'}{'W' if perm & WRITE else '-'}{'X' if perm & INHERIT else '-'}"
