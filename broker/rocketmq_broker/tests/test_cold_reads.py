"""What is read from the disk keeps only those waiting who asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from rocketmq_broker.pop.tests.popping import pop, popped
from rocketmq_broker.tests.harness import Peer, messages_of, serving
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command
from rocketmq_remoting.headers.offsets import SearchOffsetRequestHeader
from rocketmq_remoting.headers.queries import QueryMessageRequestHeader
from rocketmq_testkit.cold_files import ColdFiles

COUNT = 20
WAIT_S = 20.0


@pytest.fixture
async def cold(tmp_path: Path) -> AsyncIterator[tuple[Peer, ColdFiles]]:
    """A broker that was restarted on messages of which nothing is in memory, and a disk that is not ready yet."""
    async with serving(tmp_path) as peer:
        for n in range(COUNT):
            await peer.send(body=b"%d" % n)
    files = ColdFiles()
    async with serving(tmp_path, files=files) as peer:
        # Everything that touches the store once is done before it leaves memory.
        await peer.send(body=b"new", queue_id=1)
        files.evict()
        files.is_disk_ready.clear()
        try:
            yield peer, files
        finally:
            files.is_disk_ready.set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.001)


async def answered_behind_a_send(peer: Peer, files: ColdFiles, request: asyncio.Task[Command]) -> Command:
    """The answer to ``request``, which came only when the disk was ready, while a send was answered before."""
    await until(lambda: peer.broker.store.cold_reader.waiting_count > 0)
    assert (await peer.send(body=b"meanwhile", queue_id=2)).code == ResponseCode.SUCCESS
    assert not request.done()
    files.is_disk_ready.set()
    return await asyncio.wait_for(request, WAIT_S)


async def test_a_pull_of_cold_messages_waits_for_the_disk_and_sends_do_not(cold: tuple[Peer, ColdFiles]) -> None:
    peer, files = cold
    answer = await answered_behind_a_send(peer, files, asyncio.create_task(peer.pull()))
    assert [m.body for m in messages_of(answer)] == [b"%d" % n for n in range(COUNT)]


async def test_pulls_of_what_is_in_memory_do_not_wait_for_those_of_what_is_not(cold: tuple[Peer, ColdFiles]) -> None:
    peer, files = cold
    waiting = asyncio.create_task(peer.pull())
    await until(lambda: peer.broker.store.cold_reader.waiting_count > 0)
    assert [m.body for m in messages_of(await peer.pull(queue_id=1))] == [b"new"]
    assert not waiting.done()
    files.is_disk_ready.set()
    assert (await waiting).code == ResponseCode.SUCCESS


async def test_a_pop_of_cold_messages_waits_for_the_disk_and_takes_each_once(cold: tuple[Peer, ColdFiles]) -> None:
    peer, files = cold
    await peer.heartbeat()
    answer = await answered_behind_a_send(
        peer, files, asyncio.create_task(pop(peer, queue_id=0, poll_time=20_000))
    )  # fmt: skip
    assert [message.body for message, _ in popped(answer)] == [b"%d" % n for n in range(COUNT)]
    assert (await pop(peer, queue_id=0)).code == ResponseCode.POLLING_TIMEOUT


async def test_searches_for_cold_messages_wait_for_the_disk_and_sends_do_not(cold: tuple[Peer, ColdFiles]) -> None:
    peer, files = cold
    query = QueryMessageRequestHeader(topic="T", key="k1", max_num=64, begin_timestamp=0, end_timestamp=1 << 62)
    answer = await answered_behind_a_send(
        peer, files, asyncio.create_task(peer.ask(RequestCode.QUERY_MESSAGE, query))
    )  # fmt: skip
    assert len(messages_of(answer)) >= COUNT
    files.evict()
    files.is_disk_ready.clear()
    peer.broker.store.residency.forget()
    search = SearchOffsetRequestHeader(topic="T", queue_id=0, timestamp=1)
    answer = await answered_behind_a_send(
        peer, files, asyncio.create_task(peer.ask(RequestCode.SEARCH_OFFSET_BY_TIMESTAMP, search))
    )  # fmt: skip
    assert answer.ext_fields()["offset"] == "0"


async def test_a_disk_that_fails_is_an_error_of_that_request(cold: tuple[Peer, ColdFiles]) -> None:
    peer, files = cold
    files.is_failing = True
    files.is_disk_ready.set()
    answer = await peer.pull()
    assert (answer.code, "planned" in (answer.remark or "")) == (ResponseCode.SYSTEM_ERROR, True)
    files.is_failing = False
    assert len(messages_of(await peer.pull())) == COUNT
