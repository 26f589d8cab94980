"""Names, ids, versions, batches, tasks, clocks."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_common import message_ids, names, versions
from rocketmq_common.batches import BatchEntry, BatchError, decode_batch, encode_batch
from rocketmq_common.clock import ManualClock
from rocketmq_common.groups import group_config_from
from rocketmq_common.tasks import TaskRegistry
from rocketmq_common.topics import DataVersion, topic_config_from


@pytest.mark.parametrize("topic", ["TopicTest", "%RETRY%group", "a-b_c|d%", "x" * 127, "%DLQ%" + "x" * 250])
def test_legal_topic_names(topic: str) -> None:
    assert names.topic_name_problem(topic) is None


@pytest.mark.parametrize("topic", ["", " ", "a b", "a/b", "ü", "x" * 128, "a\n"])
def test_illegal_topic_names_are_explained(topic: str) -> None:
    assert names.topic_name_problem(topic)


@pytest.mark.parametrize("group", ["", "a b", "x" * 121, "g\n"])
def test_illegal_group_names_are_explained(group: str) -> None:
    assert names.group_name_problem(group)


def test_offset_ids_carry_address_and_offset() -> None:
    packed = message_ids.pack_host("10.0.0.1", 10911)
    text = message_ids.offset_message_id(packed, 4096)
    assert text == "0A00000100002A9F0000000000001000"
    assert message_ids.parse_offset_message_id(text.lower()) == ("10.0.0.1", 10911, 4096)
    assert message_ids.parse_offset_message_id(
        message_ids.offset_message_id(message_ids.pack_host("::1", 1), 7)
    ) == ("::1", 1, 7)  # fmt: skip


@pytest.mark.parametrize("text", ["", "xyz", "0" * 31, "g" * 32])
def test_malformed_offset_ids_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="message id"):
        message_ids.parse_offset_message_id(text)


def test_a_host_name_is_no_address() -> None:
    with pytest.raises(ValueError, match=r"'broker\.example'"):
        message_ids.pack_host("broker.example", 1)


def test_unique_ids_are_unique_and_have_java_shape() -> None:
    ids = message_ids.UniqueIds()
    made = {ids.create() for _ in range(5000)}
    assert len(made) == 5000
    assert all(len(i) == 32 and i == i.upper() for i in made)


@pytest.mark.parametrize(
    ("ordinal", "name"),
    [
        (213, "V4_0_0"),
        (399, "V4_9_3"),
        (401, "V4_9_4"),
        (513, "V5_5_0"),
        (232, "V4_1_0_SNAPSHOT"),
        (700, "HIGHER_VERSION"),
    ],
)
def test_version_names(ordinal: int, name: str) -> None:
    assert versions.version_name(ordinal) == name


entries = st.lists(st.builds(BatchEntry, st.integers(0, 9), st.binary(max_size=50), st.binary(max_size=20)), max_size=5)


@given(entries)
def test_batches_survive_a_round_trip(batch: list[BatchEntry]) -> None:
    assert decode_batch(encode_batch(batch)) == batch


@given(entries.filter(bool), st.data())
def test_a_cut_batch_is_an_error_unless_the_cut_is_between_entries(
    batch: list[BatchEntry], data: st.DataObject
) -> None:
    body = encode_batch(batch)
    whole = [len(encode_batch(batch[:count])) for count in range(1, len(batch) + 1)]
    cut = data.draw(st.integers(1, len(body) - 1))
    if cut in whole:
        assert decode_batch(body[:cut]) == batch[: whole.index(cut) + 1]
    else:
        with pytest.raises(BatchError, match="at byte"):
            decode_batch(body[:cut])


def test_configs_tolerate_unknown_and_null_fields() -> None:
    topic = topic_config_from({"perm": 6, "attributes": None, "fromTheFuture": {"x": 1}}, "t")
    assert (topic.topic_name, topic.perm, topic.attributes) == ("t", 6, {})
    assert group_config_from({"retryMaxTimes": 3, "subscriptionDataSet": None}, "g").retry_max_times == 3


def test_data_versions_are_ordered_by_state_then_counter() -> None:
    old = DataVersion(counter=9, state_version=1, timestamp=5)
    assert DataVersion(counter=1, state_version=2).order() > old.order()
    assert old.next(7).order() > old.order()


async def test_a_critical_task_reports_its_death() -> None:
    deaths: list[BaseException] = []
    registry = TaskRegistry(deaths.append)

    async def die() -> None:
        raise RuntimeError("gone")

    task = registry.start(die(), "flusher", critical=True)
    with pytest.raises(RuntimeError):
        await task
    await asyncio.sleep(0)
    assert [str(d) for d in deaths] == ["gone"]
    assert len(registry) == 0


async def test_stop_ends_all_tasks() -> None:
    registry = TaskRegistry()
    for index in range(3):
        registry.start(asyncio.sleep(60), f"t{index}")
    await registry.stop()
    await asyncio.sleep(0)
    assert len(registry) == 0


def test_a_manual_clock_only_goes_forward() -> None:
    clock = ManualClock(1000)
    clock.advance(500)
    assert (clock.now_ms(), clock.monotonic()) == (1500, 0.5)
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)
