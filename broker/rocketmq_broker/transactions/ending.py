"""How a transaction ends: END_TRANSACTION (37) of its producer, and RESUME_CHECK_HALF_MESSAGE (323) of an operator.

A transaction ends once. What its end needs is looked up in the table of undecided ones, not in the log, so a repeated end, or
one that comes after the broker gave up, changes nothing. Commit is two appends in one turn of the loop: the message, then the
op (`Operations`).
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

from rocketmq_broker.delay_levels import delay_level, schedule
from rocketmq_broker.ha.promises import SendPromise
from rocketmq_broker.put_answers import refusal
from rocketmq_broker.settings import BrokerRole, BrokerSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.transactions.counters import TransactionCounters
from rocketmq_broker.transactions.half_messages import (
    HALF_QUEUE_ID,
    PROPERTY_FIRST_OFFSET,
    Half,
    HalfMessages,
    committed_flags,
    committed_properties,
    half_of,
    number_property,
    real_place,
    renewed_properties,
)
from rocketmq_broker.transactions.operations import Operations
from rocketmq_broker.transactions.reading import read_half, read_visible
from rocketmq_broker.transactions.ready_commits import Commit, Parts, append_parts
from rocketmq_broker.transactions.replay import is_committed
from rocketmq_common import names, sysflags
from rocketmq_common.clock import Clock
from rocketmq_common.message_ids import parse_offset_message_id
from rocketmq_common.properties import PROPERTY_DELAY_LEVEL, PROPERTY_PRODUCER_GROUP, find_property
from rocketmq_common.records import StoredMessage
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Outcome, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.transactions import EndTransactionRequestHeader, ResumeCheckHalfMessageRequestHeader
from rocketmq_store.appending import NewMessage
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

_DELAY: Final = PROPERTY_DELAY_LEVEL.encode()
# What one-way requests are answered: nothing.
_ONEWAY_DONE: Final = b"{}"


class EndTransactionProcessor:
    """See the module."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        halves: HalfMessages,
        operations: Operations,
        counters: TransactionCounters,
        statistics: BrokerStatistics,
        clock: Clock,
        promise: SendPromise,
        *,
        delay_level_max: int,
    ) -> None:
        self._settings = settings
        self._store = store
        self._halves = halves
        self._operations = operations
        self._counters = counters
        self._statistics = statistics
        self._clock = clock
        self._promise = promise
        self._delay_level_max = delay_level_max

    def routes(self) -> list[Route]:
        """The rows of the table that this processor serves."""
        return [
            Route(RequestCode.END_TRANSACTION, EndTransactionRequestHeader, self.end),
            Route(RequestCode.RESUME_CHECK_HALF_MESSAGE, ResumeCheckHalfMessageRequestHeader, self.resume),
        ]

    def end(self, connection: Connection, command: Command, header: EndTransactionRequestHeader) -> Outcome:
        """Commit, roll back, or nothing (the producer does not know yet). Clients do not wait for an answer."""
        try:
            return self._end(connection, command, header)
        except RemotingError as error:
            self._counters.refused_nums += 1
            if command.is_oneway:
                logger.warning(
                    "end of transaction %s by %s (%s) is refused: %s",
                    header.msg_id, header.producer_group, connection.remote, error.remark,
                )  # fmt: skip
            raise

    def resume(self, connection: Connection, command: Command, header: ResumeCheckHalfMessageRequestHeader) -> Response:
        """Ask again about a transaction that was given up, with a fresh count of questions."""
        self._refuse_on_slave()
        try:
            place = parse_offset_message_id(header.msg_id).physical_offset
        except ValueError as error:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, str(error)) from error
        message = read_visible(self._store, place)
        if message is None or message.topic not in (names.TRANS_CHECK_MAX_TIME_TOPIC, names.TRANS_HALF_TOPIC):
            raise RemotingError(
                ResponseCode.SYSTEM_ERROR, f"{header.msg_id} is no message of {names.TRANS_CHECK_MAX_TIME_TOPIC}"
            )
        if message.topic == names.TRANS_HALF_TOPIC:
            half = self._halves.find(message.queue_offset, message.physical_offset)
            if half is None:
                raise RemotingError(ResponseCode.SYSTEM_ERROR, f"transaction {header.msg_id} has ended already")
            half.check_times = 0
            return Response()
        self._resume_given_up(header.msg_id, message)
        return Response()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _end(self, connection: Connection, command: Command, header: EndTransactionRequestHeader) -> Outcome:
        self._refuse_on_slave()
        outcome = header.commit_or_rollback
        if outcome == sysflags.TRANSACTION_NOT:
            return Response()
        if outcome not in (sysflags.TRANSACTION_COMMIT, sysflags.TRANSACTION_ROLLBACK):
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"commitOrRollback {outcome} is neither 8, 12 nor 0")
        half = self._halves.find(header.tran_state_table_offset, header.commit_log_offset)
        if half is None:
            raise RemotingError(
                ResponseCode.SYSTEM_ERROR,
                f"no undecided transaction stands at half queue offset {header.tran_state_table_offset}, "
                f"log offset {header.commit_log_offset}: it has ended, or never was",
            )
        commit = self._halves.ready.find(half.queue_offset) or self._read_commit(half)
        if commit.producer_group != header.producer_group:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, "The producer group wrong")
        age_ms = self._clock.now_ms() - half.first_stored_ms
        if not header.from_transaction_check and half.immunity_ms >= 0:
            # The producer asked to be asked late; what comes even later than that is no original answer any more.
            limit_ms = max(half.immunity_ms, self._settings.transaction_time_out)
            if age_ms > limit_ms:
                raise RemotingError(
                    ResponseCode.ILLEGAL_OPERATION, f"the transaction is {age_ms} ms old, {limit_ms} ms are allowed"
                )
        if self._operations.is_full:
            raise RemotingError(ResponseCode.SYSTEM_BUSY, "[OVERLOAD]system busy: too many ends wait to be stored")
        if outcome == sysflags.TRANSACTION_ROLLBACK:
            self.close(half)
            self._counters.rolled_back(half.topic)
            if self._promise.is_deferred and not command.is_oneway:
                # The op is all that a rollback stores.
                self._operations.flush()
            return self._answer(connection, command, self._store.positions.written)
        return self._answer(connection, command, self._commit(half, commit.parts, age_ms))

    def close(self, half: Half) -> None:
        """The transaction is over, whichever way."""
        self._halves.remove(half)
        self._operations.add(half.queue_offset)

    def _read_commit(self, half: Half) -> Commit:
        """What committing stores, by the half message in the log. Raises RemotingError."""
        message = read_half(self._store, half)
        place = None if message is None else real_place(message)
        if message is None or place is None:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, "Find prepared transaction message failed")
        parts = (
            *place,
            message.body,
            committed_properties(message.properties).encode(),
            message.flag,
            committed_flags(message.sys_flag),
            message.born_timestamp,
            message.born_host,
            message.reconsume_times,
        )
        return Commit(parts, find_property(message.properties, PROPERTY_PRODUCER_GROUP) or "")

    def _delayed(self, parts: Parts) -> Parts:
        """Where the message waits first, if it has a delay level. Raises RemotingError."""
        topic, queue_id, body, properties, flag, sys_flag, born_ms, born_host, times = parts
        text = properties.decode()
        try:
            level = delay_level(text)
        except ValueError as error:
            raise RemotingError(ResponseCode.MESSAGE_ILLEGAL, str(error)) from error
        if level <= 0:
            return parts
        topic, queue_id, text = schedule(topic, queue_id, text, level, self._delay_level_max)
        return topic, queue_id, body, text.encode(), flag, sys_flag, born_ms, born_host, times

    def _commit(self, half: Half, parts: Parts, age_ms: int) -> int:
        """Store the message where it belongs; the log offset behind it. Raises RemotingError, the transaction is open then."""
        if _DELAY in parts[3]:
            parts = self._delayed(parts)
        result = append_parts(self._store, parts, half.physical_offset)
        if result.status is not PutStatus.PUT_OK:
            raise refusal(result.status, result.reason)
        self.close(half)
        self._statistics.topic(parts[0]).note_put(len(parts[2]))
        self._counters.committed(half.topic, max(age_ms, 0))
        return result.end_offset

    def _answer(self, connection: Connection, command: Command, end_offset: int) -> Outcome:
        if command.is_oneway:
            if self._promise.is_deferred:
                # Nobody waits for the answer, yet consumers wait for the flush.
                self._promise.when_kept(end_offset, _log_unkept)
            return _ONEWAY_DONE
        if not self._promise.is_deferred:
            return Response()
        self._promise.when_kept(end_offset, partial(_answer_kept, connection, command))
        return None

    def _refuse_on_slave(self) -> None:
        if self._settings.broker_role is BrokerRole.SLAVE:
            raise RemotingError(
                ResponseCode.SLAVE_NOT_AVAILABLE, "this broker is a slave: end the transaction at its master"
            )

    def _resume_given_up(self, message_id: str, message: StoredMessage) -> None:
        first = number_property(message.properties, PROPERTY_FIRST_OFFSET)
        if first >= 0 and any(half.first_offset == first for half in self._halves.undecided.values()):
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"transaction {message_id} is asked about already")
        if is_committed(self._store, message):
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"transaction {message_id} was resumed and committed")
        result = self._store.append(
            NewMessage(
                names.TRANS_HALF_TOPIC,
                HALF_QUEUE_ID,
                message.body,
                renewed_properties(message.properties, 0, first).encode(),
                message.flag,
                message.sys_flag,
                message.born_timestamp,
                message.born_host,
                message.reconsume_times,
            )
        )
        if result.status is not PutStatus.PUT_OK:
            raise refusal(result.status, result.reason)
        message.queue_offset, message.physical_offset = result.queue_offset, result.physical_offset
        message.store_timestamp = result.store_timestamp_ms
        half = half_of(message)
        if half is not None:
            half.check_times = 0
            half.first_offset = first
            self._halves.add(half)


def _log_unkept(status: PutStatus) -> None:
    if status is not PutStatus.PUT_OK:
        logger.warning("the end of a transaction is stored, but not as safely as configured: %s", status.name)


def _answer_kept(connection: Connection, command: Command, status: PutStatus) -> None:
    # Stored is success here, as with Apache: the message will be delivered, and a retry would be refused.
    remark = None if status is PutStatus.PUT_OK else status.name
    code = ResponseCode.SUCCESS if status.is_stored else ResponseCode.SYSTEM_ERROR
    connection.respond(command, Response(code, remark=remark))
