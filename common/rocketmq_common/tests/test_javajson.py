"""JSON as Java writes it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_common.javajson import JavaJsonError, ObjectKey, dumps_object_keyed, loads

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8"))
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text('ab"\\{}:,', max_size=5), v, max_size=4)
)


def test_bare_integer_keys_are_read() -> None:
    assert loads(b'{"brokerAddrs":{0:"1.2.3.4:10911",1:"b"},"x":[1, 2 ,{}]}') == {
        "brokerAddrs": {"0": "1.2.3.4:10911", "1": "b"},
        "x": [1, 2, {}],
    }


def test_object_keys_are_read_and_written_bare() -> None:
    key = {"brokerName": "b", "queueId": 3, "topic": "t"}
    text = dumps_object_keyed([(key, {"offset": 5})])
    assert text == b'{{"brokerName":"b","queueId":3,"topic":"t"}:{"offset":5}}'
    parsed = loads(text)
    ((read, value),) = parsed.items()
    assert isinstance(read, ObjectKey)
    assert (read.as_dict(), value) == (key, {"offset": 5})


@given(values)
def test_standard_json_is_read_as_is(value: object) -> None:
    assert loads(json.dumps(value)) == value


@given(values)
def test_the_lenient_reader_agrees_on_standard_json(value: object) -> None:
    # A trailing bare-keyed map forces the lenient path for the whole document.
    assert loads('{"v":' + json.dumps(value) + ",0:1}") == {"v": value, "0": 1}


@pytest.mark.parametrize(
    "text", [b"", b"{", b'{"a"}', b"[1 2]", b"{0:1}x", b'{"a":}', b"\xff", b"{:1}", b"[" * 100 + b"0:"]
)
def test_garbage_is_a_clear_error(text: bytes) -> None:
    with pytest.raises(JavaJsonError):
        loads(text)
