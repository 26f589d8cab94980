"""The form of tables on disk: Apache's JSON with a checksum that finds any changed bit."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_common.tables import CHECKSUM_KEY, decode_table, encode_table

CONTENTS = st.dictionaries(st.text(), st.dictionaries(st.text(), st.integers(0, 1 << 50) | st.text()))


@given(CONTENTS.filter(lambda content: CHECKSUM_KEY not in content), st.integers(0, 1 << 60))
def test_what_is_written_is_read_and_apaches_reader_sees_one_entry_more(content, generation):
    text = encode_table(json.dumps(content).encode(), generation)
    assert decode_table(text) == (content, generation)
    assert json.loads(text).items() >= content.items()
    assert json.loads(text).keys() - content.keys() == {CHECKSUM_KEY}


def test_no_flipped_bit_gives_other_content_in_silence():
    content = {"topicConfigTable": {"T": {"perm": 6, "topicName": "T"}}, "dataVersion": {"counter": 12}}
    text = encode_table(json.dumps(content).encode(), 7)
    found = 0
    for position in range(len(text)):
        for bit in range(8):
            changed = bytearray(text)
            changed[position] ^= 1 << bit
            try:
                read, _ = decode_table(bytes(changed))
            except ValueError:
                found += 1
            else:
                assert read.items() >= content.items()
    assert found > len(text) * 8 * 0.8


def test_a_file_of_apache_is_taken_as_it_is_and_an_edited_one_is_told_apart():
    assert decode_table(b'{"offsetTable":{1:2}}').content == {"offsetTable": {"1": 2}}
    edited = encode_table(b'{"a":1}', 3).replace(b'"a": 1', b'"a": 2')
    with pytest.raises(ValueError, match=f"edited.*remove.*{CHECKSUM_KEY}"):
        decode_table(edited)
    with pytest.raises(ValueError, match="no JSON object"):
        decode_table(b"[]")
