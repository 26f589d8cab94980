"""Bodies of registrations, good and hostile."""

from __future__ import annotations

import contextlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_common.topics import DataVersion, TopicConfig
from rocketmq_namesrv import registration_body
from rocketmq_namesrv.registration_body import RegistrationBodyError, decode, encode_compressed, inflate
from rocketmq_remoting.bodies import RegisterBrokerBody, TopicConfigSerializeWrapper

V4_9_8 = 409
V5_5_0 = 513

PLAIN = (
    b'{"filterServerList":[],"topicConfigSerializeWrapper":{"dataVersion":{"counter":7,"stateVersion":2,"timestamp":5},'
    b'"mappingDataVersion":{"counter":0,"stateVersion":0,"timestamp":0},"topicConfigTable":{"t":{"attributes":{},"order":false,'
    b'"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"t","topicSysFlag":0,"writeQueueNums":3}},'
    b'"topicQueueMappingDetailMap":{},"topicQueueMappingInfoMap":{}}}'
)


# REGISTER_BROKER as a fresh Apache 5.5.0 broker with compressedRegister=true sent it to a listening socket; its header says
# compressed=false.
RECORDED_COMPRESSED = bytes.fromhex(
    "78da8d516d4fc230106efc037e377e9833d11831520436f8c6467909db3ad73a25c65c903481c040bb116388ffdd1643021920bdeb35b9d7"
    "a7cf2184eca5399c2f66999066bd5830d36c908958c8743c9fad1cd93811ca997c98756cd52a95075c2b5ab66dfd20844ed52d44fe23b03e"
    "031e3502069d86d7024ec3ae6b602555837583b6478037dac652d75c3b62361c250339e1aaaf818ba5f29fc9a79664f209e9770a1189bb31"
    "018fb6211442bad345aaf01ab6927cd519779e55c355d4ca45cb6bb811757bace91c0bfb92119d41183f9876c3dc0e693e6997ce8217750c"
    "6c6bdd41c5fa7f5f2321a6a099967bfade6fb34cc3ff115bbb7f7a4ce9f9bb9c4f84bc1bace27912af68abc508079fc6a409242601dfd3e9"
    "76635f6a8da1d73f38f86273bdb8aa353fdd5ad3c6fa810b4e447b24029ff88e7ab680e35ce9c9eb9bb2e817d824d00c"
)


def body(topics: dict[str, TopicConfig], mappings: dict[str, dict[str, object]] | None = None) -> RegisterBrokerBody:
    return RegisterBrokerBody(
        topic_config_serialize_wrapper=TopicConfigSerializeWrapper(
            data_version=DataVersion(counter=3, timestamp=9),
            topic_config_table=topics,
            topic_queue_mapping_info_map=mappings or {},
        ),
        filter_server_list=["f:1"],
    )


def test_plain_body_of_java_is_read():
    wrapper = decode(PLAIN, compressed=False, version=V5_5_0).topic_config_serialize_wrapper
    assert wrapper.data_version == DataVersion(counter=7, state_version=2, timestamp=5)
    assert wrapper.topic_config_table["t"].write_queue_nums == 3


def test_compressed_body_of_a_real_broker_is_read_whatever_its_header_says():
    for compressed in (False, True):
        read = decode(RECORDED_COMPRESSED, compressed=compressed, version=V5_5_0)
        wrapper = read.topic_config_serialize_wrapper
        assert len(wrapper.topic_config_table) == 15
        assert wrapper.topic_config_table["TBW102"].perm == 7
        assert wrapper.topic_config_table["BenchmarkTest"].write_queue_nums == 1024
        assert wrapper.data_version.timestamp > 0


def test_nulls_and_bare_keys_of_java_are_read():
    data = PLAIN.replace(b'"attributes":{}', b'"attributes":null').replace(
        b'"topicQueueMappingInfoMap":{}', b'"x":{0:1}'
    )
    wrapper = decode(data, compressed=False, version=V5_5_0).topic_config_serialize_wrapper
    assert wrapper.topic_config_table["t"].read_queue_nums == 4


def test_body_before_filter_servers_is_the_topic_table_alone():
    wrapper = b'{"dataVersion":{"counter":7,"timestamp":5},"topicConfigTable":{"t":{"topicName":"t","perm":4}}}'
    got = decode(wrapper, compressed=False, version=36).topic_config_serialize_wrapper
    assert got.topic_config_table["t"].perm == 4


def test_empty_body_has_no_topics():
    assert decode(b"", compressed=True, version=V5_5_0).topic_config_serialize_wrapper.topic_config_table == {}


names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
topics = st.dictionaries(
    names, st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from([2, 4, 6]), st.dictionaries(names, names))
)


@given(topics)
def test_compressed_bodies_come_back_unchanged(table):
    configs = {
        name: TopicConfig(topic_name=name, read_queue_nums=r, write_queue_nums=w, perm=p, attributes=a)
        for name, (r, w, p, a) in table.items()
    }
    want = body(configs, {"s": {"topic": "s", "bname": "b", "totalQueues": 2}})
    got = decode(encode_compressed(want), compressed=True, version=V5_5_0)
    assert got == want
    without_mappings = decode(encode_compressed(want), compressed=True, version=V4_9_8)
    assert without_mappings.topic_config_serialize_wrapper.topic_config_table == configs


def test_bomb_is_refused_before_it_is_inflated():
    bomb = zlib.compress(bytes(200 << 20), 9)
    with pytest.raises(RegistrationBodyError, match="more than"):
        decode(bomb, compressed=True, version=V5_5_0)
    with pytest.raises(RegistrationBodyError, match="more than the 10 allowed"):
        inflate(zlib.compress(b"x" * 11), 10)


def test_stream_cut_anywhere_is_refused():
    data = encode_compressed(body({"t": TopicConfig(topic_name="t")}))
    for end in range(1, len(data)):
        with pytest.raises(RegistrationBodyError):
            decode(data[:end], compressed=True, version=V5_5_0)


def test_items_cut_anywhere_are_refused():
    items = zlib.decompress(encode_compressed(body({"t": TopicConfig(topic_name="t")})))
    whole = len(items) - 4  # the count of mappings is optional
    for end in range(whole):
        with pytest.raises(RegistrationBodyError):
            decode(zlib.compress(items[:end]), compressed=True, version=V5_5_0)


@given(st.binary(max_size=200))
def test_garbage_raises_nothing_but_the_error_of_the_module(data):
    for compressed in (True, False):
        for payload in (data, zlib.compress(data)):
            with contextlib.suppress(RegistrationBodyError):
                decode(payload, compressed=compressed, version=V5_5_0)


def test_giant_counts_are_refused():
    items = registration_body._item(b"{}") + (1 << 30).to_bytes(4, "big")
    with pytest.raises(RegistrationBodyError, match="no length or count"):
        decode(zlib.compress(items), compressed=True, version=V5_5_0)


def test_checksum_has_31_bits():
    assert registration_body.checksum(b"123456789") == 0xCBF43926 & 0x7FFFFFFF
