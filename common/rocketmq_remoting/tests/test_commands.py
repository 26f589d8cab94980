"""Commands in both serializations, as Java and others really write them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_remoting.codes import RequestCode
from rocketmq_remoting.commands import (
    Header,
    Response,
    decode_command,
    encode_binary,
    encode_request,
    encode_response,
    header_fields,
)
from rocketmq_remoting.errors import FrameError, HeaderError
from rocketmq_remoting.frames import Frame, FrameReader
from rocketmq_remoting.headers.namesrv import GetRouteInfoRequestHeader
from rocketmq_remoting.headers.send import SendMessageRequestHeader

JAVA_JSON = bytes.fromhex("0000007d00000079") + (
    b'{"code":105,"extFields":{"topic":"t"},"flag":0,"language":"JAVA","opaque":0,'
    b'"serializeTypeCurrentRPC":"JSON","version":0}'
)
JAVA_BINARY = bytes.fromhex(
    "0000002701000022006900018f0000000500000000000000000000000d0005746f70696300000002743142".replace(" ", "")
)


class Probe(Header):
    """A header with every kind of field."""

    name: str
    count: int
    is_on: bool = False
    maybe: int | None = None


def read(data: bytes) -> Frame:
    (frame,) = FrameReader().feed(data)
    return frame


def command_with(ext: str) -> str:
    return '{"code":10,"extFields":' + ext + ',"flag":0,"language":"JAVA","opaque":7,"version":513}'


def test_java_json_is_understood() -> None:
    command = decode_command(read(JAVA_JSON))
    assert (command.code, command.opaque, command.version, command.body) == (105, 0, 0, b"")
    assert command.header(GetRouteInfoRequestHeader).topic == "t"


def test_java_binary_is_understood_and_written_byte_for_byte() -> None:
    command = decode_command(read(JAVA_BINARY))
    assert (command.code, command.language, command.version, command.opaque) == (105, "JAVA", 399, 5)
    assert command.ext_fields() == {"topic": "t1"}
    assert command.body == b"B"
    assert encode_binary(command) == JAVA_BINARY


def test_a_request_of_ours_is_read_back() -> None:
    header = SendMessageRequestHeader(
        producer_group="g", topic="t", default_topic="TBW102", default_topic_queue_nums=4, queue_id=-1, sys_flag=0,
        born_timestamp=1, flag=-5, properties="A\x01ü\x02", batch=True,
    )  # fmt: skip
    command = decode_command(read(encode_request(310, 9, header, b"body", oneway=True)))
    assert (command.code, command.opaque, command.is_oneway, command.is_response, command.body) == (
        310,
        9,
        True,
        False,
        b"body",
    )
    assert command.header(SendMessageRequestHeader) == header
    assert all(isinstance(value, str) for value in json.loads(bytes(command.ext)).values())


@pytest.mark.parametrize(
    "ext",
    [
        '{"name":"x","count":"3","isOn":"TRUE","maybe":"4","unknown":"y"}',
        '{"name":"x","count":3,"isOn":true,"maybe":4}',
        '{"name":"x","count":"3","isOn":"true","maybe":"4","nothing":null}',
    ],
)
def test_values_are_taken_as_text_number_or_boolean(ext: str) -> None:
    command = decode_command(Frame(0, command_with(ext).encode(), b""))
    assert command.header(Probe) == Probe(name="x", count=3, is_on=True, maybe=4)


def test_numbers_where_text_is_wanted_and_nulls_are_tolerated() -> None:
    command = decode_command(Frame(0, command_with('{"name":12,"count":"3","isOn":"yes","maybe":null}').encode(), b""))
    assert command.header(Probe) == Probe(name="12", count=3, is_on=False)


@pytest.mark.parametrize(
    ("ext", "field"),
    [
        ("{}", "name"),
        ('{"name":"x"}', "count"),
        ('{"name":"x","count":"three"}', "count"),
        ("null", "name"),
        ("[1]", "extFields"),
    ],
)
def test_a_missing_or_wrong_field_is_named(ext: str, field: str) -> None:
    command = decode_command(Frame(0, command_with(ext).encode(), b""))
    with pytest.raises(HeaderError, match=field):
        command.header(Probe)


def test_odd_envelopes_are_tolerated() -> None:
    for text in (
        '{"code":"10","flag":"0","opaque":"7","language":"KLINGON","x":{0:1}}',
        '{"code":10,"opaque":7,"language":3,"remark":null,"extFields":null}',
        '{"opaque":7,"code":10}',
    ):
        command = decode_command(Frame(0, text.encode(), b""))
        assert (command.code, command.opaque, command.ext_fields()) == (10, 7, {})


@pytest.mark.parametrize(
    "header", [b"", b"[]", b"{code:1}", b"nonsense", b'{"code":"x"}', b"\xff\xff", b'{"code":1e400}']
)
def test_headers_that_are_no_command_break_the_connection_not_the_process(header: bytes) -> None:
    with pytest.raises(FrameError):
        decode_command(Frame(0, header, b""))


@given(st.binary(max_size=100), st.integers(0, 3))
def test_garbage_headers_are_frame_errors_only(header: bytes, kind: int) -> None:
    try:
        decode_command(Frame(kind, header, b"")).ext_fields()
    except (FrameError, HeaderError):
        pass


@given(
    st.dictionaries(
        st.text("abc_", min_size=1, max_size=5),
        st.text(st.characters(codec="utf-8"), min_size=1),
        max_size=5,
    )
)
def test_binary_headers_survive_a_round_trip(fields: dict[str, str]) -> None:
    command = decode_command(read(encode_request(310, 1, fields, b"b")))
    again = decode_command(read(encode_binary(command)))
    assert (again.code, again.ext_fields(), again.body) == (310, fields, b"b")


def test_pop_codes_do_not_fit_the_binary_header() -> None:
    command = decode_command(read(encode_request(RequestCode.POP_MESSAGE, 1)))
    with pytest.raises(FrameError, match="200050"):
        encode_binary(command)


def test_an_answer_echoes_the_opaque_and_carries_only_texts() -> None:
    data = b"".join(
        bytes(part) for part in encode_response(2**31 - 1, Response(0, Probe(name="n", count=1), "öß", [b"a", b"b"]))
    )
    command = decode_command(read(data))
    assert (command.opaque, command.is_response, command.remark, command.body) == (2**31 - 1, True, "öß", b"ab")
    assert json.loads(bytes(command.ext)) == {"name": "n", "count": "1", "isOn": "false"}


def test_fields_that_are_none_are_not_written() -> None:
    assert header_fields(Probe(name="n", count=1)) == {"name": "n", "count": "1", "isOn": "false"}
