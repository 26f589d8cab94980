"""Consumer offsets, on the wire and on disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.durable import TableError
from rocketmq_broker.tests.harness import Peer, serving
from rocketmq_common.clock import ManualClock
from rocketmq_common.files import RealFiles
from rocketmq_common.topics import TopicConfig
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command
from rocketmq_remoting.headers.offsets import (
    QueryConsumerOffsetRequestHeader,
    QueueHeader,
    SearchOffsetRequestHeader,
    UpdateConsumerOffsetRequestHeader,
)


async def query(peer: Peer, **fields: Any) -> Command:
    header = QueryConsumerOffsetRequestHeader(**{"consumer_group": "cg", "topic": "T", "queue_id": 0, **fields})
    return await peer.ask(RequestCode.QUERY_CONSUMER_OFFSET, header)


async def update(peer: Peer, offset: int, **fields: Any) -> Command:
    header = UpdateConsumerOffsetRequestHeader(
        **{"consumer_group": "cg", "topic": "T", "queue_id": 0, "commit_offset": offset, **fields}
    )
    return await peer.ask(RequestCode.UPDATE_CONSUMER_OFFSET, header)


def offset_of(answer: Command, field: str = "offset") -> int:
    assert answer.code == ResponseCode.SUCCESS, answer.remark
    return int(answer.ext_fields()[field])


async def test_an_offset_is_what_was_committed_last_lower_or_not(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        assert (await update(peer, 7)).code == ResponseCode.SUCCESS
        assert offset_of(await query(peer)) == 7
        await update(peer, 3)
        assert offset_of(await query(peer)) == 3


async def test_a_new_group_reads_a_young_queue_from_the_start_unless_it_asks_not_to(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        assert offset_of(await query(peer)) == 0
        assert (await query(peer, set_zero_if_not_found=False)).code == ResponseCode.QUERY_NOT_FOUND


async def test_a_new_group_on_a_queue_whose_start_is_cold_gets_not_found(tmp_path: Path) -> None:
    async with serving(tmp_path, accessMessageInMemoryMaxRatio=0) as peer:
        for _ in range(3):
            await peer.send()
        answer = await query(peer)
        assert answer.code == ResponseCode.QUERY_NOT_FOUND
        assert (answer.remark or "").startswith("Not found")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"topic": "missing"}, ResponseCode.TOPIC_NOT_EXIST),
        ({"queue_id": 400}, ResponseCode.INVALID_PARAMETER),
        ({"commit_offset": -5}, ResponseCode.INVALID_PARAMETER),
        ({"consumer_group": "unknown"}, ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST),
    ],
)
async def test_a_commit_that_makes_no_sense_gets_apaches_code(
    tmp_path: Path, fields: dict[str, Any], code: int
) -> None:
    async with serving(tmp_path, autoCreateSubscriptionGroup="false") as peer:
        await peer.broker.topics.update(TopicConfig(topic_name="T"))
        assert (await update(peer, 1, **{"consumer_group": "TOOLS_CONSUMER", **fields})).code == code
        assert peer.broker.offsets.offsets == {}


async def test_a_oneway_commit_without_a_field_is_not_answered_and_harms_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        connection = await peer.client.connect(peer.address)
        connection.notify(RequestCode.UPDATE_CONSUMER_OFFSET, {"consumerGroup": "cg"})
        await update(peer, 1)
        assert offset_of(await query(peer)) == 1


async def test_commits_are_ignored_while_a_reset_waits_for_its_pull(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        for _ in range(5):
            await peer.send()
        peer.broker.offsets.reset("cg", "T", 0, 2)
        answer = await update(peer, 5)
        assert (answer.code, answer.remark) == (ResponseCode.SUCCESS, "Offset has been previously reset")
        assert offset_of(await query(peer)) == 2
        await peer.pull(offset=5)
        await update(peer, 5)
        assert offset_of(await query(peer)) == 5


async def test_queue_bounds_and_times_are_told_and_unknown_queues_are_empty(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        for _ in range(3):
            await peer.send()
        known, unknown = QueueHeader(topic="T", queue_id=0), QueueHeader(topic="T", queue_id=9)
        assert offset_of(await peer.ask(RequestCode.GET_MAX_OFFSET, known)) == 3
        assert offset_of(await peer.ask(RequestCode.GET_MIN_OFFSET, known)) == 0
        assert offset_of(await peer.ask(RequestCode.GET_MAX_OFFSET, unknown)) == 0
        assert offset_of(await peer.ask(RequestCode.GET_MIN_OFFSET, unknown)) == 0
        first = peer.broker.store.store_time("T", 0, 0)
        assert offset_of(await peer.ask(RequestCode.GET_EARLIEST_MSG_STORETIME, known), "timestamp") == first
        assert offset_of(await peer.ask(RequestCode.GET_EARLIEST_MSG_STORETIME, unknown), "timestamp") == -1


@pytest.mark.parametrize(
    ("shift", "boundary", "offset"), [(-1000, None, 0), (0, "LOWER", 0), (100_000, "lower", 3), (100_000, "UPPER", 2)]
)
async def test_an_offset_is_found_by_time(tmp_path: Path, shift: int, boundary: str | None, offset: int) -> None:
    async with serving(tmp_path) as peer:
        for _ in range(3):
            await peer.send()
        first = peer.broker.store.store_time("T", 0, 0)
        header = SearchOffsetRequestHeader(topic="T", queue_id=0, timestamp=first + shift, boundary_type=boundary)
        assert offset_of(await peer.ask(RequestCode.SEARCH_OFFSET_BY_TIMESTAMP, header)) == offset


async def test_offsets_survive_a_restart_and_those_beyond_the_log_are_moved_to_its_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        await update(peer, 1)
        await update(peer, 99, queue_id=1)
    async with serving(tmp_path) as peer:
        assert offset_of(await query(peer)) == 1
        assert offset_of(await query(peer, queue_id=1)) == 0


# The file.


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as pool:
        yield pool


def table(root: Path, executor: ThreadPoolExecutor, **fields: Any) -> ConsumerOffsets:
    offsets = ConsumerOffsets(RealFiles(), root, ManualClock(), executor, **fields)
    offsets.load()
    return offsets


async def test_the_file_is_written_when_something_changed_and_only_then(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    offsets = table(tmp_path, executor)
    await offsets.save_if_dirty()
    assert not (tmp_path / "consumerOffset.json").exists()
    offsets.commit("g", "T", 3, 250)
    await offsets.save_if_dirty()
    raw = msgspec.json.decode((tmp_path / "consumerOffset.json").read_bytes())
    assert raw["offsetTable"] == {"T@g": {"3": 250}}
    written = (tmp_path / "consumerOffset.json").stat().st_mtime_ns
    offsets.commit("g", "T", 3, 250)
    await offsets.save_if_dirty()
    assert (tmp_path / "consumerOffset.json").stat().st_mtime_ns == written


def test_what_apache_writes_is_read_bare_integer_keys_and_broadcast_groups_included(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    (tmp_path / "consumerOffset.json").write_text(
        '{\n\t"dataVersion":{"counter":2,"stateVersion":0,"timestamp":5},\n\t"groupTopicMap":{"g":["T"]},\n'
        '\t"offsetTable":{"T@g":{0:250,1:251\n\t\t},"%RETRY%g@g":{0:1},"T@g@broadcast":{2:9}}\n}'
    )
    offsets = table(tmp_path, executor)
    assert offsets.of("g", "T") == {0: 250, 1: 251}
    assert offsets.of("g", "%RETRY%g") == {0: 1}
    assert offsets.of("g@broadcast", "T") == {2: 9}
    assert offsets.data_version.counter == 2
    assert sorted(offsets.topics_of("g")) == ["%RETRY%g", "T"]
    assert sorted(offsets.groups_of("T")) == ["g", "g@broadcast"]


def test_a_broken_file_is_replaced_by_its_backup_and_a_broken_pair_stops_the_start(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    (tmp_path / "consumerOffset.json").write_text("")
    (tmp_path / "consumerOffset.json.bak").write_text('{"offsetTable":{"T@g":{0:7}}}')
    assert table(tmp_path, executor).of("g", "T") == {0: 7}
    assert (tmp_path / "consumerOffset.json.damaged").read_text() == ""
    (tmp_path / "consumerOffset.json").write_text("")
    (tmp_path / "consumerOffset.json.bak").write_text("{")
    with pytest.raises(TableError, match=r"consumerOffset\.json.*repair"):
        table(tmp_path, executor)


async def test_fields_that_a_newer_release_added_are_kept(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    (tmp_path / "consumerOffset.json").write_text('{"offsetTable":{},"fromTheFuture":{"a":1}}')
    offsets = table(tmp_path, executor)
    offsets.commit("g", "T", 0, 1)
    await offsets.save_if_dirty()
    assert msgspec.json.decode((tmp_path / "consumerOffset.json").read_bytes())["fromTheFuture"] == {"a": 1}


def test_the_data_version_steps_with_commits(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    offsets = table(tmp_path, executor, version_step=3)
    for offset in range(7):
        offsets.commit("g", "T", 0, offset)
    assert offsets.data_version.counter == 2


def test_deleted_groups_and_topics_leave_nothing_behind(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    offsets = table(tmp_path, executor)
    for group, topic in (("g1", "a"), ("g1", "b"), ("g2", "a")):
        offsets.commit(group, topic, 0, 5)
        offsets.note_pull(group, topic, 0, 5)
    offsets.reset("g2", "a", 0, 1)
    offsets.clone("g1", "g3", "b")
    assert offsets.of("g3", "b") == {0: 5}
    offsets.forget_group("g1")
    assert set(offsets.offsets) == {("g2", "a"), ("g3", "b")}
    offsets.forget_topic("a")
    assert set(offsets.offsets) == {("g3", "b")}
    assert not offsets.has_resets
