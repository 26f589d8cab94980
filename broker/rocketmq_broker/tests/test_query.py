"""Finding messages by key, unique key and place."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from rocketmq_broker import query as query_module
from rocketmq_broker.tests.harness import Peer, messages_of, serving
from rocketmq_common.message_ids import parse_offset_message_id
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command
from rocketmq_remoting.headers.queries import ViewMessageRequestHeader

FOREVER = (1 << 63) - 1


async def query(peer: Peer, key: str, *, unique: bool = False, **fields: Any) -> Command:
    ext = {
        "topic": "T",
        "key": key,
        "maxNum": "64",
        "beginTimestamp": "0",
        "endTimestamp": str(FOREVER),
        "_UNIQUE_KEY_QUERY": "true" if unique else "false",
        **fields,
    }
    return await peer.ask(RequestCode.QUERY_MESSAGE, ext)


async def test_messages_are_found_by_each_of_their_keys_right_after_the_send(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        for n in range(4):
            await peer.send(body=b"%d" % n, properties={"KEYS": f"order-{n} even-{n % 2}", "UNIQ_KEY": f"U{n}"})
        answer = await query(peer, "even-1")
        assert [m.body for m in messages_of(answer)] == [b"1", b"3"]
        assert int(answer.ext_fields()["indexLastUpdatePhyoffset"]) > 0
        assert [m.body for m in messages_of(await query(peer, "order-2"))] == [b"2"]
        assert [m.body for m in messages_of(await query(peer, "U3", unique=True))] == [b"3"]


async def test_a_key_that_nobody_has_is_not_found(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        answer = await query(peer, "nothing")
        assert answer.code == ResponseCode.QUERY_NOT_FOUND
        assert (await query(peer, "k1", topic="other")).code == ResponseCode.QUERY_NOT_FOUND


async def test_the_number_of_answers_is_the_clients_for_keys_and_the_brokers_for_unique_keys(tmp_path: Path) -> None:
    async with serving(tmp_path, defaultQueryMaxNum=3) as peer:
        for _ in range(5):
            await peer.send(properties={"KEYS": "k", "UNIQ_KEY": "U"})
        assert len(messages_of(await query(peer, "k", maxNum="2"))) == 2
        assert len(messages_of(await query(peer, "U", unique=True, maxNum="1"))) == 3


async def test_an_answer_stays_below_the_frame_size_and_holds_at_least_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_module, "BODY_SIZE_MAX", 2500)
    async with serving(tmp_path) as peer:
        for _ in range(4):
            await peer.send(body=b"x" * 1000)
        assert len(messages_of(await query(peer, "k1"))) == 2
        monkeypatch.setattr(query_module, "BODY_SIZE_MAX", 10)
        assert len(messages_of(await query(peer, "k1"))) == 1


async def test_a_message_is_viewed_by_the_place_in_its_id(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        sent = await peer.send(body=b"look at me")
        offset = parse_offset_message_id(sent.ext_fields()["msgId"]).physical_offset
        answer = await peer.ask(RequestCode.VIEW_MESSAGE_BY_ID, ViewMessageRequestHeader(offset=offset))
        assert [m.body for m in messages_of(answer)] == [b"look at me"]
        missing = await peer.ask(RequestCode.VIEW_MESSAGE_BY_ID, ViewMessageRequestHeader(offset=offset + 1))
        assert (missing.code, missing.body) == (ResponseCode.SYSTEM_ERROR, b"")
        assert "can not find message by the offset" in (missing.remark or "")


async def test_a_request_that_nobody_serves_is_answered_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        answer = await peer.ask(9999)
        assert answer.code == ResponseCode.REQUEST_CODE_NOT_SUPPORTED
        assert answer.remark == " request type 9999 not supported"
        assert (await peer.send()).code == ResponseCode.SUCCESS


async def test_the_vip_port_serves_sends_and_refuses_pulls(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        normal, peer.address = peer.address, f"127.0.0.1:{peer.broker.identity.vip_port}"
        assert (await peer.send()).code == ResponseCode.SUCCESS
        assert (await peer.heartbeat()).code == ResponseCode.SUCCESS
        assert (await peer.pull()).code == ResponseCode.REQUEST_CODE_NOT_SUPPORTED
        peer.address = normal
        assert (await peer.pull()).code == ResponseCode.SUCCESS


async def test_the_index_is_built_behind_the_appends_without_any_query(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        await asyncio.gather(*(peer.send(properties={"UNIQ_KEY": f"U{n}"}) for n in range(500)))
        store = peer.broker.store
        async with asyncio.timeout(10):
            while store.statistics().index_pending_count:
                await asyncio.sleep(0.01)
        assert peer.broker.statistics.loop_lag_ms_max >= peer.broker.statistics.loop_lag_ms >= 0
        assert [m.property_map()["UNIQ_KEY"] for m in messages_of(await query(peer, "U499", unique=True))] == ["U499"]
