"""Op messages: their bodies, their batches, and which of them are still needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_broker.tests.harness import make_broker
from rocketmq_broker.transactions import operations as module
from rocketmq_broker.transactions.half_messages import committed_properties, half_properties, renewed_properties
from rocketmq_broker.transactions.operations import parse_operations
from rocketmq_broker.transactions.ready_commits import READY_SIZE_MAX, Commit, ReadyCommits
from rocketmq_broker.transactions.tests.producing import COMMIT, OP_TOPIC, ROLLBACK, producing
from rocketmq_common.properties import encode_properties, parse_properties

QUIET = {"transactionCheckInterval": 86_400_000}


@pytest.mark.parametrize(
    ("body", "offsets"),
    [
        (b"1,2,30,", [1, 2, 30]),
        (b"17", [17]),  # before 5.0
        (b"", []),
        (b",,x,4,", [4]),
    ],
)
def test_bodies_of_all_versions_are_read(body: bytes, offsets: list[int]) -> None:
    assert parse_operations(body) == offsets


async def test_ends_beyond_the_size_of_an_op_message_go_into_several_and_none_is_lost(tmp_path: Path) -> None:
    async with producing(tmp_path, transactionOpMsgMaxSize=32, **QUIET) as peer:
        operations = peer.broker.transactions.operations
        for offset in range(1000, 1030):
            operations.add(offset)
        assert operations.waiting_count == 30
        assert operations.flush()
        bodies = [message.body for message in await peer.messages(OP_TOPIC)]
        assert max(map(len, bodies)) <= 32
        assert [offset for body in bodies for offset in parse_operations(body)] == list(range(1000, 1030))


async def test_an_op_message_is_needed_until_the_progress_has_passed_all_its_halves(tmp_path: Path) -> None:
    broker = make_broker(tmp_path)
    operations = broker.transactions.operations
    operations.note(0, [3, 1])
    operations.note(1, [2])
    operations.note(2, [])
    operations.note(3, [9])
    assert operations.first_offset(3, 4) == 0
    assert operations.first_offset(4, 4) == 3
    assert operations.first_offset(10, 4) == 4
    broker.io.shutdown()


async def test_with_too_many_ends_waiting_for_a_refusing_store_further_ends_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 1)
    async with producing(tmp_path, **QUIET) as peer:
        sent = [await peer.half(key=f"TX-{n}") for n in range(2)]
        peer.broker.store.set_writeable(False)
        assert (await peer.end(sent[0], ROLLBACK)).code == 0
        answer = await peer.end(sent[1], ROLLBACK)
        assert "too many ends" in (answer.remark or "")
        peer.broker.store.set_writeable(True)
        assert peer.broker.transactions.operations.flush()
        assert (await peer.end(sent[1], COMMIT)).code == 0


async def test_metrics_tell_open_committed_rolled_back_and_refused_transactions(tmp_path: Path) -> None:
    async with producing(tmp_path, **QUIET) as peer:
        sent = [await peer.half(key=f"TX-{n}") for n in range(4)]
        await peer.end(sent[0], COMMIT)
        await peer.end(sent[1], ROLLBACK)
        await peer.end(sent[1], COMMIT)
        page = b"".join(f.encode() for f in peer.broker.observation.metrics.collect() if f is not None).decode()
        values = {line.split("{")[0]: line.split()[-1] for line in page.splitlines() if not line.startswith("#")}
        assert values["rocketmq_half_messages"] == "2"
        assert values["rocketmq_commit_messages_total"] == "1"
        assert values["rocketmq_rollback_messages_total"] == "1"
        assert values["rocketmq_transaction_ends_refused_total"] == "1"
        assert values["rocketmq_finish_message_latency_milliseconds_count"] == "1"


TEXTS = st.text(st.characters(exclude_characters="\x01\x02", codec="utf-8"), min_size=1, max_size=8)
# What the broker sets of a half message: an application's own is replaced, as by Apache's broker, or it could divert the message.
OF_BROKER = ["REAL_TOPIC", "REAL_QID", "__transactionId__", "TRANSACTION_CHECK_TIMES", "TRAN_PREPARED_QUEUE_OFFSET"]
NAMES = st.one_of(TEXTS, st.sampled_from([*OF_BROKER, "TRAN_MSG", "PGROUP", "UNIQ_KEY", "DELAY", "REAL_", "XTRAN_MSG"]))


@given(st.dictionaries(NAMES, TEXTS))
def test_the_way_through_the_half_topic_keeps_every_property_of_the_application(own: dict[str, str]) -> None:
    own = {"PGROUP": "g", **own, "TRAN_MSG": "true", "UNIQ_KEY": "K"}
    stored, committed, producer_group = half_properties(encode_properties(own), "T", 3, "g", "K")
    assert producer_group == own["PGROUP"]
    half = stored
    for times in (1, 2):
        half = renewed_properties(half, times, 7)
        found = parse_properties(half)
        assert (found["REAL_TOPIC"], found["REAL_QID"]) == ("T", "3")
        assert (found["TRANSACTION_CHECK_TIMES"], found["TRAN_PREPARED_QUEUE_OFFSET"]) == (str(times), "7")
    expected = {name: own[name] for name in own if name not in (*OF_BROKER, "TRAN_MSG")} | {"__transactionId__": "K"}
    assert parse_properties(committed_properties(half)) == expected
    assert committed_properties(stored) == committed


@given(st.sampled_from(["true", "TRUE", "True"]), st.lists(st.sampled_from(["TRAN_MSG", "a", "bTRAN_MSG"]), max_size=3))
def test_a_committed_message_is_no_half_message_however_its_client_wrote_that(value: str, names: list[str]) -> None:
    """Twice, in other letters, or at the end of another name."""
    text = encode_properties({"UNIQ_KEY": "K"}) + "".join(f"{name}\x01{value}\x02" for name in [*names, "TRAN_MSG"])
    committed = half_properties(text, "T", 0, "g", "K").committed
    assert "TRAN_MSG" not in parse_properties(committed)
    assert {name for name in names if name != "TRAN_MSG"} <= parse_properties(committed).keys()


def test_only_small_commits_of_the_youngest_half_messages_are_kept() -> None:
    ready = ReadyCommits(count_max=2)

    def commit(size: int) -> Commit:
        return Commit(("T", 0, b"x" * size, b"p", 0, 8, 0, bytes(8), 0), "g")

    for offset in range(3):
        ready.keep(offset, commit(READY_SIZE_MAX - 1))
    ready.keep(3, commit(READY_SIZE_MAX))
    assert [ready.find(offset) is not None for offset in range(4)] == [False, True, True, False]
    ready.drop(1)
    ready.keep(4, commit(0))
    assert [ready.find(offset) is not None for offset in range(5)] == [False, False, True, False, True]
