"""Sends are turned away early when the loop could not look at them in time (rule E22)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rocketmq_broker.admission import Admission
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.tests.harness import messages_of, serving
from rocketmq_remoting.codes import RequestCode, ResponseCode


def _admission(*, is_enabled: bool = True) -> tuple[Admission, list[Callable[[], None]]]:
    later: list[Callable[[], None]] = []
    return Admission(BrokerSettings(broker_name="b", broker_fast_failure_enable=is_enabled), later.append), later


def _is_late(admission: Admission) -> bool:
    return admission.is_late


def test_the_reads_of_a_late_turn_are_refused_and_those_of_the_next_are_not() -> None:
    admission, later = _admission()
    admission.note_lag(200.0)
    assert not _is_late(admission)
    admission.note_lag(200.1)
    assert _is_late(admission)
    later.pop()()
    assert not _is_late(admission)
    assert not later


def test_fast_failure_can_be_turned_off() -> None:
    admission, later = _admission(is_enabled=False)
    admission.note_lag(60_000)
    assert not _is_late(admission)
    assert not later


async def test_a_late_broker_answers_sends_with_system_busy_stores_nothing_and_still_serves_pulls(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as peer:
        await peer.send(body=b"before")
        admission = peer.broker.admission
        admission.is_late = True
        for code in (RequestCode.SEND_MESSAGE_V2, RequestCode.SEND_BATCH_MESSAGE):
            answer = await peer.send(body=b"late", code=code)
            assert answer.code == ResponseCode.SYSTEM_BUSY
            assert "waitTimeMillsInSendQueue 200" in (answer.remark or "")
        admission.is_late = False
        assert admission.refused_count == 2
        assert [message.body for message in messages_of(await peer.pull())] == [b"before"]
