"""Vectors that Apache's own 5.5 classes produced (recorded by e2e/golden/record.py), read and written by ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rocketmq_common import javajson
from rocketmq_common.batches import decode_batch, encode_batch
from rocketmq_common.hashing import java_hash
from rocketmq_common.message_ids import offset_message_id, pack_host, parse_offset_message_id
from rocketmq_common.properties import encode_properties, parse_properties
from rocketmq_common.records import decode_message, encode_message
from rocketmq_remoting.bodies import HeartbeatData, LockBatchRequestBody, TopicRouteData
from rocketmq_remoting.commands import decode_command, encode_binary
from rocketmq_remoting.errors import FrameError
from rocketmq_remoting.frames import Frame, FrameReader

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "vectors.json").read_text())


def cases(name: str) -> list[Any]:
    return [pytest.param(case, id=str(index)) for index, case in enumerate(VECTORS[name])]


@pytest.mark.parametrize("case", cases("frames"))
def test_frames_of_java_are_understood(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["frame_hex"])
    (frame,) = FrameReader().feed(data)
    command = decode_command(frame)
    for name in ("code", "language", "version", "opaque", "flag"):
        assert getattr(command, name) == case[name], name
    assert (command.remark or "") == (case["remark"] or "")
    # A value without characters reads back as absent, in Java too.
    assert command.ext_fields() == {
        k: v for k, v in (case["ext_fields"] or {}).items() if v
    } or command.ext_fields() == (case["ext_fields"] or {})
    assert command.body.hex() == case["body_hex"]


@pytest.mark.parametrize("case", [c for c in cases("frames") if c.values[0]["serialization"] == "ROCKETMQ"])
def test_binary_frames_are_written_as_java_reads_them(case: dict[str, Any]) -> None:
    (frame,) = FrameReader().feed(bytes.fromhex(case["frame_hex"]))
    command = decode_command(frame)
    (again,) = FrameReader().feed(encode_binary(command))
    assert decode_command(again).ext_fields() == command.ext_fields()
    assert (again.body, again.serialize_type) == (frame.body, 1)


@pytest.mark.parametrize("case", [c for c in cases("headers") if "error" not in c.values[0]])
def test_headers_that_java_accepts_are_accepted(case: dict[str, Any]) -> None:
    command = decode_command(Frame(0, case["header"].encode(), b""))
    for name in {"code", "opaque", "flag", "version"} & case.keys():
        assert getattr(command, name) == case[name], name


@pytest.mark.parametrize("case", [c for c in cases("headers") if "error" in c.values[0]])
def test_headers_that_java_refuses_are_refused(case: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        decode_command(Frame(0, case["header"].encode(), b""))


@pytest.mark.parametrize("case", cases("records"))
def test_records_equal_java_byte_for_byte(case: dict[str, Any]) -> None:
    record = bytes.fromhex(case["record_hex"])
    message = decode_message(record, check_crc=True)
    assert message.topic == case["topic"]
    assert message.properties == case["properties"]
    assert message.property_map() == (case["decoded_properties"] or {})
    assert message.queue_offset == case["queue_offset"]
    assert message.physical_offset == case["physical_offset"]
    assert message.born_host == pack_host(case["born_host"], case["born_port"])
    assert message.store_host == pack_host(case["store_host"], case["store_port"])
    assert message.message_id == case["decoded_message_id"]
    assert encode_message(message) == record


@pytest.mark.parametrize("case", cases("batches"))
def test_batches_equal_java_byte_for_byte(case: dict[str, Any]) -> None:
    body = bytes.fromhex(case["body_hex"])
    entries = decode_batch(body)
    assert [(e.flag, e.body.hex(), e.properties.decode()) for e in entries] == [
        (m["flag"], m["body_hex"], m["properties"]) for m in case["messages"]
    ]
    assert encode_batch(entries) == body


@pytest.mark.parametrize("case", cases("properties"))
def test_properties_are_written_as_by_java(case: dict[str, Any]) -> None:
    assert parse_properties(encode_properties(case["properties"])) == parse_properties(case["encoded"])


@pytest.mark.parametrize("case", cases("parsed_properties"))
def test_properties_are_read_as_by_java(case: dict[str, Any]) -> None:
    assert parse_properties(case["encoded"]) == case["properties"]


@pytest.mark.parametrize("case", cases("message_ids"))
def test_offset_ids_equal_java(case: dict[str, Any]) -> None:
    packed = pack_host(case["host"], case["port"])
    assert offset_message_id(packed, case["physical_offset"]) == case["message_id"]
    assert parse_offset_message_id(case["message_id"])[1:] == (case["port"], case["physical_offset"])


@pytest.mark.parametrize("case", cases("java_hashes"))
def test_hashes_equal_java(case: dict[str, Any]) -> None:
    assert java_hash(case["text"]) == case["hash"]


def text_of(name: str) -> str:
    text: str = VECTORS["bodies"][name]["text"]
    return text


@pytest.mark.parametrize("name", [n for n, body in VECTORS["bodies"].items() if "text" in body])
def test_every_body_of_java_is_readable(name: str) -> None:
    assert isinstance(javajson.loads(text_of(name)), dict)


def test_the_heartbeat_of_java_has_our_fields() -> None:
    heartbeat = msgspec.convert(javajson.loads(text_of("heartbeat")), HeartbeatData)
    assert heartbeat.client_id
    assert heartbeat.consumer_data_set[0].subscription_data_set


def test_the_route_of_java_has_our_fields() -> None:
    route = msgspec.convert(javajson.loads(text_of("topic_route")), TopicRouteData, strict=False)
    assert route.broker_datas[0].broker_addrs == {0: "10.0.0.1:10911", 1: "10.0.0.2:10911"}
    assert route.order_topic_conf == "broker-a:4"


def test_the_lock_request_of_java_has_our_fields() -> None:
    body = msgspec.convert(javajson.loads(text_of("lock_batch_request")), LockBatchRequestBody)
    assert body.mq_set


def test_object_keyed_maps_are_written_byte_for_byte() -> None:
    text = text_of("reset_offset")
    table = javajson.loads(text)["offsetTable"]
    written = javajson.dumps_object_keyed((key.as_dict(), value) for key, value in table.items())
    assert written.decode() in text
