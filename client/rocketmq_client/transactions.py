"""Transactional sending: a message that becomes visible with the outcome of something else, for example of a database transaction.

The message is first stored as a half message that nobody sees; then the local transaction runs, and its outcome commits the
message or rolls it back. When the outcome does not arrive (crash, lost connection, "unknown"), the broker asks some producer of
the group, whose ``check`` must tell from the message alone how the local transaction ended. Ends are one-way: the question is
what makes them safe.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from rocketmq_client import messages as m
from rocketmq_client.errors import ClientError, InvalidArgument
from rocketmq_client.messages import Message, MessageView, SendReceipt, SendStatus, make_message
from rocketmq_client.producer import Producer, encode_wire_properties, master_of
from rocketmq_client.trace_records import MessageKind, Traced
from rocketmq_common import properties as props
from rocketmq_common import sysflags
from rocketmq_common.message_ids import parse_offset_message_id
from rocketmq_remoting.bodies import MessageQueue
from rocketmq_remoting.codes import RequestCode
from rocketmq_remoting.commands import header_fields
from rocketmq_remoting.connection import Connection
from rocketmq_remoting.headers.clients import CheckTransactionStateRequestHeader
from rocketmq_remoting.headers.transactions import EndTransactionRequestHeader

logger = logging.getLogger(__name__)

_KIND: Final = MessageKind.TRANSACTION_COMMIT
# Questions being answered at once; the broker repeats what is dropped (Java: checkRequestHoldMax).
CHECKS_MAX: Final = 2000


class TransactionState(Enum):
    """How a local transaction ended. ``UNKNOWN``: ask later."""

    COMMIT = sysflags.TRANSACTION_COMMIT
    ROLLBACK = sysflags.TRANSACTION_ROLLBACK
    UNKNOWN = sysflags.TRANSACTION_NOT


# LocalTransactionState, as trace records name it.
_JAVA_NAMES: Final = {
    TransactionState.COMMIT: "COMMIT_MESSAGE",
    TransactionState.ROLLBACK: "ROLLBACK_MESSAGE",
    TransactionState.UNKNOWN: "UNKNOW",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionReceipt:
    """The half message's receipt, and the outcome that the broker was told."""

    receipt: SendReceipt
    state: TransactionState

    @property
    def message_id(self) -> str:
        """The message's unique id, which is also the transaction's."""
        return self.receipt.message_id


LocalTransaction = Callable[[Message], TransactionState | Awaitable[TransactionState]]
Check = Callable[[MessageView], TransactionState | Awaitable[TransactionState]]


class TransactionProducer(Producer):
    """A producer whose messages wait for a local transaction.

    ```python
    async def outcome(message: MessageView) -> TransactionState:
        return TransactionState.COMMIT if await orders.exists(message.keys[0]) else TransactionState.ROLLBACK

    async with TransactionProducer("127.0.0.1:9876", group="orders", check=outcome) as producer:
        await producer.send_in_transaction("orders", b"{}", keys="4711", execute=lambda message: orders.insert(...))
    ```

    ``group`` must be the same in all processes that can answer for each other. Options are `Producer`'s.
    """

    def __init__(
        self, name_servers: str | Sequence[str] | None = None, *, group: str, check: Check, **options: Any
    ) -> None:
        super().__init__(name_servers, group=group, **options)
        self._check = check
        self._checks_under_way = 0

    async def send_in_transaction(
        self,
        topic: str | Message,
        body: bytes | str = b"",
        *,
        execute: LocalTransaction,
        tag: str = "",
        keys: str | Iterable[str] | None = None,
        properties: Mapping[str, str] | None = None,
        sharding_key: str = "",
        queue: MessageQueue | None = None,
        check_immunity_s: int | None = None,
        timeout_ms: int | None = None,
    ) -> TransactionReceipt:
        """Store the half message, run ``execute``, tell the broker the outcome.

        When the half message is stored less safely than asked, nothing is executed and the message is rolled back, as in Java.
        An exception of ``execute`` leaves the outcome open (the broker will ask) and is raised again. ``check_immunity_s`` puts
        the first question off. Raises what `Producer.send` raises, and InvalidArgument for a delayed message.
        """
        message = make_message(topic, body, tag=tag, keys=keys, properties=properties, sharding_key=sharding_key)
        m.check_topic(message.topic)
        if message.delay_level or message.delay_ms or message.deliver_at_ms:
            raise InvalidArgument("a transaction cannot be delayed", hint="send the delayed message after its commit")
        if self._telemetry is None:
            receipt = await self._send_half(message, check_immunity_s, queue, timeout_ms)
        else:
            with self._telemetry.sending(self.group, [message]) as sending:
                message = sending.messages[0]
                receipt = await self._send_half(message, check_immunity_s, queue, timeout_ms)
                sending.sent(receipt)
        if receipt.status is not SendStatus.SEND_OK:
            logger.warning("half message %s is rolled back: %s", receipt.message_id, receipt.status.name)
            await self._end(message, receipt, TransactionState.ROLLBACK, "")
            return TransactionReceipt(receipt=receipt, state=TransactionState.ROLLBACK)
        try:
            state = await _outcome(execute(message))
        except BaseException as error:
            await self._end(
                message, receipt, TransactionState.UNKNOWN, f"executeLocalTransactionBranch exception: {error!r}"
            )
            raise
        await self._end(message, receipt, state, "")
        return TransactionReceipt(receipt=receipt, state=state)

    def take_check(
        self, connection: Connection, header: CheckTransactionStateRequestHeader, message: MessageView
    ) -> None:
        """A broker asks; the answer goes back on its connection when ``check`` has one."""
        if self._checks_under_way >= CHECKS_MAX:
            logger.warning("%d checks are under way, one more is dropped: the broker will ask again", CHECKS_MAX)
            return
        self._checks_under_way += 1
        self._active.tasks.start(self._answer(connection, header, message), f"transaction check of {self.group}")

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _send_half(
        self, message: Message, check_immunity_s: int | None, queue: MessageQueue | None, timeout_ms: int | None
    ) -> SendReceipt:
        unique_id = self._active.unique_ids.create()
        wire = m.wire_properties(message, unique_id)
        wire[props.PROPERTY_TRANSACTION_PREPARED] = "true"
        wire[props.PROPERTY_PRODUCER_GROUP] = self.group
        if check_immunity_s is not None:
            wire["CHECK_IMMUNITY_TIME_IN_SECONDS"] = str(check_immunity_s)
        packed, sys_flag = self._pack(message.body)
        return await self._deliver(
            message, encode_wire_properties(wire), packed, sys_flag | sysflags.TRANSACTION_PREPARED, unique_id, queue,
            None, timeout_ms, is_batch=False,
        )  # fmt: skip

    async def _answer(
        self, connection: Connection, header: CheckTransactionStateRequestHeader, message: MessageView
    ) -> None:
        state, remark = TransactionState.UNKNOWN, ""
        try:
            state = await _outcome(self._check(message))
        except Exception as error:
            logger.error("check of transaction %s failed", message.message_id, exc_info=error)
            remark = f"checkLocalTransactionState exception: {error!r}"
        finally:
            self._checks_under_way -= 1
        end = EndTransactionRequestHeader(
            topic=message.topic,
            producer_group=self.group,
            tran_state_table_offset=header.tran_state_table_offset,
            commit_log_offset=header.commit_log_offset,
            commit_or_rollback=state.value,
            from_transaction_check=True,
            msg_id=message.message_id,
            transaction_id=header.transaction_id,
            broker_name=header.broker_name,
        )
        if remark:
            logger.info("the broker is told that %s is unknown: %s", message.message_id, remark)
        connection.notify(RequestCode.END_TRANSACTION, header_fields(end))
        if self._tracer is not None:
            traced = Traced(message.topic, message.message_id, message.tag, message.keys, connection.remote, _KIND)
            self._tracer.ended(
                self.group, traced, header.transaction_id or message.message_id, _JAVA_NAMES[state], is_checked=True
            )

    async def _end(self, message: Message, receipt: SendReceipt, state: TransactionState, remark: str) -> None:
        """Tell the broker; when that fails it will ask."""
        header = EndTransactionRequestHeader(
            topic=receipt.queue.topic,
            producer_group=self.group,
            tran_state_table_offset=receipt.queue_offset,
            commit_log_offset=parse_offset_message_id(receipt.offset_message_id).physical_offset,
            commit_or_rollback=state.value,
            msg_id=receipt.message_id,
            transaction_id=receipt.transaction_id,
        )
        if remark:
            logger.info("transaction %s is open: %s", receipt.message_id, remark)
        try:
            route = await self._route(receipt.queue.topic)
            address = master_of(route, receipt.queue)
            if self._tracer is not None:
                traced = Traced(message.topic, receipt.message_id, message.tag, message.keys, address, _KIND)
                self._tracer.ended(
                    self.group,
                    traced,
                    receipt.transaction_id or receipt.message_id,
                    _JAVA_NAMES[state],
                    is_checked=False,
                )
            await self._active.tell(address, RequestCode.END_TRANSACTION, header, broker_name=receipt.queue.broker_name)
        except ClientError as error:
            logger.warning(
                "the broker was not told that transaction %s is %s, it will ask: %s",
                receipt.message_id, state.name, error,
            )  # fmt: skip


async def _outcome(value: TransactionState | Awaitable[TransactionState]) -> TransactionState:
    found = await value if inspect.isawaitable(value) else value
    if not isinstance(found, TransactionState):
        raise InvalidArgument(f"a local transaction ends with a TransactionState, not {found!r}")
    return found
