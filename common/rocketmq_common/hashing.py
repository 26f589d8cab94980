"""Java's ``String.hashCode``, which RocketMQ stores on disk (tags codes, index slots) and compares on the wire."""

from __future__ import annotations

_MASK = 0xFFFFFFFF


def java_hash_from(seed: int, text: str) -> int:
    """Continue the hash ``seed`` (any sign) over ``text``; return it as an unsigned 32-bit integer.

    ``java_hash_from(java_hash_from(0, a), b) == java_hash_from(0, a + b)``, so a shared prefix is hashed once.
    """
    value = seed & _MASK
    if text.isascii():
        for unit in text.encode("ascii"):
            value = value * 31 + unit
    else:
        # Java hashes UTF-16 code units: a character outside the basic plane counts as its two surrogates.
        units = memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H")
        for unit in units:
            value = value * 31 + unit
    return value & _MASK


def signed32(value: int) -> int:
    """Reinterpret the low 32 bits of ``value`` as a signed integer."""
    value &= _MASK
    return value - 0x100000000 if value & 0x80000000 else value


def java_hash(text: str) -> int:
    """``text.hashCode()`` of Java: signed 32 bits."""
    return signed32(java_hash_from(0, text))
