"""Batches that came in one turn of the loop are stored together: what they cost lies in the calls, not in the messages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from rocketmq_broker.ha.promises import SendPromise
from rocketmq_broker.identity import Identity
from rocketmq_broker.put_answers import answer_kept, refusal
from rocketmq_broker.statistics import TopicCounters
from rocketmq_remoting.codes import ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, answer_bug
from rocketmq_store.appending import NewMessage
from rocketmq_store.rows import pack_rows
from rocketmq_store.statuses import BatchResult, PutStatus
from rocketmq_store.store import MessageStore

# Stored together at the most: their records are one write, and other work waits as long.
TOGETHER_COUNT_MAX: Final = 16
_SUCCESS: Final = int(ResponseCode.SUCCESS)


class _Waiting(NamedTuple):
    connection: Connection
    command: Command
    message: NewMessage
    counters: TopicCounters
    waits: bool


class BatchSender:
    """Stores checked batches in the next turn of the loop and answers each. ``ext_tail`` ends each answer."""

    def __init__(
        self,
        store: MessageStore,
        identity: Identity,
        promise: SendPromise,
        ext_tail: bytes,
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._store = store
        self._identity = identity
        self._promise = promise
        self._ext_tail = ext_tail
        self._call_soon = call_soon
        # Of one turn: bounded by what its reads can hold.
        self._waiting: list[_Waiting] = []

    def add(
        self, connection: Connection, command: Command, message: NewMessage, counters: TopicCounters, *, waits: bool
    ) -> None:
        """Store the batch soon; answered by `Connection.respond`. Without ``waits`` not even flush or replicas are waited for."""
        if not self._waiting:
            self._call_soon(self._store_all)
        self._waiting.append(_Waiting(connection, command, message, counters, waits))

    def _store_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), TOGETHER_COUNT_MAX):
            together = waiting[start : start + TOGETHER_COUNT_MAX]
            try:
                results = self._store.append_batches([one.message for one in together])
            except Exception as error:  # noqa: BLE001 - as in Connection: a bug must not leave requests without an answer
                for one in together:
                    one.connection.respond(one.command, answer_bug(one.command, error))
                continue
            for one, result in zip(together, results, strict=True):
                try:
                    self._conclude(one, result)
                except Exception as error:  # noqa: BLE001 - nor those behind the one that it concerns
                    one.connection.respond(one.command, answer_bug(one.command, error))

    def _conclude(self, one: _Waiting, result: BatchResult) -> None:
        connection, command, message, counters, waits = one
        if result.status is not PutStatus.PUT_OK:
            counters.put_failed += 1
            error = refusal(result.status, result.reason)
            connection.respond(command, Response(error.code, remark=error.remark))
            return
        count, size = len(result.physical_offsets), len(message.body)
        counters.note_put(size, count)
        # Many may wait, and the log has the body.
        command.body = b""
        ext = b'{"msgId":"%b","queueId":"%d","queueOffset":"%d"%b' % (
            self._message_ids(result),
            message.queue_id,
            result.queue_offset,
            self._ext_tail,
        )
        if self._promise.is_deferred and waits and not command.is_oneway:
            self._promise.when_kept(result.end_offset, partial(answer_kept, connection, command, ext))
        else:
            connection.respond(command, Response(_SUCCESS, ext))

    def _message_ids(self, result: BatchResult) -> bytes:
        """Offset message ids, separated by commas: hexadecimal digits of all of them in one call."""
        prefix = self._identity.message_id_prefix
        digits = pack_rows("q", result.physical_offsets).hex(",", 8).upper()
        return prefix + digits.encode().replace(b",", b"," + prefix)
