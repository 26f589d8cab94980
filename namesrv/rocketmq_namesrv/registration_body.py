"""The body of REGISTER_BROKER in its three forms: JSON, Java's compressed form, and the bare topic table before 3.0.11.

A compressed body is a zlib stream of items, each an i32 length and that many bytes: data version (JSON), i32 count of topics, one
text line per topic, filter servers (JSON), and from 5.0.0 on an i32 count and the queue mappings of static topics (JSON).
A few kilobytes of zlib can stand for gigabytes, so it is inflated up to a bound and refused beyond.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import msgspec

from rocketmq_common import javajson, versions
from rocketmq_common.topics import DataVersion, TopicConfig
from rocketmq_remoting.bodies import RegisterBrokerBody, TopicConfigSerializeWrapper

INFLATED_SIZE_MAX: Final = 64 << 20  # bytes; some 500 000 topics
ZLIB_FIRST_BYTE: Final = 0x78  # no JSON begins with it
VERSION_WITH_FILTER_SERVERS: Final = 37  # V3_0_11; older brokers send the topic table alone

_decode_body = msgspec.json.Decoder(RegisterBrokerBody, strict=False).decode
_decode_wrapper = msgspec.json.Decoder(TopicConfigSerializeWrapper, strict=False).decode


class RegistrationBodyError(ValueError):
    """A registration body that cannot be read; the message says where and why."""


def checksum(body: bytes) -> int:
    """The value of ``bodyCrc32``: CRC-32 without its highest bit."""
    return zlib.crc32(body) & 0x7FFFFFFF


def decode(body: bytes, *, compressed: bool, version: int) -> RegisterBrokerBody:
    """Read a body sent by a broker of remoting ``version``; an empty one has no topics. Raises RegistrationBodyError."""
    if not body:
        return RegisterBrokerBody(topic_config_serialize_wrapper=TopicConfigSerializeWrapper())
    if version < VERSION_WITH_FILTER_SERVERS:
        return RegisterBrokerBody(
            topic_config_serialize_wrapper=_json(body, TopicConfigSerializeWrapper, _decode_wrapper)
        )
    # Brokers of 5.5 with compressedRegister=true say "compressed: false" and compress all the same [recorded].
    if compressed or body[0] == ZLIB_FIRST_BYTE:
        return _Items(inflate(body)).registration(version)
    decoded: RegisterBrokerBody = _json(body, RegisterBrokerBody, _decode_body)
    return decoded


def inflate(data: bytes, size_max: int = INFLATED_SIZE_MAX) -> bytes:
    """``data`` inflated; raises RegistrationBodyError for broken data and, before holding more, above ``size_max`` bytes."""
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(data, size_max)
        if not stream.eof and (stream.unconsumed_tail or len(inflated) >= size_max):
            raise RegistrationBodyError(f"{len(data)} compressed bytes hold more than the {size_max} allowed")
        if not stream.eof:
            raise RegistrationBodyError(f"the compressed body ends early, after {len(inflated)} inflated bytes")
    except zlib.error as error:
        raise RegistrationBodyError(f"the body is no zlib stream: {error}") from error
    return inflated


def topic_line(config: TopicConfig) -> str:
    """A topic in the compressed form: name, queues, permission, filter type, attributes, separated by spaces."""
    attributes = javajson.dumps(config.attributes).decode()
    return (
        f"{config.topic_name} {config.read_queue_nums} {config.write_queue_nums} {config.perm} "
        f"{config.topic_filter_type} {attributes}"
    )


def encode_compressed(registration: RegisterBrokerBody) -> bytes:
    """The compressed form, as a broker sends it."""
    wrapper = registration.topic_config_serialize_wrapper
    mappings = wrapper.topic_queue_mapping_info_map or {}
    lines = [topic_line(config).encode() for config in wrapper.topic_config_table.values()]
    parts = [
        _item(javajson.dumps(wrapper.data_version)),
        _count(len(lines)),
        *map(_item, lines),
        _item(javajson.dumps(registration.filter_server_list)),
        _count(len(mappings)),
        *(_item(javajson.dumps(mapping)) for mapping in mappings.values()),
    ]
    return zlib.compress(b"".join(parts), 9)


def _count(value: int) -> bytes:
    return value.to_bytes(4, "big", signed=True)


def _item(data: bytes) -> bytes:
    return _count(len(data)) + data


def _json(data: bytes, struct_type: Any, decode_strictly: Any) -> Any:
    try:
        return decode_strictly(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    try:
        return msgspec.convert(_without_nulls(javajson.loads(data)), struct_type, strict=False)
    except (javajson.JavaJsonError, msgspec.ValidationError, TypeError) as error:
        raise RegistrationBodyError(f"the body cannot be read: {error}") from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


class _Items:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def registration(self, version: int) -> RegisterBrokerBody:
        data_version: DataVersion = _json(
            self._bytes(), DataVersion, msgspec.json.Decoder(DataVersion, strict=False).decode
        )
        topics: dict[str, TopicConfig] = {}
        for _ in range(self._number()):
            config = _topic(self._bytes())
            topics[config.topic_name] = config
        filter_servers = _json(self._bytes(), list[str], msgspec.json.Decoder(list[str]).decode)
        mappings: dict[str, Any] = {}
        if version >= versions.V5_0_0 and self._position < len(self._data):
            for _ in range(self._number()):
                mapping = _json(self._bytes(), dict[str, Any], javajson.loads)
                mappings[str(mapping.get("topic", ""))] = mapping
        return RegisterBrokerBody(
            topic_config_serialize_wrapper=TopicConfigSerializeWrapper(
                data_version=data_version, topic_config_table=topics, topic_queue_mapping_info_map=mappings
            ),
            filter_server_list=filter_servers,
        )

    def _number(self) -> int:
        end = self._position + 4
        if end > len(self._data):
            raise RegistrationBodyError(f"the inflated body ends at byte {len(self._data)}, inside a number")
        number = int.from_bytes(self._data[self._position : end], "big", signed=True)
        if not 0 <= number <= len(self._data) - end:
            raise RegistrationBodyError(f"{number} at byte {self._position} of {len(self._data)} is no length or count")
        self._position = end
        return number

    def _bytes(self) -> bytes:
        size = self._number()
        start = self._position
        self._position += size
        return self._data[start : self._position]


def _topic(line: bytes) -> TopicConfig:
    try:
        fields = line.decode().split(" ", 5)
        if len(fields) < 5:
            raise RegistrationBodyError(f"topic line {line[:80]!r}: five fields are needed")
        attributes = javajson.loads(fields[5]) if len(fields) == 6 and fields[5] else {}
        return TopicConfig(
            topic_name=fields[0],
            read_queue_nums=int(fields[1]),
            write_queue_nums=int(fields[2]),
            perm=int(fields[3]),
            topic_filter_type=fields[4],
            attributes={str(k): str(v) for k, v in attributes.items()} if isinstance(attributes, dict) else {},
        )
    except (UnicodeDecodeError, ValueError) as error:
        if isinstance(error, RegistrationBodyError):
            raise
        raise RegistrationBodyError(f"topic line {line[:80]!r}: {error}") from error
