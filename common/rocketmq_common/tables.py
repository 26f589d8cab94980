"""The form of a broker's configuration tables on disk: Apache's JSON and one entry more, which Apache's broker passes over.

The last entry of a file has generation and checksum of what stands before it, so that a table that a disk changed is told from one
that was written so. Files without it (Apache's own, or edited by hand with that entry removed) are taken as they are.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec

from rocketmq_common import javajson

CHECKSUM_KEY: Final = "tableChecksum"
# At the beginning of a line of the outermost object: no string of the content can hold a line break.
_CHECKSUM_START: Final = b'\n "%b": "' % CHECKSUM_KEY.encode()


class Table(NamedTuple):
    """What a file holds, and which generation of it; 0 when the file does not say."""

    content: dict[str, Any]
    generation: int


def encode_table(data: bytes, generation: int) -> bytes:
    """The file for ``data``, a JSON object: formatted, with generation and checksum as its last entry."""
    body = msgspec.json.format(data, indent=1).removesuffix(b"}").rstrip()
    separator = b"" if body == b"{" else b","
    return b'%b%b%b%d %08x"\n}' % (body, separator, _CHECKSUM_START, generation, _checksum(body, generation))


def decode_table(text: bytes) -> Table:
    """The content of a file. Raises ValueError, in words, when it cannot be read or is not what was written."""
    body, found, tail = text.rpartition(_CHECKSUM_START)
    generation = 0
    if found:
        numbers = tail.partition(b'"')[0].split()
        if len(numbers) != 2 or not numbers[0].isdigit():
            raise ValueError(f"has a damaged {CHECKSUM_KEY}")
        generation = int(numbers[0])
        if b"%08x" % _checksum(body.removesuffix(b","), generation) != numbers[1]:
            raise ValueError(
                f"does not fit its checksum, so it is damaged, or was edited: then remove its last entry, {CHECKSUM_KEY}"
            )
    try:
        value = javajson.loads(text)
    except javajson.JavaJsonError as error:
        raise ValueError(f"cannot be parsed ({error})") from error
    if not isinstance(value, dict):
        raise ValueError("holds no JSON object")
    value.pop(CHECKSUM_KEY, None)
    return Table(value, generation)


def _checksum(body: bytes, generation: int) -> int:
    return crc32(b"%d" % generation, crc32(body))
