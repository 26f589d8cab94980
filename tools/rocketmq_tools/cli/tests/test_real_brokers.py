"""Verbs whose answers only a real broker has."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from rocketmq_client import Message, Producer
from rocketmq_tools.cli.tests.nouns import Command
from rocketmq_tools.errors import ExitCode
from rocketmq_tools.testing import LocalServer


@pytest.fixture(scope="module")
def name_server() -> Iterator[str]:
    with LocalServer() as server:
        yield server.name_server


@pytest.fixture
def served(name_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NAMESRV_ADDR", name_server)
    return name_server


@pytest.fixture
def topic() -> str:
    return f"topic-{uuid.uuid4().hex[:8]}"


def send(name_server: str, *messages: Message) -> None:
    async def work() -> None:
        async with Producer(name_server) as producer:
            for message in messages:
                await producer.send(message)

    asyncio.run(work())


def test_a_group_is_told_to_pop_and_to_pull_again(served: str, rocketmq: Command, topic: str) -> None:
    group = f"{topic}-group"
    assert rocketmq("group", "create", group).code == ExitCode.OK
    assert rocketmq("group", "mode", group, "-o", "json").data == []
    rocketmq("topic", "create", topic)
    (row,) = rocketmq("group", "mode", group, topic, "pop", "--share", "2", "-o", "json").data
    assert (row["topic"], row["mode"], row["share"]) == (topic, "pop", 2)
    (row,) = rocketmq("group", "mode", group, topic, "pull", "-o", "json").data
    assert row["mode"] == "pull"
    assert rocketmq("group", "mode", group, topic).code == ExitCode.USAGE
    assert rocketmq("group", "mode", "nobody").code == ExitCode.NOT_FOUND
    assert rocketmq("group", "mode", group, "no-such-topic", "pop").code == ExitCode.NOT_FOUND


def test_messages_that_wait_are_counted(served: str, rocketmq: Command, topic: str) -> None:
    send(
        served,
        *(Message(topic=topic, body=b"level", delay_level=18) for _ in range(3)),
        *(Message(topic=topic, body=b"timer", delay_ms=3_600_000) for _ in range(2)),
    )
    waiting: dict[str, int] = {}
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        # The timer queue is read into the wheel a moment later.
        waiting = {row["what"]: row["waiting"] for row in rocketmq("delayed", "ls", "-o", "json").data}
        if waiting.get(topic) == 2:
            break
    assert waiting[topic] == 2
    assert waiting["18 (2h)"] >= 3


def test_top_shows_what_went_in_and_how_far_behind_groups_are(served: str, rocketmq: Command, topic: str) -> None:
    send(served, *(Message(topic=topic, body=b"x") for _ in range(5)))
    assert rocketmq("consume", topic, "--group", f"{topic}-g", "-n", "2", "--from", "start").code == 0
    (row,) = rocketmq("top", topic, "-o", "json").data
    assert (row["topic"], row["group"]) == (topic, f"{topic}-g")
    assert row.keys() >= {"lag", "in_tps", "out_tps", "in_minute", "out_hour", "in_day"}


def test_what_is_exported_is_applied_elsewhere_and_changes_nothing_here(
    served: str, rocketmq: Command, topic: str, tmp_path: Path
) -> None:
    group = f"{topic}-group"
    rocketmq("topic", "create", topic, "-q", "3", "--attribute", "message.type=FIFO")
    rocketmq("group", "create", group, "--retries", "5")
    exported = rocketmq("export")
    document = yaml.safe_load(exported.out)
    (found,) = [item for item in document["topics"] if item["topicName"] == topic]
    assert (found["readQueueNums"], found["attributes"]) == (3, {"message.type": "FIFO"})
    assert not [item for item in document["topics"] if item["topicName"].startswith(("%RETRY%", "TBW102", "rmq_sys"))]

    file = tmp_path / "cluster.yaml"
    file.write_text(exported.out)
    assert rocketmq("topic", "delete", topic, "--yes").code == ExitCode.OK
    assert rocketmq("group", "delete", group, "--yes").code == ExitCode.OK
    assert "topic" in rocketmq("apply", "-f", str(file), "--dry-run").out
    assert rocketmq("topic", "describe", topic).code == ExitCode.NOT_FOUND
    applied = rocketmq("apply", "-f", str(file), "-o", "json")
    assert {"kind": "topic", "name": topic} in applied.data
    assert {"kind": "group", "name": group} in applied.data
    assert yaml.safe_load(rocketmq("export").out) == document


@pytest.mark.parametrize(
    "text", ["", "{}", "- {name: x}", "topics: [{topicName: a, readQueueNums: many}]", "[", "topics: 5"]
)
def test_a_file_that_says_nothing_useful_is_refused_with_the_reason(
    served: str, rocketmq: Command, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    printed = rocketmq("apply", "-f", str(file))
    assert printed.code == ExitCode.USAGE
    assert str(file) in printed.err


def test_lists_as_mqadmin_takes_them_are_applied(served: str, rocketmq: Command, topic: str, tmp_path: Path) -> None:
    file = tmp_path / "topics.json"
    file.write_text(f'[{{"topicName":"{topic}","readQueueNums":2,"writeQueueNums":2,"perm":6}}]')
    assert rocketmq("apply", "-f", str(file)).code == ExitCode.OK
    assert rocketmq("topic", "describe", topic, "-o", "json").data["brokers"][0]["read_queues"] == 2
