"""A whole broker on loopback for tests, and the few requests that most tests begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from rocketmq_broker.app import Broker
from rocketmq_broker.settings import load_settings
from rocketmq_common.files import FileSystem
from rocketmq_common.properties import encode_properties
from rocketmq_common.records import StoredMessage, decode_messages
from rocketmq_remoting.bodies import CLUSTERING, ConsumerData, HeartbeatData, SubscriptionData
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode
from rocketmq_remoting.commands import Command
from rocketmq_remoting.connection import Route
from rocketmq_remoting.headers.pull import PullMessageRequestHeader
from rocketmq_remoting.headers.send import SendMessageRequestHeader

SMALL_STORE = {
    "mappedFileSizeCommitLog": "4194304",
    "mappedFileSizeConsumeQueue": "20000",
    "maxHashSlotNum": "1000",
    "maxIndexNum": "4000",
}
BORN_MS = 1_700_000_000_000


class Fatal(Exception):
    """The broker under test called ``fatal``."""


def _fail(error: BaseException) -> None:
    raise Fatal(f"fatal: {error!r}") from error


def make_broker(root: Path, files: FileSystem | None = None, **settings: object) -> Broker:
    values = {
        "storePathRootDir": str(root / "store"),
        "listenPort": "0",
        "bindAddress": "127.0.0.1",
        "brokerIP1": "127.0.0.1",
        "brokerName": "broker-a",
        "brokerClusterName": "DefaultCluster",
        **SMALL_STORE,
        **{key: str(value) for key, value in settings.items()},
    }
    return Broker(load_settings(None, {}, (), values), fatal=_fail, files=files)


class Peer:
    """A broker and a client connected to it."""

    def __init__(self, broker: Broker, client: RemotingClient) -> None:
        self.broker = broker
        self.client = client
        self.address = broker.identity.address

    async def ask(self, code: int, header: Any = None, body: bytes = b"") -> Command:
        return await self.client.invoke(self.address, code, header, body, timeout_ms=10_000)

    async def send(self, topic: str = "T", body: bytes = b"hello", queue_id: int = 0, **fields: Any) -> Command:
        properties = fields.pop(
            "properties", {"TAGS": "TagA", "KEYS": "k1", "UNIQ_KEY": "AC1100010B2E18B4AAC2F1B2C3D40000"}
        )
        if isinstance(properties, dict):
            properties = encode_properties(properties)
        code = fields.pop("code", RequestCode.SEND_MESSAGE_V2)
        header = SendMessageRequestHeader(
            **{
                "producer_group": "pg",
                "topic": topic,
                "default_topic": "TBW102",
                "default_topic_queue_nums": 4,
                "queue_id": queue_id,
                "sys_flag": 0,
                "born_timestamp": BORN_MS,
                "flag": 7,
                "properties": properties,
                **fields,
            }
        )
        return await self.ask(code, header, body)

    def pull_header(
        self, topic: str = "T", queue_id: int = 0, offset: int = 0, **fields: Any
    ) -> PullMessageRequestHeader:
        return PullMessageRequestHeader(
            **{
                "consumer_group": "cg",
                "topic": topic,
                "queue_id": queue_id,
                "queue_offset": offset,
                "max_msg_nums": 32,
                "sys_flag": 4,
                "subscription": "*",
                "sub_version": 0,
                "commit_offset": 0,
                "suspend_timeout_millis": 15_000,
                **fields,
            }
        )

    async def pull(self, topic: str = "T", queue_id: int = 0, offset: int = 0, **fields: Any) -> Command:
        return await self.ask(RequestCode.PULL_MESSAGE, self.pull_header(topic, queue_id, offset, **fields))

    async def heartbeat(self, group: str = "cg", topic: str = "T", expression: str = "*", **fields: Any) -> Command:
        data = HeartbeatData(
            client_id=fields.pop("client_id", "client-1"),
            consumer_data_set=[
                ConsumerData(
                    group_name=group,
                    message_model=fields.pop("message_model", CLUSTERING),
                    subscription_data_set=[
                        SubscriptionData(topic=topic, sub_string=expression, sub_version=fields.pop("sub_version", 1)),
                        SubscriptionData(topic=f"%RETRY%{group}", sub_string="*", sub_version=1),
                    ],
                )
            ],
        )
        return await self.ask(RequestCode.HEART_BEAT, None, msgspec.json.encode(data))


def messages_of(answer: Command) -> list[StoredMessage]:
    return list(decode_messages(answer.body))


@asynccontextmanager
async def serving(
    root: Path,
    routes: Sequence[Route] = (),
    extra_routes: Sequence[Route] = (),
    files: FileSystem | None = None,
    **settings: object,
) -> AsyncIterator[Peer]:
    """A started broker and a client whose own table is ``routes``; both end with the block."""
    broker = make_broker(root, files, **settings)
    await broker.start(extra_routes)
    client = RemotingClient(routes=routes)
    try:
        yield Peer(broker, client)
    finally:
        await client.close()
        await broker.stop()
