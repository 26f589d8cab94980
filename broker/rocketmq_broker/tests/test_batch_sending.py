"""Batches that are stored together: a bug costs those that it concerns their success, and nobody an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from rocketmq_broker.batch_sending import BatchSender
from rocketmq_broker.tests.harness import Peer, serving
from rocketmq_common.batches import BatchEntry, encode_batch
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command
from rocketmq_store.appending import NewMessage
from rocketmq_store.statuses import BatchResult

COUNT = 20


async def send_all(peer: Peer) -> list[Command]:
    """More batches than are stored together, sent at once."""
    body = encode_batch([BatchEntry(0, b"x", b"")])
    sends = (peer.send(body=body, code=RequestCode.SEND_BATCH_MESSAGE, batch=True) for _ in range(COUNT))
    return await asyncio.gather(*sends)


async def test_a_bug_in_the_store_answers_every_batch_of_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()

        def fail(_: Sequence[NewMessage]) -> Sequence[BatchResult]:
            raise ZeroDivisionError("a bug")

        with monkeypatch.context() as patch:
            patch.setattr(peer.broker.store, "append_batches", fail)
            answers = await send_all(peer)
        assert {answer.code for answer in answers} == {ResponseCode.SYSTEM_ERROR}
        assert all("a bug" in (answer.remark or "") for answer in answers)
        assert {answer.code for answer in await send_all(peer)} == {ResponseCode.SUCCESS}


async def test_a_bug_in_one_answer_leaves_the_others_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        whole = BatchSender._message_ids
        calls = iter(range(COUNT))

        def sometimes(self: BatchSender, result: BatchResult) -> bytes:
            if next(calls) == 3:
                raise ZeroDivisionError("a bug")
            return whole(self, result)

        monkeypatch.setattr(BatchSender, "_message_ids", sometimes)
        codes = [answer.code for answer in await send_all(peer)]
        assert codes.count(ResponseCode.SYSTEM_ERROR) == 1
        assert codes.count(ResponseCode.SUCCESS) == COUNT - 1
