"""A transactional producer for tests, over real connections to a whole broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from rocketmq_broker.tests.harness import Peer, messages_of, serving
from rocketmq_common.message_ids import parse_offset_message_id
from rocketmq_common.records import StoredMessage, decode_message
from rocketmq_remoting.bodies import HeartbeatData, ProducerData
from rocketmq_remoting.codes import RequestCode
from rocketmq_remoting.commands import Command
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.headers.clients import CheckTransactionStateRequestHeader
from rocketmq_remoting.headers.pull import PullMessageRequestHeader
from rocketmq_remoting.headers.transactions import EndTransactionRequestHeader

COMMIT, ROLLBACK, UNKNOWN = 8, 12, 0
GROUP = "tx-group"
HALF_TOPIC = "RMQ_SYS_TRANS_HALF_TOPIC"
OP_TOPIC = "RMQ_SYS_TRANS_OP_HALF_TOPIC"
GIVEN_UP_TOPIC = "TRANS_CHECK_MAX_TIME_TOPIC"
WAIT_S = 20.0


class Question(NamedTuple):
    """A check that the broker sent."""

    header: CheckTransactionStateRequestHeader
    message: StoredMessage


class TransactionPeer(Peer):
    """A broker and a producer of `GROUP`; ``questions`` are the checks that came."""

    def __init__(self, peer: Peer, questions: asyncio.Queue[Question]) -> None:
        super().__init__(peer.broker, peer.client)
        self.questions = questions

    async def question(self) -> Question:
        return await asyncio.wait_for(self.questions.get(), WAIT_S)

    async def join(self, group: str = GROUP) -> None:
        data = HeartbeatData(client_id="producer-1", producer_data_set=[ProducerData(group_name=group)])
        answer = await self.ask(RequestCode.HEART_BEAT, None, msgspec.json.encode(data))
        assert answer.code == 0, answer.remark

    async def half(self, body: bytes = b"half", key: str = "TX-1", topic: str = "T", **fields: Any) -> dict[str, str]:
        """Send a half message; the answer's fields."""
        properties = {
            "TRAN_MSG": "true", "PGROUP": GROUP, "TAGS": "TagA", "UNIQ_KEY": key, **fields.pop("properties", {}),
        }  # fmt: skip
        answer = await self.send(topic, body, sys_flag=4, producer_group=GROUP, properties=properties, **fields)
        assert answer.code == 0, answer.remark
        return answer.ext_fields()

    def end_header(self, sent: dict[str, str], outcome: int, **fields: Any) -> EndTransactionRequestHeader:
        return EndTransactionRequestHeader(
            **{
                "producer_group": GROUP,
                "tran_state_table_offset": int(sent["queueOffset"]),
                "commit_log_offset": parse_offset_message_id(sent["msgId"]).physical_offset,
                "commit_or_rollback": outcome,
                "msg_id": sent["transactionId"],
                **fields,
            }
        )

    async def end(self, sent: dict[str, str], outcome: int, **fields: Any) -> Command:
        """End a transaction and wait for the answer, which clients do not."""
        return await self.ask(RequestCode.END_TRANSACTION, self.end_header(sent, outcome, **fields))

    async def answer(self, question: Question, outcome: int) -> Command:
        """Answer a check."""
        return await self.ask(
            RequestCode.END_TRANSACTION,
            EndTransactionRequestHeader(
                producer_group=GROUP,
                tran_state_table_offset=question.header.tran_state_table_offset,
                commit_log_offset=question.header.commit_log_offset,
                commit_or_rollback=outcome,
                msg_id=question.header.msg_id or "",
                from_transaction_check=True,
            ),
        )

    def pull_header(
        self, topic: str = "T", queue_id: int = 0, offset: int = 0, **fields: Any
    ) -> PullMessageRequestHeader:
        # Tests look at what is there now: nobody waits for more.
        return super().pull_header(topic, queue_id, offset, suspend_timeout_millis=0, **fields)

    async def delivered(self, topic: str = "T", queue_id: int = 0) -> list[bytes]:
        """Bodies of all messages that a consumer gets from the queue."""
        return [message.body for message in await self.messages(topic, queue_id)]

    async def messages(self, topic: str = "T", queue_id: int = 0) -> list[StoredMessage]:
        answer = await self.pull(topic, queue_id, sys_flag=4, max_msg_nums=1000)
        return messages_of(answer) if answer.code == 0 else []


@asynccontextmanager
async def producing(root: Path, **settings: object) -> AsyncIterator[TransactionPeer]:
    """A broker that asks at once and often, and a producer that does not answer by itself."""
    questions: asyncio.Queue[Question] = asyncio.Queue()

    def check(connection: Connection, command: Command, header: CheckTransactionStateRequestHeader) -> None:
        questions.put_nowait(Question(header, decode_message(command.body)))

    routes = [Route(RequestCode.CHECK_TRANSACTION_STATE, CheckTransactionStateRequestHeader, check)]
    defaults: dict[str, object] = {"transactionTimeOut": 0, "transactionCheckInterval": 100}
    async with serving(root, routes, (), None, **{**defaults, **settings}) as peer:
        yield TransactionPeer(peer, questions)
