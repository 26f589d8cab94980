"""`append_plain` is `append`, or it is nothing: compared byte for byte."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketmq_common.message_ids import pack_host
from rocketmq_store.appending import NewMessage
from rocketmq_store.consume_queues import ConsumeQueue
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore
from rocketmq_store.tests.harness import Harness

PEER = pack_host("10.0.0.7", 40000)

messages = st.builds(
    NewMessage,
    topic=st.sampled_from(["T", "a" * 130, "SCHEDULE_TOPIC_XXXX"]),
    queue_id=st.integers(0, 2),
    body=st.binary(max_size=300),
    properties=st.sampled_from(
        [b"", b"TAGS\x01t\x02", b"UNIQ_KEY\x01A\x02KEYS\x01k1 k2\x02", b"x\x01" + b"y" * 1100 + b"\x02"]
    ),
    flag=st.integers(-5, 5),
    # 8: a committed message.
    sys_flag=st.sampled_from([0, 1, 8, 0x30]),
    born_timestamp_ms=st.integers(0, 1 << 40),
    born_host=st.sampled_from([PEER, pack_host("::1", 40000)]),
    reconsume_times=st.integers(0, 3),
    prepared_offset=st.sampled_from([0, 1 << 33]),
)


def plainly(store: MessageStore, message: NewMessage) -> tuple[int, int] | None:
    return store.append_plain(
        message.topic,
        message.queue_id,
        message.body,
        message.properties,
        message.flag,
        message.sys_flag,
        message.born_timestamp_ms,
        message.born_host,
        message.reconsume_times,
        message.prepared_offset,
    )


def contents(harness: Harness) -> tuple[bytes, dict[tuple[str, int], bytes], list[Any]]:
    store = harness.store
    log = store.commit_log_slice(0, 1 << 30)
    queues = {
        (topic, queue_id): bytes(store.queue(topic, queue_id).units_from(0, 1000))
        for topic in store.topics()
        for queue_id in store.queue_ids(topic)
        if store.queue(topic, queue_id).end
    }
    found = [bytes(record) for key in ("A", "k1") for record in store.query("T", key, 64).records]
    return bytes(log or b""), queues, found


@settings(max_examples=40, deadline=None)
@given(st.lists(messages, max_size=12))
def test_a_log_written_with_the_short_way_is_the_same_to_the_byte(history: list[NewMessage]) -> None:
    with TemporaryDirectory() as directory:
        both = [Harness(Path(directory) / name) for name in ("short", "long")]
        for harness in both:
            harness.open()
        short, long = both
        for message in history:
            expected = long.store.append(message)
            place = plainly(short.store, message)
            if place is None:
                result = short.store.append(message)
                place = (result.physical_offset, result.queue_offset)
            assert place == (expected.physical_offset, expected.queue_offset)
        assert contents(short) == contents(long)
        for harness in both:
            harness.close()


@pytest.fixture
def harness(tmp_path):
    harness = Harness(tmp_path / "store")
    harness.open()
    yield harness
    harness.close()


def test_the_short_way_takes_plain_messages_and_wakes_the_watcher(harness: Harness) -> None:
    store = harness.store
    plain = NewMessage("T", 0, b"body", b"TAGS\x01t\x02", born_host=PEER)
    assert plainly(store, plain) is None, "the first message of a queue makes its file"
    store.append(plain)
    seen: list[tuple[int, int]] = []

    def watch(queue: ConsumeQueue, queue_offset: int, tags_code: int, timestamp: int, physical_offset: int) -> None:
        seen.append((queue_offset, physical_offset))

    store.queue("T", 0).watcher = watch
    place = plainly(store, plain)
    assert place is not None
    assert seen == [(place[1], place[0])]
    assert store.statistics().put_message_count == 2


@pytest.mark.parametrize(
    "change",
    [
        {"topic": "SCHEDULE_TOPIC_XXXX"},
        {"topic": "unknown"},
        {"body": b"x" * (5 << 20)},
        {"properties": b"x\x01" + b"y" * 40_000},
        {"born_host": pack_host("::1", 1)},
    ],
)
def test_the_short_way_leaves_everything_unusual_untouched(harness: Harness, change: dict[str, Any]) -> None:
    store = harness.store
    for topic in ("T", "SCHEDULE_TOPIC_XXXX"):
        store.append(NewMessage(topic, 0, b""))
    before = contents(harness)
    fields: dict[str, Any] = {"topic": "T", "queue_id": 0, "body": b"", "properties": b"", "born_host": PEER, **change}
    assert plainly(store, NewMessage(**fields)) is None
    assert contents(harness) == before


def test_a_store_that_refuses_refuses_the_short_way_too(harness: Harness) -> None:
    store = harness.store
    store.append(NewMessage("T", 0, b""))
    store.set_writeable(False)
    assert plainly(store, NewMessage("T", 0, b"", born_host=PEER)) is None
    assert store.append(NewMessage("T", 0, b"")).status is PutStatus.SERVICE_NOT_AVAILABLE
    store.set_writeable(True)
    store.confirm(store.positions.written)
    assert plainly(store, NewMessage("T", 0, b"", born_host=PEER)) is None
