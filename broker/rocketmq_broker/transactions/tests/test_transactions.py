"""Transactions through a whole broker: what producers send, what consumers see, what stands on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from rocketmq_broker.transactions.tests.producing import (
    COMMIT,
    GIVEN_UP_TOPIC,
    GROUP,
    HALF_TOPIC,
    OP_TOPIC,
    ROLLBACK,
    UNKNOWN,
    WAIT_S,
    producing,
)
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.headers.transactions import ResumeCheckHalfMessageRequestHeader

QUIET = {"transactionCheckInterval": 86_400_000}
PROGRESS_GROUP = "CID_RMQ_SYS_TRANS"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that the broker's own timers bring about."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_half_message_is_seen_by_nobody_before_its_commit(tmp_path: Path) -> None:
    async with producing(tmp_path, **QUIET) as peer:
        await peer.half()
        assert await peer.delivered() == []
        assert peer.broker.store.queue_bounds("T", 0) is None


async def test_a_committed_message_has_the_half_messages_content_and_names_its_place(tmp_path: Path) -> None:
    async with producing(tmp_path, **QUIET) as peer:
        sent = await peer.half(b"payload", queue_id=2, properties={"KEYS": "k"})
        assert sent["queueId"] == "2"
        assert sent["queueOffset"] == "0"
        assert sent["transactionId"] == "TX-1"
        assert (await peer.end(sent, COMMIT)).code == 0
        (message,) = await peer.messages(queue_id=2)
        (half,) = await peer.messages(HALF_TOPIC)
        assert message.body == b"payload"
        assert message.sys_flag & 0xC == 8
        assert message.prepared_offset == half.physical_offset
        assert (message.flag, message.born_timestamp, message.born_host) == (
            half.flag, half.born_timestamp, half.born_host,
        )  # fmt: skip
        properties = message.property_map()
        assert properties["__transactionId__"] == properties["UNIQ_KEY"] == "TX-1"
        assert properties["KEYS"] == "k"
        assert properties["PGROUP"] == GROUP
        assert not {"TRAN_MSG", "REAL_TOPIC", "REAL_QID"} & properties.keys()


async def test_half_and_op_messages_stand_on_disk_as_apaches_do(tmp_path: Path) -> None:
    async with producing(tmp_path, **QUIET) as peer:
        sent = [await peer.half(b"%d" % n, f"TX-{n}", queue_id=3) for n in range(3)]
        (half, *_) = await peer.messages(HALF_TOPIC)
        assert half.sys_flag & 0xC == 0
        properties = half.property_map()
        assert (properties["REAL_TOPIC"], properties["REAL_QID"], properties["TRAN_MSG"]) == ("T", "3", "true")
        assert (half.queue_id, half.queue_offset) == (0, 0)
        await asyncio.gather(peer.end(sent[0], COMMIT), peer.end(sent[2], ROLLBACK))
        operations = await peer.messages(OP_TOPIC)
        assert {op.property_map()["TAGS"] for op in operations} == {"d"}
        assert b"".join(op.body for op in operations) == b"0,2,"


async def test_a_rolled_back_message_never_comes(tmp_path: Path) -> None:
    async with producing(tmp_path) as peer:
        await peer.join()
        sent = await peer.half()
        assert (await peer.end(sent, ROLLBACK)).code == 0
        assert (await peer.end(sent, COMMIT)).code == ResponseCode.SYSTEM_ERROR
        assert await peer.delivered() == []
        assert peer.broker.transactions.halves.undecided == {}


async def test_one_way_ends_commit_once_however_often_they_come(tmp_path: Path) -> None:
    async with producing(tmp_path, **QUIET) as peer:
        sent = await peer.half()
        for _ in range(5):
            await peer.client.invoke_oneway(peer.address, RequestCode.END_TRANSACTION, peer.end_header(sent, COMMIT))
        # Requests of one connection are taken in their order.
        assert await peer.delivered() == [b"half"]
        assert peer.broker.transactions.counters.commits == {"T": 1}
        assert peer.broker.transactions.counters.refused_nums == 4


@pytest.mark.parametrize(
    ("fields", "remark"),
    [
        ({"producer_group": "thief"}, "producer group wrong"),
        ({"commit_log_offset": 0}, "no undecided transaction"),
        ({"tran_state_table_offset": 7}, "no undecided transaction"),
        ({"tran_state_table_offset": -1}, "no undecided transaction"),
        ({"commit_or_rollback": 4}, "neither 8, 12 nor 0"),
    ],
)
async def test_an_end_that_does_not_fit_the_half_message_changes_nothing(
    tmp_path: Path, fields: dict[str, object], remark: str
) -> None:
    async with producing(tmp_path, **QUIET) as peer:
        await peer.send("other", b"in front, so that offset 0 is not the half message's")
        sent = await peer.half()
        for outcome in (COMMIT, ROLLBACK):
            answer = await peer.end(sent, outcome, **fields)
            assert answer.code == ResponseCode.SYSTEM_ERROR
            assert remark in (answer.remark or "")
        assert await peer.delivered() == []
        assert (await peer.end(sent, COMMIT)).code == 0
        assert await peer.delivered() == [b"half"]


async def test_an_end_at_a_plain_message_is_refused(tmp_path: Path) -> None:
    async with producing(tmp_path, **QUIET) as peer:
        sent = (await peer.send("T", b"plain")).ext_fields()
        assert (await peer.end(sent, COMMIT)).code == ResponseCode.SYSTEM_ERROR
        assert await peer.delivered() == [b"plain"]


async def test_properties_that_a_client_smuggles_do_not_lead_the_message_elsewhere(tmp_path: Path) -> None:
    async with producing(tmp_path, **QUIET) as peer:
        smuggled = {"REAL_TOPIC": "victim", "REAL_QID": "5", "TRANSACTION_CHECK_TIMES": "99"}
        sent = await peer.half(properties=smuggled)
        assert (await peer.end(sent, COMMIT)).code == 0
        assert await peer.delivered() == [b"half"]
        assert peer.broker.store.queue_bounds("victim", 5) is None


async def test_an_unknown_outcome_is_asked_about_and_the_answer_commits(tmp_path: Path) -> None:
    async with producing(tmp_path) as peer:
        await peer.join()
        sent = await peer.half(b"ask me", queue_id=1)
        await peer.end(sent, UNKNOWN)
        question = await peer.question()
        assert (question.message.topic, question.message.queue_id, question.message.body) == ("T", 1, b"ask me")
        assert question.header.transaction_id == question.header.msg_id == "TX-1"
        assert question.header.broker_name == "broker-a"
        assert question.message.queue_offset == question.header.tran_state_table_offset
        assert question.message.physical_offset == question.header.commit_log_offset
        assert question.message.property_map()["TRANSACTION_CHECK_TIMES"] == "1"
        assert (await peer.answer(question, COMMIT)).code == 0
        assert await peer.delivered(queue_id=1) == [b"ask me"]


async def test_an_end_that_names_a_copy_asked_about_earlier_still_counts_once(tmp_path: Path) -> None:
    async with producing(tmp_path) as peer:
        await peer.join()
        sent = await peer.half()
        first, second = await peer.question(), await peer.question()
        assert first.header.tran_state_table_offset < second.header.tran_state_table_offset
        assert (await peer.end(sent, COMMIT)).code == 0
        assert (await peer.answer(first, COMMIT)).code == ResponseCode.SYSTEM_ERROR
        assert (await peer.answer(second, COMMIT)).code == ResponseCode.SYSTEM_ERROR
        assert await peer.delivered() == [b"half"]


async def test_after_the_last_question_the_message_is_set_aside_and_can_be_resumed_once(tmp_path: Path) -> None:
    async with producing(tmp_path, transactionCheckMax=2) as peer:
        await peer.join()
        sent = await peer.half()
        counters = peer.broker.transactions.counters
        await until(lambda: counters.given_up_nums == 1)
        assert counters.check_nums == 2
        assert (await peer.end(sent, COMMIT)).code == ResponseCode.SYSTEM_ERROR
        (aside,) = await peer.messages(GIVEN_UP_TOPIC)
        assert aside.body == b"half"
        assert await peer.delivered() == []
        while not peer.questions.empty():
            peer.questions.get_nowait()

        header = ResumeCheckHalfMessageRequestHeader(msg_id=aside.message_id)
        assert (await peer.ask(RequestCode.RESUME_CHECK_HALF_MESSAGE, header)).code == 0
        assert (await peer.ask(RequestCode.RESUME_CHECK_HALF_MESSAGE, header)).code == ResponseCode.SYSTEM_ERROR
        assert (await peer.answer(await peer.question(), COMMIT)).code == 0
        assert (await peer.ask(RequestCode.RESUME_CHECK_HALF_MESSAGE, header)).code == ResponseCode.SYSTEM_ERROR
        assert await peer.delivered() == [b"half"]


async def test_what_is_no_given_up_transaction_cannot_be_resumed(tmp_path: Path) -> None:
    async with producing(tmp_path, **QUIET) as peer:
        plain = (await peer.send("T", b"plain")).ext_fields()
        sent = await peer.half()
        await peer.end(sent, COMMIT)
        for message_id in (plain["msgId"], sent["msgId"], "nonsense"):
            header = ResumeCheckHalfMessageRequestHeader(msg_id=message_id)
            answer = await peer.ask(RequestCode.RESUME_CHECK_HALF_MESSAGE, header)
            assert answer.code == ResponseCode.SYSTEM_ERROR, message_id
        assert await peer.delivered() == [b"plain", b"half"]


async def test_rounds_without_a_producer_do_not_count_and_store_nothing(tmp_path: Path) -> None:
    async with producing(tmp_path, transactionCheckMax=1) as peer:
        await peer.half()
        counters = peer.broker.transactions.counters
        await until(lambda: counters.unanswerable_nums >= 3)
        assert len(await peer.messages(HALF_TOPIC)) == 1
        await peer.join()
        assert (await peer.answer(await peer.question(), COMMIT)).code == 0
        assert await peer.delivered() == [b"half"]


async def test_nobody_is_asked_before_the_time_out_nor_before_the_messages_own_immunity(tmp_path: Path) -> None:
    async with producing(tmp_path, transactionTimeOut=86_400_000) as peer:
        await peer.join()
        await peer.half(b"waits", "TX-1")
        await peer.half(b"impatient", "TX-2", properties={"CHECK_IMMUNITY_TIME_IN_SECONDS": "0"})
        for _ in range(3):
            assert (await peer.question()).message.body == b"impatient"


async def test_an_end_after_the_asked_for_immunity_is_illegal_unless_it_answers_a_question(tmp_path: Path) -> None:
    async with producing(tmp_path, **QUIET) as peer:
        sent = await peer.half(properties={"CHECK_IMMUNITY_TIME_IN_SECONDS": "0"})
        (half,) = peer.broker.transactions.halves.undecided.values()
        half.first_stored_ms -= 1000
        assert (await peer.end(sent, COMMIT)).code == ResponseCode.ILLEGAL_OPERATION
        assert (await peer.end(sent, COMMIT, from_transaction_check=True)).code == 0
        assert await peer.delivered() == [b"half"]


async def test_a_delayed_transaction_waits_for_its_level_after_the_commit(tmp_path: Path) -> None:
    async with producing(tmp_path, messageDelayLevel="1h 2h", **QUIET) as peer:
        sent = await peer.half(properties={"DELAY": "1"})
        assert (await peer.end(sent, COMMIT)).code == 0
        assert await peer.delivered() == []
        (scheduled,) = await peer.messages("SCHEDULE_TOPIC_XXXX")
        assert scheduled.property_map()["REAL_TOPIC"] == "T"


async def test_half_messages_are_refused_where_the_configuration_says_so(tmp_path: Path) -> None:
    async with producing(tmp_path, rejectTransactionMessage="true") as peer:
        properties = {"TRAN_MSG": "true", "PGROUP": GROUP, "UNIQ_KEY": "K"}
        assert (await peer.send(properties=properties, sys_flag=4)).code == ResponseCode.NO_PERMISSION


async def test_undecided_transactions_and_their_question_count_survive_a_restart(tmp_path: Path) -> None:
    async with producing(tmp_path) as peer:
        decided = await peer.half(b"decided", "TX-0")
        await peer.end(decided, COMMIT)
        # Nobody could be asked about the first before it ended.
        await peer.join()
        await peer.half(b"open", "TX-1")
        question = await peer.question()
        times = int(question.message.property_map()["TRANSACTION_CHECK_TIMES"])
    async with producing(tmp_path) as peer:
        assert [half.topic for half in peer.broker.transactions.halves.undecided.values()] == ["T"]
        assert (await peer.end(decided, COMMIT)).code == ResponseCode.SYSTEM_ERROR
        await peer.join()
        question = await peer.question()
        assert int(question.message.property_map()["TRANSACTION_CHECK_TIMES"]) > times
        assert (await peer.answer(question, COMMIT)).code == 0
        assert await peer.delivered() == [b"decided", b"open"]


async def test_progress_is_told_as_consumer_offsets_once_it_is_flushed(tmp_path: Path) -> None:
    async with producing(tmp_path, **QUIET) as peer:
        offsets = peer.broker.offsets
        first = await peer.half(key="TX-0")
        await peer.half(key="TX-1")
        await peer.end(first, ROLLBACK)
        await until(lambda: offsets.query(PROGRESS_GROUP, HALF_TOPIC, 0) == 1)
        assert offsets.query(PROGRESS_GROUP, OP_TOPIC, 0) == 1
        assert peer.broker.store.positions.flushed > 0


@pytest.mark.parametrize("outcome", [COMMIT, ROLLBACK])
async def test_with_sync_flush_answers_to_halves_and_ends_wait_for_the_disk(tmp_path: Path, outcome: int) -> None:
    async with producing(tmp_path, flushDiskType="SYNC_FLUSH", **QUIET) as peer:
        positions = peer.broker.store.positions
        sent = await peer.half()
        assert positions.flushed > peer.end_header(sent, outcome).commit_log_offset
        assert (await peer.end(sent, outcome)).code == 0
        # A commit's answer vouches for the message, a rollback's for the op.
        answered = positions.flushed
        stored = await peer.messages("T" if outcome == COMMIT else OP_TOPIC)
        assert [message.physical_offset + message.size <= answered for message in stored] == [True]


async def test_with_sync_flush_a_one_way_commit_becomes_visible_without_anybody_waiting(tmp_path: Path) -> None:
    async with producing(tmp_path, flushDiskType="SYNC_FLUSH", **QUIET) as peer:
        sent = await peer.half()
        await peer.client.invoke_oneway(peer.address, RequestCode.END_TRANSACTION, peer.end_header(sent, COMMIT))
        store = peer.broker.store

        def is_visible() -> bool:
            bounds = store.queue_bounds("T", 0)
            return bounds is not None and bounds.max_offset == 1

        await until(is_visible)
        assert await peer.delivered() == [b"half"]


async def test_a_commit_that_the_store_refuses_leaves_the_transaction_open(tmp_path: Path) -> None:
    async with producing(tmp_path, **QUIET) as peer:
        sent = await peer.half()
        peer.broker.store.set_writeable(False)
        assert (await peer.end(sent, COMMIT)).code == ResponseCode.SERVICE_NOT_AVAILABLE
        peer.broker.store.set_writeable(True)
        assert (await peer.end(sent, COMMIT)).code == 0
        assert await peer.delivered() == [b"half"]


async def test_a_rollback_that_cannot_be_noted_is_noted_when_the_store_takes_messages_again(tmp_path: Path) -> None:
    async with producing(tmp_path, **QUIET) as peer:
        sent = await peer.half()
        peer.broker.store.set_writeable(False)
        assert (await peer.end(sent, ROLLBACK)).code == 0
        await until(lambda: peer.broker.transactions.operations.waiting_count == 1)
        peer.broker.store.set_writeable(True)
        await until(lambda: peer.broker.transactions.operations.waiting_count == 0)
        assert [op.body for op in await peer.messages(OP_TOPIC)] == [b"0,"]


async def test_questions_take_turns_among_the_groups_producers(tmp_path: Path) -> None:
    async with producing(tmp_path, **QUIET) as peer:
        await peer.join()
        producers = peer.broker.producers
        (member,) = producers.members(GROUP)
        other = type(member)(type(member.connection)(member.connection.endpoint, is_server=True), "p2", "JAVA", 1, 0.0)
        producers.groups[GROUP][other.connection] = other
        found = {producers.next_member(GROUP) for _ in range(4)}
        assert found == {member, other}
        del producers.groups[GROUP][other.connection]
        assert producers.next_member("nobody") is None


async def test_the_table_of_undecided_transactions_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rocketmq_broker.transactions.service.UNDECIDED_MAX", 2)
    async with producing(tmp_path, **QUIET) as peer:
        sent = [await peer.half(key=f"TX-{n}") for n in range(2)]
        properties = {"TRAN_MSG": "true", "PGROUP": GROUP, "UNIQ_KEY": "K"}
        assert (await peer.send(properties=properties, sys_flag=4)).code == ResponseCode.SYSTEM_BUSY
        assert (await peer.end(sent[0], COMMIT)).code == 0
        assert (await peer.send(properties=properties, sys_flag=4)).code == 0
