"""What Apache's broker had handed out when its store was taken over."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from rocketmq_broker.pop import foreign
from rocketmq_broker.pop.tests.popping import ack, pop, popped
from rocketmq_broker.tests.harness import Peer, serving
from rocketmq_remoting.codes import ResponseCode
from rocketmq_store.appending import NewMessage

REVIVE = "rmq_sys_REVIVE_LOG_DefaultCluster"


def leave(peer: Peer, tag: str, queue_id: int, **fields: Any) -> None:
    """A record as Apache's timer brings it into the revive topic."""
    body = msgspec.json.encode({"c": "cg", "t": "T", "q": 0, "so": 0, "pt": 1000, "bn": "broker-a", **fields})
    peer.broker.store.append(NewMessage(REVIVE, queue_id, body, f"TAGS\x01{tag}\x02".encode()))


async def test_what_apache_handed_out_and_nobody_acknowledged_is_given_again_once(tmp_path: Path) -> None:
    with patch.object(foreign, "GRACE_MS", 200):
        async with serving(tmp_path) as peer:
            for number in range(5):
                await peer.send(body=b"%d" % number)
            peer.broker.groups.find("cg")
            # Apache has moved the offset on already.
            peer.broker.offsets.commit("cg", "T", 0, 5)
            leave(peer, "ck", 3, it=1, n=4, bm=1, ro=0, d=[0, 1, 2, 4], rp="0")
            leave(peer, "ack", 3, ao=1)
            leave(peer, "bAck", 3, aol=[4], ao=0)
            ((message, handle),) = popped(await pop(peer, poll_time=20_000))
            assert (message.body, message.topic, message.reconsume_times) == (b"2", "T", 1)
            await ack(peer, handle)
            async with asyncio.timeout(30):
                while peer.broker.offsets.query("CID_RMQ_SYS_REVIVE_GROUP", REVIVE, 3) != 3:
                    await asyncio.sleep(0.05)
        async with serving(tmp_path) as peer:
            await asyncio.sleep(0)
            peer.broker.pop.queues.foreign.round()
            assert peer.broker.pop.queues.foreign.waiting_count == 0
            assert (await pop(peer)).code == ResponseCode.POLLING_TIMEOUT


async def test_checkpoints_of_deleted_topics_are_dropped(tmp_path: Path) -> None:
    with patch.object(foreign, "GRACE_MS", 0):
        async with serving(tmp_path) as peer:
            leave(peer, "ck", 1, it=1, n=1, t="gone", d=[0])
            leave(peer, "ck", 1, it="no number")
            async with asyncio.timeout(30):
                while peer.broker.offsets.query("CID_RMQ_SYS_REVIVE_GROUP", REVIVE, 1) != 2:
                    await asyncio.sleep(0.05)
            assert peer.broker.topics.get("%RETRY%cg_gone") is None
