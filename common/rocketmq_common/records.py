"""The stored message: one layout for commit log, pull responses, queries and replication.

Layout (apache/rocketmq 5.5 MessageDecoder, CommitLog), integers big-endian, B and S are 8 (IPv4) or 20 (IPv6) bytes:

    0   total size i32        whole record, this field included
    4   magic u32             0xDAA320A7 (v1), or 0xDAA320AB (v2: topic length takes two bytes)
    8   body CRC i32          crc32(stored body) & 0x7FFFFFFF
    12  queue id i32
    16  flag i32              the client's own
    20  queue offset i64      0 for prepared and rolled back transactions
    28  physical offset i64   place of this record in the commit log; a stale block gives itself away by it
    36  sys flag i32
    40  born timestamp i64    ms
    48  born host B           address bytes, then port i32
        store timestamp i64   ms
        store host S
        reconsume times i32
        prepared transaction offset i64
        body length i32, body     exactly as the client sent it, compressed or not
        topic length u8 (v1) or u16 (v2), topic
        properties length u16, properties

A filler record (total size, magic 0xCBD43194, then anything) ends a full segment and is never sent to a client.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final
from zlib import crc32

import msgspec

from rocketmq_common import sysflags
from rocketmq_common.message_ids import offset_message_id, unpack_host
from rocketmq_common.properties import PROPERTIES_SIZE_MAX, parse_properties

MAGIC_V1: Final = 0xDAA320A7
MAGIC_V2: Final = 0xDAA320AB
MAGIC_BLANK: Final = 0xCBD43194
BLANK_SIZE: Final = 8
CRC_MASK: Final = 0x7FFFFFFF

QUEUE_OFFSET_POSITION: Final = 20
PHYSICAL_OFFSET_POSITION: Final = 28
SYS_FLAG_POSITION: Final = 36
BORN_HOST_POSITION: Final = 48

# Up to the body, for IPv4 hosts on both sides: by far the most frequent record.
HEAD_V4: Final = struct.Struct(">iIiiiqqiq8sq8siqi")
_HEADS: Final = {
    0: HEAD_V4,
    sysflags.BORN_HOST_V6: struct.Struct(">iIiiiqqiq20sq8siqi"),
    sysflags.STORE_HOST_V6: struct.Struct(">iIiiiqqiq8sq20siqi"),
    sysflags.BORN_HOST_V6 | sysflags.STORE_HOST_V6: struct.Struct(">iIiiiqqiq20sq20siqi"),
}
HOST_FLAGS: Final = sysflags.BORN_HOST_V6 | sysflags.STORE_HOST_V6
_PREFIX: Final = struct.Struct(">iI")
_SHORT: Final = struct.Struct(">H")
TOPIC_V1_SIZE_MAX: Final = 127


class RecordError(ValueError):
    """Bytes that are no valid record; the message says what is wrong and where."""


class StoredMessage(msgspec.Struct, kw_only=True, gc=False):
    """One message as the commit log holds it. Offsets are bytes or queue positions as named, times are ms."""

    topic: str
    body: bytes
    properties: str = ""
    queue_id: int = 0
    flag: int = 0
    queue_offset: int = 0
    physical_offset: int = 0
    sys_flag: int = 0
    born_timestamp: int = 0
    born_host: bytes = b"\x7f\x00\x00\x01\x00\x00\x00\x00"
    store_timestamp: int = 0
    store_host: bytes = b"\x7f\x00\x00\x01\x00\x00\x00\x00"
    reconsume_times: int = 0
    prepared_offset: int = 0
    body_crc: int = 0
    size: int = 0

    def property_map(self) -> dict[str, str]:
        """The properties as a new dictionary."""
        return parse_properties(self.properties)

    @property
    def message_id(self) -> str:
        """The offset message id, which names this record at its broker."""
        return offset_message_id(self.store_host, self.physical_offset)

    @property
    def store_address(self) -> str:
        """``ip:port`` of the broker that stored it."""
        host, port = unpack_host(self.store_host)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def head_for(sys_flag: int) -> struct.Struct:
    """The fixed part of a record, which depends on the two host bits of ``sys_flag``."""
    return _HEADS[sys_flag & HOST_FLAGS]


def host_flags(born_host: bytes, store_host: bytes) -> int:
    """The sys flag bits that the two packed hosts require; a client's own bits are never trusted."""
    return (sysflags.BORN_HOST_V6 if len(born_host) == 20 else 0) | (
        sysflags.STORE_HOST_V6 if len(store_host) == 20 else 0
    )


def encoded_size(sys_flag: int, body_size: int, topic_size: int, properties_size: int) -> int:
    """Bytes that a record will take; sizes are encoded bytes."""
    topic_prefix = 2 if topic_size > TOPIC_V1_SIZE_MAX else 1
    return _HEADS[sys_flag & HOST_FLAGS].size + body_size + topic_prefix + topic_size + 2 + properties_size


def encode_message(message: StoredMessage) -> bytes:
    """The record of ``message``; its ``size``, ``body_crc`` and host bits are computed, not taken.

    Raises RecordError when a part does not fit its length field.
    """
    topic = message.topic.encode()
    properties = message.properties.encode()
    if len(topic) > 0xFFFF:
        raise RecordError(f"topic of {len(topic)} bytes does not fit a record (65535 at most)")
    if len(properties) > PROPERTIES_SIZE_MAX:
        raise RecordError(f"properties of {len(properties)} bytes do not fit a record ({PROPERTIES_SIZE_MAX} at most)")
    sys_flag = message.sys_flag & ~HOST_FLAGS | host_flags(message.born_host, message.store_host)
    long_topic = len(topic) > TOPIC_V1_SIZE_MAX
    size = encoded_size(sys_flag, len(message.body), len(topic), len(properties))
    head = head_for(sys_flag).pack(
        size,
        MAGIC_V2 if long_topic else MAGIC_V1,
        crc32(message.body) & CRC_MASK,
        message.queue_id,
        message.flag,
        message.queue_offset,
        message.physical_offset,
        sys_flag,
        message.born_timestamp,
        message.born_host,
        message.store_timestamp,
        message.store_host,
        message.reconsume_times,
        message.prepared_offset,
        len(message.body),
    )
    prefix = _SHORT.pack(len(topic)) if long_topic else bytes((len(topic),))
    return b"".join((head, message.body, prefix, topic, _SHORT.pack(len(properties)), properties))


def decode_message(
    buffer: bytes | bytearray | memoryview, position: int = 0, *, check_crc: bool = False
) -> StoredMessage:
    """Read the record at ``position``; its bytes are copied out of ``buffer``.

    Raises RecordError when the bytes are no complete, consistent record (or the CRC differs, if asked).
    """
    available = len(buffer) - position
    if available < _PREFIX.size:
        raise RecordError(f"{available} bytes at {position} are too few for a record")
    size, magic = _PREFIX.unpack_from(buffer, position)
    if magic not in (MAGIC_V1, MAGIC_V2):
        raise RecordError(f"magic {magic:#010x} at {position} is no record")
    if not HEAD_V4.size < size <= available:
        raise RecordError(f"record at {position} says {size} bytes, {available} are there")
    (sys_flag,) = struct.unpack_from(">i", buffer, position + SYS_FLAG_POSITION)
    head = _HEADS[sys_flag & HOST_FLAGS]
    if size < head.size + 3:
        raise RecordError(f"record at {position} of {size} bytes is shorter than its fixed part")
    (_, _, body_crc, queue_id, flag, queue_offset, physical_offset, _, born, born_host, stored, store_host, times, prepared,
     body_size) = head.unpack_from(buffer, position)  # fmt: skip
    end = position + size
    body_start = position + head.size
    topic_start = body_start + body_size
    if body_size < 0 or topic_start + 3 > end:
        raise RecordError(f"record at {position}: body of {body_size} bytes does not fit its {size} bytes")
    if magic == MAGIC_V2:
        (topic_size,) = _SHORT.unpack_from(buffer, topic_start)
        topic_start += 2
    else:
        topic_size = buffer[topic_start]
        topic_start += 1
    properties_start = topic_start + topic_size + 2
    if properties_start > end:
        raise RecordError(f"record at {position}: topic of {topic_size} bytes does not fit its {size} bytes")
    (properties_size,) = _SHORT.unpack_from(buffer, properties_start - 2)
    if properties_start + properties_size != end:
        raise RecordError(
            f"record at {position}: parts take {properties_start + properties_size - position} bytes, {size} said"
        )
    body = bytes(buffer[body_start : body_start + body_size])
    if check_crc and crc32(body) & CRC_MASK != body_crc:
        raise RecordError(f"record at {position}: body CRC {crc32(body) & CRC_MASK:#x}, {body_crc:#x} stored")
    try:
        topic = str(buffer[topic_start : topic_start + topic_size], "utf-8")
        properties = str(buffer[properties_start:end], "utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(f"record at {position}: topic or properties are not UTF-8") from error
    return StoredMessage(
        topic=topic,
        body=body,
        properties=properties,
        queue_id=queue_id,
        flag=flag,
        queue_offset=queue_offset,
        physical_offset=physical_offset,
        sys_flag=sys_flag,
        born_timestamp=born,
        born_host=born_host,
        store_timestamp=stored,
        store_host=store_host,
        reconsume_times=times,
        prepared_offset=prepared,
        body_crc=body_crc,
        size=size,
    )


def decode_messages(buffer: bytes | bytearray | memoryview) -> Iterator[StoredMessage]:
    """The records that stand back to back in ``buffer``, as in a pull response; raises RecordError at the first bad one."""
    position = 0
    while position < len(buffer):
        message = decode_message(buffer, position)
        yield message
        position += message.size
