"""Configuration over the wire: what may change, what may not, and what stays on disk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rocketmq_broker.admin.configuration import CHANGEABLE
from rocketmq_broker.app import Broker
from rocketmq_broker.settings import load_settings
from rocketmq_broker.tests.harness import SMALL_STORE, Fatal, Peer, serving
from rocketmq_common.settings import parse_java_properties
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command


async def update(peer: Peer, text: str) -> Command:
    return await peer.ask(RequestCode.UPDATE_BROKER_CONFIG, None, text.encode())


async def values(peer: Peer) -> dict[str, str]:
    return parse_java_properties((await peer.ask(RequestCode.GET_BROKER_CONFIG)).body.decode())


def refuse(error: BaseException) -> None:
    raise Fatal(str(error)) from error


@asynccontextmanager
async def from_file(tmp_path: Path, text: str) -> AsyncIterator[tuple[Peer, Path]]:
    file = tmp_path / "broker.conf"
    file.write_text(text)
    flags = {
        "storePathRootDir": str(tmp_path / "s"),
        "listenPort": "0",
        "bindAddress": "127.0.0.1",
        "brokerIP1": "127.0.0.1",
    }
    broker = Broker(load_settings(file, {}, (), flags | SMALL_STORE), fatal=refuse)
    await broker.start()
    client = RemotingClient()
    try:
        yield Peer(broker, client), file
    finally:
        await client.close()
        await broker.stop()


async def test_change_is_effective_and_has_a_new_version(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        first = await peer.ask(RequestCode.GET_BROKER_CONFIG)
        assert (await update(peer, "autoCreateTopicEnable=false\nfileReservedTime=48")).code == 0
        found = await values(peer)
        assert (found["autoCreateTopicEnable"], found["fileReservedTime"]) == ("false", "48")
        assert peer.broker.store.settings.file_reserved_hours == 48
        assert (await peer.send("unknown")).code == ResponseCode.TOPIC_NOT_EXIST
        second = await peer.ask(RequestCode.GET_BROKER_CONFIG)
        versions = [json.loads(answer.ext_fields()["version"])["counter"] for answer in (first, second)]
        assert versions == [0, 1]


async def test_change_is_written_to_the_file_with_a_backup(tmp_path: Path) -> None:
    async with from_file(tmp_path, "# mine\nbrokerName=b\nfileReservedTime=24\nsendMessageThreadPoolNums=4\n") as (
        peer,
        file,
    ):
        answer = await update(peer, "fileReservedTime=12")
        assert (answer.code, answer.remark) == (0, None)
        stored = parse_java_properties(await asyncio.to_thread(file.read_text))
        assert stored == {"brokerName": "b", "fileReservedTime": "12", "sendMessageThreadPoolNums": "4"}
        backup = await asyncio.to_thread(file.with_name("broker.conf.bak").read_text)
        assert "fileReservedTime=24" in backup
        assert (await values(peer))["sendMessageThreadPoolNums"] == "4"


async def test_change_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    async with from_file(tmp_path, "") as (peer, file):
        await asyncio.to_thread(file.with_name("broker.conf.bak").mkdir)
        await asyncio.to_thread((file.with_name("broker.conf.bak") / "x").write_text, "in the way")
        answer = await update(peer, "fileReservedTime=12")
        assert answer.code == 0
        assert "until the next restart" in (answer.remark or "")
        assert (await values(peer))["fileReservedTime"] == "12"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("storePathRootDir=/etc", ResponseCode.NO_PERMISSION, "storePathRootDir"),
        ("brokerIP1=10.0.0.1", ResponseCode.NO_PERMISSION, "brokerIP1"),
        ("listenPort=1", ResponseCode.NO_PERMISSION, "listenPort"),
        ("sendMessageThreadPoolNums=64", ResponseCode.NO_PERMISSION, "no effect"),
        ("rocketmqHome=/tmp", ResponseCode.NO_PERMISSION, "rocketmqHome"),
        ("nonsense=1", ResponseCode.INVALID_PARAMETER, "nonsense"),
        ("fileReservedTime=soon", ResponseCode.INVALID_PARAMETER, "whole number"),
        ("fileReservedTime=-1", ResponseCode.INVALID_PARAMETER, "0 to"),
        ("brokerPermission=3", ResponseCode.INVALID_PARAMETER, "brokerPermission=3"),
        ("deleteWhen=25", ResponseCode.INVALID_PARAMETER, "deleteWhen=25"),
        ("namesrvAddr=nowhere", ResponseCode.INVALID_PARAMETER, "host:port"),
        ("diskSpaceWarningLevelRatio=50", ResponseCode.INVALID_PARAMETER, "diskSpaceWarningLevelRatio=50"),
        ("inSyncReplicas=99", ResponseCode.INVALID_PARAMETER, "inSyncReplicas=99"),
        ("minInSyncReplicas=2", ResponseCode.INVALID_PARAMETER, "at most inSyncReplicas"),
        ("haMasterAddress=1.2.3.4:5", ResponseCode.NO_PERMISSION, "haMasterAddress"),
        ("autoCreateTopicEnable=perhaps", ResponseCode.INVALID_PARAMETER, "true or false"),
        ("", ResponseCode.INVALID_PARAMETER, "string2Properties"),
    ],
)
async def test_refusal_names_key_and_value_and_changes_nothing(
    tmp_path: Path, text: str, code: ResponseCode, words: str
) -> None:
    async with serving(tmp_path) as peer:
        before = await values(peer)
        answer = await update(peer, f"traceOn=true\nslaveReadEnable=true\n{text}" if text else "")
        assert answer.code == code
        assert words in (answer.remark or "")
        assert await values(peer) == before


async def test_replication_changes_where_it_is_read(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        assert (await update(peer, "inSyncReplicas=2\nminInSyncReplicas=2\ntotalReplicas=3")).code == 0
        replication = peer.broker.loaded.replication
        assert (replication.in_sync_replicas, replication.min_in_sync_replicas, replication.total_replicas) == (2, 2, 3)
        assert (await values(peer))["totalReplicas"] == "3"


async def test_sending_back_what_is_set_is_no_change(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        body = (await peer.ask(RequestCode.GET_BROKER_CONFIG)).body
        assert (await peer.ask(RequestCode.UPDATE_BROKER_CONFIG, None, body)).code == 0


async def test_permission_change_moves_the_topics_version_for_name_servers(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        before = peer.broker.topics.data_version.counter
        await peer.send("T")
        assert (await update(peer, "brokerPermission=2")).code == 0
        assert peer.broker.topics.data_version.counter > before
        assert (await peer.pull("T")).code == ResponseCode.NO_PERMISSION


def test_no_changeable_key_names_a_path_a_port_or_a_command() -> None:
    for key in CHANGEABLE:
        assert not any(word in key for word in ("Path", "Port", "Home", "Command", "IP", "bind", "storeType"))
