"""Topics and subscription groups, in memory and on disk."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rocketmq_broker import topics as topics_module
from rocketmq_broker.durable import TableError, load_table
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.topics import TopicLimitReached, TopicTable
from rocketmq_common.clock import ManualClock
from rocketmq_common.files import RealFiles
from rocketmq_common.groups import SubscriptionGroupConfig
from rocketmq_common.topics import TopicConfig


class Full(RealFiles):
    """A disk that takes nothing."""

    __slots__ = ("is_full",)

    def __init__(self) -> None:
        self.is_full = False

    def replace(self, path: Path, data: bytes, *, backup: bool = True) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "no space left", str(path))
        super().replace(path, data, backup=backup)


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as pool:
        yield pool


def settings(**fields: Any) -> BrokerSettings:
    return BrokerSettings(broker_name="b", broker_cluster_name="c", **fields)


def topic_table(
    root: Path,
    executor: ThreadPoolExecutor,
    files: RealFiles | None = None,
    clock: ManualClock | None = None,
    **fields: Any,
) -> TopicTable:
    table = TopicTable(settings(**fields), files or RealFiles(), root, clock or ManualClock(), executor)
    table.load()
    return table


def group_table(root: Path, executor: ThreadPoolExecutor, files: RealFiles | None = None, **fields: Any) -> GroupTable:
    table = GroupTable(settings(**fields), files or RealFiles(), root, ManualClock(), executor)
    table.load()
    return table


def read(path: Path) -> dict[str, Any]:
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])


def test_a_fresh_broker_has_apaches_system_topics(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    table = topic_table(tmp_path, executor, trace_topic_enable=True)
    shapes = {c.topic_name: (c.read_queue_nums, c.write_queue_nums, c.perm) for c in table.configs.values()}
    assert shapes == {
        "SELF_TEST_TOPIC": (1, 1, 6),
        "TBW102": (8, 8, 7),
        "BenchmarkTest": (1024, 1024, 6),
        "c": (16, 16, 7),
        "b": (1, 1, 7),
        "OFFSET_MOVED_EVENT": (1, 1, 6),
        "SCHEDULE_TOPIC_XXXX": (18, 18, 6),
        "RMQ_SYS_TRACE_TOPIC": (1, 1, 6),
        "c_REPLY_TOPIC": (1, 1, 6),
        "rmq_sys_REVIVE_LOG_c": (8, 8, 6),
        "rmq_sys_SYNC_BROKER_MEMBER_b": (1, 1, 1),
        "RMQ_SYS_TRANS_HALF_TOPIC": (1, 1, 6),
        "RMQ_SYS_TRANS_OP_HALF_TOPIC": (1, 1, 6),
        "rmq_sys_wheel_timer": (1, 1, 6),
    }
    assert all(table.is_system(topic) for topic in shapes)
    assert not table.is_system("T")


def test_without_auto_creation_there_is_no_template(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    table = topic_table(tmp_path, executor, auto_create_topic_enable=False)
    assert table.get("TBW102") is None
    assert table.inherited("T", "TBW102", 4) is None


@pytest.mark.parametrize(("wanted", "queues"), [(4, 4), (100, 8), (-3, 0)])
def test_a_topic_inherits_the_smaller_queue_number_and_all_but_the_inherit_bit(
    tmp_path: Path, executor: ThreadPoolExecutor, wanted: int, queues: int
) -> None:
    config = topic_table(tmp_path, executor).inherited("T", "TBW102", wanted, unit_mode=True)
    assert config == TopicConfig(
        topic_name="T", read_queue_nums=queues, write_queue_nums=queues, perm=6, topic_sys_flag=1
    )


def test_a_topic_without_inherit_bit_is_no_template(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    assert topic_table(tmp_path, executor).inherited("T", "BenchmarkTest", 4) is None


async def test_a_topic_survives_a_restart_with_its_version_and_fields_of_newer_releases(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    path = tmp_path / "topics.json"
    path.write_text(
        '{"dataVersion":{"counter":7,"stateVersion":2,"timestamp":5},"later":[1],"topicConfigTable":{"old":{"attributes":'
        '{"message.type":"FIFO"},"order":true,"perm":6,"readQueueNums":3,"topicFilterType":"MULTI_TAG","topicName":"old",'
        '"topicSysFlag":0,"writeQueueNums":2,"fromTheFuture":{"x":1}}}}'
    )
    table = topic_table(tmp_path, executor)
    old = table.get("old")
    assert old is not None
    assert (old.read_queue_nums, old.write_queue_nums, old.order) == (3, 2, True)
    assert old.attributes == {"message.type": "FIFO"}
    await table.update(TopicConfig(topic_name="T"))
    written = read(path)
    assert written["later"] == [1]
    assert written["topicConfigTable"]["old"]["fromTheFuture"] == {"x": 1}
    assert written["topicConfigTable"]["T"]["writeQueueNums"] == 16
    assert written["dataVersion"]["counter"] == table.data_version.counter > 7
    assert written["dataVersion"]["stateVersion"] == 2
    again = topic_table(tmp_path, executor)
    assert again.configs == table.configs
    assert again.data_version == table.data_version


async def test_a_change_is_announced_after_it_is_on_disk(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    table = topic_table(tmp_path, executor)
    seen: list[bool] = []

    async def announce() -> None:
        seen.append("T" in read(tmp_path / "topics.json")["topicConfigTable"])

    table.announce = announce
    await table.update(TopicConfig(topic_name="T"))
    await table.delete("T")
    assert seen == [True, False]
    assert not await table.delete("T")


async def test_a_topic_that_cannot_be_written_does_not_exist(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    files = Full()
    table = topic_table(tmp_path, executor, files)
    await table.update(TopicConfig(topic_name="T", perm=6))
    files.is_full = True
    with pytest.raises(OSError, match="no space"):
        await table.update(TopicConfig(topic_name="new"))
    with pytest.raises(OSError, match="no space"):
        await table.update(TopicConfig(topic_name="T", perm=4))
    with pytest.raises(OSError, match="no space"):
        await table.delete("T")
    assert table.get("new") is None
    kept = table.get("T")
    assert kept is not None
    assert kept.perm == 6


async def test_the_number_of_topics_is_bounded(
    tmp_path: Path, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = topic_table(tmp_path, executor)
    monkeypatch.setattr(topics_module, "TOPIC_COUNT_MAX", len(table.configs) + 1)
    await table.update(TopicConfig(topic_name="last"))
    with pytest.raises(TopicLimitReached):
        await table.update(TopicConfig(topic_name="one too many"))


def test_a_damaged_table_stops_the_start_and_names_the_file(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    (tmp_path / "topics.json").write_text('{"topicConfigTable":{"T":{"perm":"six"}}}')
    with pytest.raises(TableError, match=r"topics\.json.*repair"):
        topic_table(tmp_path, executor)


def test_each_change_raises_the_version(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    clock = ManualClock()
    table = topic_table(tmp_path, executor, clock=clock)
    before = table.data_version
    clock.advance(10)
    table.apply_order_topics(["BenchmarkTest"])
    assert table.data_version.order() > before.order()
    assert table.data_version.timestamp == clock.now_ms()
    same = table.data_version
    table.apply_order_topics(["BenchmarkTest"])
    assert table.data_version == same


async def test_groups_are_made_on_first_use_where_that_is_allowed(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    table = group_table(tmp_path, executor)
    assert table.get("g") is None
    group = table.find("g")
    assert group is not None
    assert group.retry_max_times == 16
    assert table.find("bad group") is None
    await table.save_if_dirty()
    assert "g" in read(tmp_path / "subscriptionGroup.json")["subscriptionGroupTable"]
    strict = group_table(tmp_path / "other", executor, auto_create_subscription_group=False)
    assert strict.find("g") is None
    assert strict.find("CID_RMQ_SYS_x") is not None
    assert strict.find("TOOLS_CONSUMER") is not None


async def test_groups_survive_a_restart_with_forbidden_topics_and_unknown_fields(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    (tmp_path / "subscriptionGroup.json").write_text(
        '{"dataVersion":{"counter":1,"stateVersion":0,"timestamp":1},"forbiddenTable":{"g":{"T":4}},"subscriptionGroupTable":'
        '{"g":{"groupName":"g","retryMaxTimes":3,"newField":true,"groupRetryPolicy":{"type":"EXPONENTIAL"}}}}'
    )
    table = group_table(tmp_path, executor)
    group = table.get("g")
    assert group is not None
    assert group.retry_max_times == 3
    assert table.is_forbidden("g", "T")
    assert not table.is_forbidden("g", "other")
    await table.update(SubscriptionGroupConfig(group_name="h"))
    await table.set_forbidden("h", "T", 4)
    await table.set_forbidden("h", "T", 0)
    written = read(tmp_path / "subscriptionGroup.json")
    assert written["subscriptionGroupTable"]["g"]["newField"] is True
    assert written["subscriptionGroupTable"]["g"]["groupRetryPolicy"] == {"type": "EXPONENTIAL"}
    assert "subscriptionDataSet" not in written["subscriptionGroupTable"]["h"]
    assert written["forbiddenTable"] == {"g": {"T": 4}}
    assert await table.delete("g")
    assert read(tmp_path / "subscriptionGroup.json")["forbiddenTable"] == {}


async def test_a_group_that_cannot_be_written_is_as_it_was(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    files = Full()
    table = group_table(tmp_path, executor, files)
    await table.update(SubscriptionGroupConfig(group_name="g", retry_max_times=5))
    files.is_full = True
    for config in (
        SubscriptionGroupConfig(group_name="g", retry_max_times=9),
        SubscriptionGroupConfig(group_name="new"),
    ):
        with pytest.raises(OSError, match="no space"):
            await table.update(config)
    group = table.get("g")
    assert group is not None
    assert group.retry_max_times == 5
    assert table.get("new") is None


async def test_a_damaged_table_gives_way_to_the_generation_before_and_is_kept_beside(
    tmp_path: Path, executor: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    table = topic_table(tmp_path, executor)
    await table.update(TopicConfig(topic_name="first", perm=6))
    await table.update(TopicConfig(topic_name="second", perm=6))
    path = tmp_path / "topics.json"
    damaged = path.read_bytes().replace(b'"second"', b'"secund"')
    path.write_bytes(damaged)
    again = topic_table(tmp_path, executor)
    assert again.get("first") is not None
    assert again.get("secund") is None
    assert again.get("second") is None
    assert any(str(path) in record.message and record.levelname == "ERROR" for record in caplog.records)
    assert path.with_name("topics.json.damaged").read_bytes() == damaged
    # The good one is in its place again, so that the next write keeps it as the generation before.
    await again.update(TopicConfig(topic_name="third", perm=6))
    assert "first" in read(tmp_path / "topics.json.bak")["topicConfigTable"]
    assert topic_table(tmp_path, executor).get("third") is not None


async def test_a_table_without_a_whole_generation_stops_the_start(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    table = topic_table(tmp_path, executor)
    await table.update(TopicConfig(topic_name="first", perm=6))
    (tmp_path / "topics.json.bak").unlink(missing_ok=True)
    path = tmp_path / "topics.json"
    path.write_bytes(path.read_bytes().replace(b'"perm": 6', b'"perm": 4'))
    with pytest.raises(TableError, match=r"topics\.json does not fit its checksum"):
        topic_table(tmp_path, executor)


async def test_generations_go_on_where_they_ended(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    table = topic_table(tmp_path, executor)
    await table.update(TopicConfig(topic_name="first"))
    before = load_table(RealFiles(), tmp_path / "topics.json").generation
    await topic_table(tmp_path, executor).update(TopicConfig(topic_name="second"))
    assert load_table(RealFiles(), tmp_path / "topics.json").generation == before + 1
    assert load_table(RealFiles(), tmp_path / "topics.json.bak").generation == before
