"""Batches whose entries have one shape, as numpy arrays of one row per message: a fraction of what a step per message costs.

Several batches that came together become one array: what a call of numpy costs hardly depends on the number of rows.

One producer's messages mostly have equal sizes: then every field of all records is filled by one assignment. The result is to
the byte what `batch_encoding` makes of the same batch (`tests/test_batch_encoding.py` compares them).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import starmap
from typing import Any, Final
from zlib import crc32

# Read when numpy is loaded: no threads and no buffers for linear algebra, which nothing here does.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from rocketmq_common.batches import ENTRY_SIZE_MIN
from rocketmq_common.properties import PROPERTIES_SIZE_MAX
from rocketmq_common.records import CRC_MASK
from rocketmq_store.appending import Appender, NewMessage
from rocketmq_store.batch_encoding import SEARCHED_NAMES, PropertiesTooLong, RecordHead
from rocketmq_store.consume_queues import UNIT_SIZE, ConsumeQueue
from rocketmq_store.index_files import ENTRY_SIZE, IndexFile, chain
from rocketmq_store.index_keys import UNIQUE_KEY_SIZE, UNIQUE_KEY_TAIL_SIZE, unique_key_base
from rocketmq_store.tags import entry_code

# One row per message, of one of the layouts below.
Rows = NDArray[np.void]

_HEAD: Final = struct.Struct(">iiiii")
_SHORT: Final = struct.Struct(">H")
_KEY_NAME: Final = b"UNIQ_KEY\x01"
_KEY_START: Final = len(_KEY_NAME)
_KEY_END: Final = _KEY_START + UNIQUE_KEY_SIZE
_KEY_POWERS: Final = np.array([pow(31, n, 1 << 32) for n in range(UNIQUE_KEY_SIZE - 1, -1, -1)], np.uint32)
_TOPIC_POWER: Final = pow(31, UNIQUE_KEY_SIZE, 1 << 32)
_UNIT: Final = np.dtype([("offset", ">i8"), ("size", ">i4"), ("code", ">i8")])
_ENTRY: Final = np.dtype([("hash", ">i4"), ("offset", ">i8"), ("seconds", ">i4"), ("previous", ">i4")])
assert _UNIT.itemsize == UNIT_SIZE
assert _ENTRY.itemsize == ENTRY_SIZE
# Shapes of batches whose layouts are kept: each producer has few.
_LAYOUTS_MAX: Final = 256


class ArrayBatch:
    """As `EncodedBatch`, for messages of one size; possibly of several batches with ``counts`` messages each."""

    def __init__(
        self, data: bytearray, physical_offsets: range, entries: Rows, separator: bytes, counts: list[int]
    ) -> None:
        self.counts = counts
        self.data = data
        self.physical_offsets = physical_offsets
        self._entries = entries
        self._separator = separator

    @property
    def sizes(self) -> list[int]:
        """Of the records."""
        return [self.physical_offsets.step] * len(self.physical_offsets)

    @cached_property
    def properties(self) -> list[bytes]:
        """What is searched and indexed: of each message its own properties."""
        separator = self._separator
        return [own.tobytes() + separator for own in self._entries["own"]]

    @cached_property
    def _rest(self) -> bytes | None:
        """What follows each unique key of usual size; ``None`` when that differs, or any message has no such key."""
        entries, fields = self._entries, self._entries.dtype.names or ()
        if "tail" not in fields or not _is_repeated(_KEY_NAME, entries["name"]):
            return None
        if not entries["key"].tobytes().isalnum():
            return None
        if "rest" not in fields:
            return b""
        rest = entries["rest"][0].tobytes()
        return rest if rest[0] == 2 and _is_repeated(rest, entries["rest"]) else None

    @cached_property
    def codes(self) -> list[int]:
        """Tags codes."""
        if self._rest is not None:
            # No tags stand before the rest.
            return [entry_code(self._rest + self._separator)] * len(self._entries)
        return [entry_code(one) for one in self.properties]

    def units(self) -> bytes:
        """Entries of the queue, back to back."""
        units = np.empty(len(self._entries), _UNIT)
        units["offset"] = _arange(self.physical_offsets)
        units["size"] = self.physical_offsets.step
        units["code"] = self.codes if self._rest is None else self.codes[0]
        return units.tobytes()

    def key_hashes(self, topic_hash: int) -> ArrayHashes | None:
        """Index hashes of the unique keys; ``None`` when messages may have other keys, or none that is usual."""
        rest = self._rest
        if rest is None or b"KEYS\x01" in rest:
            return None
        entries = self._entries
        prefix = entries["prefix"][0].tobytes()
        if _is_repeated(prefix, entries["prefix"]):
            # Unique keys of one client and millisecond.
            base, varying, powers = (
                unique_key_base(topic_hash, prefix),
                entries["tail"],
                _KEY_POWERS[-UNIQUE_KEY_TAIL_SIZE:],
            )
        else:
            base, varying, powers = topic_hash * _TOPIC_POWER & 0xFFFFFFFF, entries["key"], _KEY_POWERS
        hashes = varying.astype(np.uint32) @ powers + np.uint32(base)
        absolute = np.abs(hashes.view(np.int32))
        # The one value that has no absolute counts as 0, as in Java.
        absolute[absolute < 0] = 0
        return ArrayHashes(absolute)


class ArrayHashes:
    """Key hashes of consecutive messages of one store time; a slice of it is one, too."""

    def __init__(self, values: NDArray[np.int32]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, part: slice) -> ArrayHashes:
        return ArrayHashes(self._values[part])

    def put(self, file: IndexFile, physical_offsets: Sequence[int], timestamp_ms: int) -> None:
        """Add entries for them to an index file that has reserved their places."""
        values = self._values
        count, number = len(values), file.count
        file.begin_with(physical_offsets[0], timestamp_ms)
        table = np.frombuffer(file.slots, ">u4")
        slots = values % file.slot_count
        slot_list, newest = slots.tolist(), table[slots].tolist()
        if max(newest) < number and len(set(slot_list)) == count:
            used_count = newest.count(0)
        else:
            used_count = chain(slot_list, newest, number)
        entries = np.empty(count, _ENTRY)
        entries["hash"] = values
        entries["offset"] = _arange(physical_offsets)
        entries["seconds"] = file.seconds(timestamp_ms)
        entries["previous"] = newest
        file.write_entries(entries.tobytes())
        # Of entries that share a slot, the last assigned, the youngest, stays in it.
        table[slots] = np.arange(number, number + count)
        file.end_with(count, used_count, physical_offsets[-1], timestamp_ms)


def encode_even(
    messages: Sequence[NewMessage],
    queues: Sequence[ConsumeQueue],
    single: Appender,
    physical_offset: int,
    timestamp: int,
) -> ArrayBatch | None:
    """Batches as they stand from ``physical_offset`` on; ``None`` when their entries differ in shape, or need more care.

    The messages may differ in queue (``queues``, with offsets from each one's `next_offset` on), born timestamp and body only.
    Raises PropertiesTooLong.
    """
    message, queue = messages[0], queues[0]
    common = message.properties
    if queue.is_schedule or single.settings.append_record_crc or any(name in common for name in SEARCHED_NAMES):
        return None
    batch = message.body if len(messages) == 1 else b"".join([one.body for one in messages])
    entries = _split(batch)
    if entries is None or any(len(one.body) % entries.itemsize for one in messages):
        return None
    separator = _separator(entries, common)
    if separator is None:
        return None
    flag, body_size = _HEAD.unpack_from(batch)[3:]
    own_size = entries.dtype["own"].itemsize
    properties_size = own_size + len(separator) + len(common)
    if properties_size > PROPERTIES_SIZE_MAX:
        raise PropertiesTooLong(properties_size)

    head = RecordHead(message, queue, single.store_host, timestamp)
    between = queue.tail_part + _SHORT.pack(properties_size)
    own_start = head.size + body_size + len(between)
    size = own_start + properties_size
    count = len(entries)
    offsets = range(physical_offset, physical_offset + size * count, size)
    template = b"".join(
        (head.pack(size, bytes(body_size), flag, 0, 0), bytes(body_size), between, bytes(own_size), separator, common)
    )
    data = bytearray(template * count)
    records = np.frombuffer(data, _record_layout(head.size, body_size, own_start, own_size, size))
    bodies = _bodies(body_size, entries.itemsize).iter_unpack(batch)
    records["crc"] = np.fromiter(starmap(crc32, bodies), np.uint32, count) & CRC_MASK
    records["physical_offset"] = _arange(offsets)
    records["body"] = entries["body"]
    records["own"] = entries["own"]
    queue_offsets = records["queue_offset"]
    counts = [len(one.body) // entries.itemsize for one in messages]
    if len(messages) == 1:
        queue_offsets[:] = np.arange(queue.next_offset, queue.next_offset + count)
    else:
        records["queue_id"] = np.repeat([one.queue_id for one in messages], counts)
        records["born_timestamp"] = np.repeat([one.born_timestamp_ms for one in messages], counts)
        next_offsets: dict[int, int] = {}
        start = 0
        for one, part in zip(queues, counts, strict=True):
            first = next_offsets.get(id(one), one.next_offset)
            queue_offsets[start : start + part] = np.arange(first, first + part)
            next_offsets[id(one)] = first + part
            start += part
    return ArrayBatch(data, offsets, entries, separator, counts)


def _split(batch: bytes) -> Rows | None:
    """One row per entry when all have the sizes and the flag of the first, which add up."""
    end = len(batch)
    if end < ENTRY_SIZE_MIN:
        return None
    size, _, _, _, body_size = _HEAD.unpack_from(batch)
    if size <= ENTRY_SIZE_MIN or end % size or not 0 < body_size < size - ENTRY_SIZE_MIN:
        return None
    body_end = _HEAD.size + body_size
    if body_end + 2 + (batch[body_end] << 8 | batch[body_end + 1]) != size:
        return None
    entries: Rows = np.frombuffer(batch, _entry_layout(size, body_size))
    if not _is_repeated(batch[: _HEAD.size], entries["head"]):
        return None
    return entries if _is_repeated(batch[body_end : body_end + 2], entries["own_size"]) else None


def _separator(entries: Rows, common: bytes) -> bytes | None:
    """What stands between the own properties and ``common``; ``None`` when that is not the same for all."""
    lasts = entries["last"].tobytes()
    closed_count = lasts.count(2)
    if not common or closed_count == len(lasts):
        return b""
    return None if closed_count else b"\x02"


def _is_repeated(row: bytes, rows: NDArray[Any]) -> bool:
    """All rows are ``row``."""
    return rows.tobytes() == row * len(rows)


def _arange(values: Sequence[int]) -> NDArray[np.int64]:
    assert isinstance(values, range)
    return np.arange(values.start, values.stop, values.step)


@lru_cache(_LAYOUTS_MAX)
def _bodies(body_size: int, entry_size: int) -> struct.Struct:
    return struct.Struct(f"{_HEAD.size}x{body_size}s{entry_size - _HEAD.size - body_size}x")


@lru_cache(_LAYOUTS_MAX)
def _entry_layout(size: int, body_size: int) -> np.dtype[np.void]:
    """An entry of a batch, both body and properties not empty; the parts of a unique key when there is room for one."""
    own = _HEAD.size + body_size + 2
    own_size = size - own
    fields: dict[str, tuple[Any, int]] = {
        "head": (_void(_HEAD.size), 0),
        "body": (_void(body_size), _HEAD.size),
        "own_size": (_void(2), own - 2),
        "own": (_void(own_size), own),
        "last": (_void(1), size - 1),
    }
    if own_size >= _KEY_END:
        tail = own + _KEY_END - UNIQUE_KEY_TAIL_SIZE
        fields["name"] = (_void(_KEY_START), own)
        fields["key"] = ((np.uint8, (UNIQUE_KEY_SIZE,)), own + _KEY_START)
        fields["prefix"] = (_void(UNIQUE_KEY_SIZE - UNIQUE_KEY_TAIL_SIZE), own + _KEY_START)
        fields["tail"] = ((np.uint8, (UNIQUE_KEY_TAIL_SIZE,)), tail)
    if own_size > _KEY_END:
        fields["rest"] = (_void(own_size - _KEY_END), own + _KEY_END)
    return _layout(fields, size)


@lru_cache(_LAYOUTS_MAX)
def _record_layout(head_size: int, body_size: int, own_start: int, own_size: int, size: int) -> np.dtype[np.void]:
    """What differs between the records of a batch; positions as in `rocketmq_common.records`."""
    return _layout(
        {
            "crc": (">u4", 8),
            "queue_id": (">i4", 12),
            "queue_offset": (">i8", 20),
            "physical_offset": (">i8", 28),
            "born_timestamp": (">i8", 40),
            "body": (_void(body_size), head_size),
            "own": (_void(own_size), own_start),
        },
        size,
    )


def _void(size: int) -> str:
    return f"V{size}"


def _layout(fields: dict[str, tuple[Any, int]], size: int) -> np.dtype[np.void]:
    formats, offsets = zip(*fields.values(), strict=True)
    return np.dtype({"names": list(fields), "formats": formats, "offsets": offsets, "itemsize": size})
