"""Body compression as RocketMQ marks it in a message's sys flag. Brokers never look inside; both ends of a topic must agree.

zlib is what every client reads; LZ4 (frame format) and zstd need Java 5.x clients or this one.
"""

from __future__ import annotations

import zlib
from enum import Enum

from rocketmq_common import sysflags

ZLIB_LEVEL = 5  # Java's default, a good trade of CPU for size
BODY_SIZE_MAX = 64 << 20  # bytes after inflation; a small record must not become gigabytes
_ZSTD_LEVEL = 3
_ZSTD_PIECE = 1024


class Compression(Enum):
    """Algorithm; the value is the sys flag's bits, the compressed bit included."""

    ZLIB = sysflags.COMPRESSED | sysflags.COMPRESSION_ZLIB
    LZ4 = sysflags.COMPRESSED | sysflags.COMPRESSION_LZ4
    ZSTD = sysflags.COMPRESSED | sysflags.COMPRESSION_ZSTD


class DecompressionError(ValueError):
    """A body whose bytes are not what its sys flag says, or that would inflate beyond `BODY_SIZE_MAX`."""


def compress(body: bytes, algorithm: Compression) -> bytes:
    """The compressed form of ``body``."""
    if algorithm is Compression.ZLIB:
        return zlib.compress(body, ZLIB_LEVEL)
    if algorithm is Compression.LZ4:
        import lz4.frame

        packed: bytes = lz4.frame.compress(body)
        return packed
    import zstandard

    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(body)


def decompress(body: bytes, sys_flag: int) -> bytes:
    """The plain form of a stored body; unchanged when ``sys_flag`` does not say compressed.

    Raises DecompressionError.
    """
    if not sys_flag & sysflags.COMPRESSED:
        return body
    kind = sys_flag & sysflags.COMPRESSION_MASK
    try:
        if kind == sysflags.COMPRESSION_LZ4:
            return _decompress_lz4(body)
        if kind == sysflags.COMPRESSION_ZSTD:
            return _decompress_zstd(body)
        inflater = zlib.decompressobj()
        plain = inflater.decompress(body, BODY_SIZE_MAX)
        if inflater.unconsumed_tail:
            raise DecompressionError(f"body inflates to more than {BODY_SIZE_MAX} bytes")
        if not inflater.eof:
            raise DecompressionError("zlib body is cut off")
        return plain
    except zlib.error as error:
        raise DecompressionError(f"body is no zlib stream: {error}") from error


def _decompress_lz4(body: bytes) -> bytes:
    import lz4.frame

    inflater = lz4.frame.LZ4FrameDecompressor()
    try:
        plain: bytes = inflater.decompress(body, max_length=BODY_SIZE_MAX)
    except RuntimeError as error:
        raise DecompressionError(f"body is no LZ4 frame: {error}") from error
    if not inflater.eof:
        raise DecompressionError(f"LZ4 body is cut off or inflates to more than {BODY_SIZE_MAX} bytes")
    return plain


def _decompress_zstd(body: bytes) -> bytes:
    import zstandard

    inflater = zstandard.ZstdDecompressor().decompressobj()
    parts: list[bytes] = []
    size = 0
    try:
        # In small pieces, for this interface has no bound of its own: one piece cannot inflate to more than some megabytes.
        for start in range(0, len(body), _ZSTD_PIECE):
            parts.append(inflater.decompress(body[start : start + _ZSTD_PIECE]))
            size += len(parts[-1])
            if size > BODY_SIZE_MAX:
                raise DecompressionError(f"body inflates to more than {BODY_SIZE_MAX} bytes")
            if inflater.eof:
                break
    except zstandard.ZstdError as error:
        raise DecompressionError(f"body is no zstd frame: {error}") from error
    if not inflater.eof:
        raise DecompressionError("zstd body is cut off")
    return b"".join(parts)
