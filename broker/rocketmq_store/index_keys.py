"""Index hashes of the keys that messages carry: their unique key and those of the application (KEYS, separated by blanks)."""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul

from rocketmq_common.hashing import java_hash_from
from rocketmq_store.property_columns import FIRST_SIZE, UniqueKeys, cut_unique_keys
from rocketmq_store.tags import find_value

# physical offset, store timestamp ms, hash of "topic#", properties.
IndexNote = tuple[int, int, int, bytes]
# Key hashes, physical offsets, store timestamps in ms: one item per entry.
EntryColumns = tuple[Sequence[int], Sequence[int], Sequence[int]]

_PREFIX_CACHE_SIZE_MAX = 8192
UNIQUE_KEY_TAIL_SIZE = 4
_NAME_SIZE = len(b"UNIQ_KEY\x01")
UNIQUE_KEY_SIZE = FIRST_SIZE - _NAME_SIZE
_PREFIX_SIZE = UNIQUE_KEY_SIZE - UNIQUE_KEY_TAIL_SIZE
_PREFIX_END = _NAME_SIZE + _PREFIX_SIZE
# Four ASCII characters add at most this.
_TAIL_MAX = 127 * (29791 + 961 + 31 + 1)
_MASK = 0xFFFFFFFF
_SIGN = 0x80000000
# 31^n mod 2^32 for n = 127 … 0: the last len(key) of them weigh the characters of a key.
_POWERS = [pow(31, n, 1 << 32) for n in range(127, -1, -1)]
_POWERS_BY_SIZE = [pow(31, n, 1 << 32) for n in range(128)]

_prefix_hashes: dict[bytes, int] = {}


def key_hash(topic_hash: int, key: bytes) -> int:
    """Index hash of ``topic#key``: absolute value of Java's hash, 0 for the one that has none.

    ``topic_hash`` is the hash of ``topic#``. Unique keys of one client and millisecond differ in their last four characters
    only, so the hash of all but those is remembered.
    """
    size = len(key)
    if size > 127 or not key.isascii():
        value = java_hash_from(topic_hash, key.decode("utf-8", "replace"))
    elif size > UNIQUE_KEY_TAIL_SIZE:
        prefix = key[:-UNIQUE_KEY_TAIL_SIZE]
        value = (
            topic_hash * _POWERS_BY_SIZE[size]
            + _prefix_hash(prefix) * 923521
            + key[-4] * 29791
            + key[-3] * 961
            + key[-2] * 31
            + key[-1]
        ) & _MASK
    else:
        value = topic_hash
        for character in key:
            value = value * 31 + character
        value &= _MASK
    if value & _SIGN:
        value = 0x100000000 - value
        return 0 if value == _SIGN else value
    return value


def index_entries(notes: list[IndexNote]) -> EntryColumns:
    """The entries for ``notes``, which must not be empty: of each message the unique key first, then its other keys."""
    physical_offsets, timestamps_ms, topic_hashes, properties = zip(*notes, strict=True)
    unique_keys = cut_unique_keys(properties)
    if unique_keys is None:
        return _entries_one_by_one(notes)
    hashes = unique_key_hashes(unique_keys, topic_hashes)
    if not unique_keys.has_keys:
        return hashes, physical_offsets, timestamps_ms
    entries: list[tuple[int, int, int]] = []
    for unique_hash, rest, note in zip(hashes, unique_keys.rests, notes, strict=True):
        entries.append((unique_hash, note[0], note[1]))
        _add_keys(entries, note, rest)
    return _columns(entries)


def unique_key_hashes(unique_keys: UniqueKeys, topic_hashes: Sequence[int]) -> list[int]:
    """`key_hash` of many unique keys: those of one client and millisecond share all but their last four characters."""
    firsts = unique_keys.firsts
    count = len(topic_hashes)
    topic_hash = topic_hashes[0]
    tails = [firsts[column::FIRST_SIZE] for column in range(_PREFIX_END, FIRST_SIZE)]
    if firsts.count(firsts[:_PREFIX_END]) == count and topic_hashes.count(topic_hash) == count:
        base = unique_key_base(topic_hash, firsts[_NAME_SIZE:_PREFIX_END])
        if base + _TAIL_MAX < _SIGN:
            return [base + a * 29791 + b * 961 + c * 31 + d for a, b, c, d in zip(*tails, strict=True)]
        if base >= _SIGN + 1 and base + _TAIL_MAX < 1 << 32:
            base = (1 << 32) - base
            return [base - a * 29791 - b * 961 - c * 31 - d for a, b, c, d in zip(*tails, strict=True)]
    prefixes = [firsts[start : start + _PREFIX_SIZE] for start in range(_NAME_SIZE, len(firsts), FIRST_SIZE)]
    begins = list(zip(topic_hashes, prefixes, strict=True))
    base_of = {begin: unique_key_base(*begin) for begin in set(begins)}
    values = [
        (base_of[begin] + a * 29791 + b * 961 + c * 31 + d) & _MASK
        for begin, a, b, c, d in zip(begins, *tails, strict=True)
    ]
    return [value if value < _SIGN else (0x100000000 - value) % _SIGN for value in values]


def unique_key_base(topic_hash: int, prefix: bytes) -> int:
    """What all but the last four characters of a unique key add to its hash, below 2^32."""
    return (topic_hash * _POWERS_BY_SIZE[UNIQUE_KEY_SIZE] + _prefix_hash(prefix) * 923521) & _MASK


def _prefix_hash(prefix: bytes) -> int:
    value = _prefix_hashes.get(prefix)
    if value is None:
        if len(_prefix_hashes) >= _PREFIX_CACHE_SIZE_MAX:
            _prefix_hashes.clear()
        value = _prefix_hashes[prefix] = sum(map(mul, prefix, _POWERS[128 - len(prefix) :])) & _MASK
    return value


def _entries_one_by_one(notes: list[IndexNote]) -> EntryColumns:
    entries: list[tuple[int, int, int]] = []
    for note in notes:
        properties = note[3]
        if b"UNIQ_KEY\x01" in properties:
            unique_key = find_value(properties, b"UNIQ_KEY\x01")
            if unique_key:
                entries.append((key_hash(note[2], unique_key), note[0], note[1]))
        _add_keys(entries, note, properties)
    return _columns(entries)


def _add_keys(entries: list[tuple[int, int, int]], note: IndexNote, properties: bytes) -> None:
    if b"KEYS\x01" in properties:
        keys = find_value(properties, b"KEYS\x01")
        if keys is not None:
            entries.extend((key_hash(note[2], key), note[0], note[1]) for key in keys.split(b" ") if key)


def _columns(entries: list[tuple[int, int, int]]) -> EntryColumns:
    if not entries:
        return (), (), ()
    hashes, physical_offsets, timestamps_ms = zip(*entries, strict=True)
    return hashes, physical_offsets, timestamps_ms
