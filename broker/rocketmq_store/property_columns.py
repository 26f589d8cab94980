"""The properties of many messages at once, for the work that would cost most if done message by message.

Producers begin the properties of nearly every message with a unique key of 32 characters, and what follows it is the same for
many. Whether that holds for all of a list is found out column by column, in C.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_NAME = b"UNIQ_KEY\x01"
_KEY_SIZE = 32
_START = len(_NAME)
_END = _START + _KEY_SIZE


class UniqueKeys(NamedTuple):
    """Properties cut behind their first one, a unique key of 32 ASCII characters.

    ``firsts`` holds the first properties back to back, `FIRST_SIZE` bytes each; ``rests`` what follows, one item per message, each
    empty or beginning with the separator.
    """

    firsts: bytes
    rests: list[bytes]

    @property
    def has_keys(self) -> bool:
        """Some of the messages may have keys of the application."""
        return any(b"KEYS\x01" in rest for rest in set(self.rests))


FIRST_SIZE = _END


def cut_unique_keys(properties: Sequence[bytes]) -> UniqueKeys | None:
    """``properties``, at least one, cut behind their unique keys; ``None`` when any does not begin with such a key."""
    count = len(properties)
    pieces, rests = _cut_at_common_rest(properties) or (
        [one[:_END] for one in properties],
        [one[_END:] for one in properties],
    )
    firsts = b"".join(pieces)
    # No other \x01 than the names' own, so each name found stands at the begin of its piece.
    if (
        len(firsts) != _END * count
        or firsts[_START - 1 :: _END] != b"\x01" * count
        or firsts.count(b"\x01") != count
        or firsts.count(_NAME) != count
        or b"\x02" in firsts
        or not firsts.isascii()
    ):
        return None
    # Longer keys go on in the rest.
    if any(rest and rest[0] != 2 for rest in set(rests)):
        return None
    return UniqueKeys(firsts, rests)


def _cut_at_common_rest(properties: Sequence[bytes]) -> tuple[list[bytes], list[bytes]] | None:
    """The cut for properties of equal sizes that differ in their first `FIRST_SIZE` bytes only."""
    rest = properties[0][_END:]
    if not rest or set(map(len, properties)) != {_END + len(rest)}:
        return None
    pieces = b"".join(properties).split(rest)
    # Equal distances: each piece is the begin of its properties.
    if pieces.pop() or len(pieces) != len(properties) or set(map(len, pieces)) != {_END}:
        return None
    return pieces, [rest] * len(pieces)
