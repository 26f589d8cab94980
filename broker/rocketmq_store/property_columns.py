"""The properties of many messages at once, for the work that would cost most if done message by message.

Nearly every message has a unique key of 32 characters; where it comes first, as producers put it, what follows is the same for
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
    """The unique keys of messages, 32 ASCII characters each.

    ``firsts`` holds them with their names back to back, `FIRST_SIZE` bytes each; ``rests`` has what else may be found in the
    properties, one item per message, each empty or with whole properties.
    """

    firsts: bytes
    rests: Sequence[bytes]

    @property
    def has_keys(self) -> bool:
        """Some of the messages may have keys of the application."""
        return any(b"KEYS\x01" in rest for rest in set(self.rests))


FIRST_SIZE = _END


def cut_unique_keys(properties: Sequence[bytes]) -> UniqueKeys | None:
    """The unique keys of ``properties``, at least one; ``None`` when any has none, or an unusual one."""
    cut = _cut_at_common_rest(properties) or _cut_one_by_one(properties)
    if cut is None:
        return None
    pieces, rests = cut
    firsts = b"".join(pieces)
    # No other \x01 than the names' own, so each name found stands at the begin of its piece.
    if (
        len(firsts) != _END * len(properties)
        or firsts[_START - 1 :: _END] != b"\x01" * len(properties)
        or firsts.count(b"\x01") != len(properties)
        or firsts.count(_NAME) != len(properties)
        or b"\x02" in firsts
        or not firsts.isascii()
    ):
        return None
    return UniqueKeys(firsts, rests)


def _cut_one_by_one(properties: Sequence[bytes]) -> tuple[list[bytes], Sequence[bytes]] | None:
    """The unique keys, wherever they stand; half and committed messages have other properties before them."""
    pieces = []
    for one in properties:
        start = one.find(_NAME)
        end = start + _END
        if start < 0 or (start and one[start - 1] != 2) or one[end : end + 1] not in (b"", b"\x02"):
            return None
        pieces.append(one[start:end])
    return pieces, properties


def _cut_at_common_rest(properties: Sequence[bytes]) -> tuple[list[bytes], list[bytes]] | None:
    """The cut for properties of equal sizes that differ in their first `FIRST_SIZE` bytes only."""
    rest = properties[0][_END:]
    if rest[:1] != b"\x02" or set(map(len, properties)) != {_END + len(rest)}:
        return None
    pieces = b"".join(properties).split(rest)
    # Equal distances: each piece is the begin of its properties.
    if pieces.pop() or len(pieces) != len(properties) or set(map(len, pieces)) != {_END}:
        return None
    return pieces, [rest] * len(pieces)
