"""Sends of half messages: what `SendProcessor` hands over once its own checks are done."""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec

from rocketmq_broker.ha.promises import SendPromise
from rocketmq_broker.identity import Identity
from rocketmq_broker.put_answers import answer_kept, refusal
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.transactions.service import Transactions
from rocketmq_common import names
from rocketmq_common.message_ids import UniqueIds
from rocketmq_common.properties import PROPERTY_UNIQUE_KEY, append_property, find_property
from rocketmq_common.sysflags import TRANSACTION_MASK
from rocketmq_remoting.commands import Command
from rocketmq_remoting.connection import Connection, Outcome
from rocketmq_remoting.headers.send import SendMessageRequestHeader, SendMessageRequestHeaderV1
from rocketmq_store.statuses import PutStatus

_ONEWAY_DONE: Final = b"{}"


class HalfSender:
    """Stores and answers. ``suffix`` are the properties that the broker adds to each message, ``ext_tail`` ends each answer."""

    def __init__(
        self,
        transactions: Transactions,
        identity: Identity,
        statistics: BrokerStatistics,
        promise: SendPromise,
        suffix: str,
        ext_tail: bytes,
    ) -> None:
        self._transactions = transactions
        self._identity = identity
        self._statistics = statistics
        self._counters = statistics.topic(names.TRANS_HALF_TOPIC)
        self._promise = promise
        self._suffix = suffix
        self._ext_tail = ext_tail
        self._unique_ids = UniqueIds()

    def send(
        self,
        connection: Connection,
        command: Command,
        header: SendMessageRequestHeader | SendMessageRequestHeaderV1,
        queue_id: int,
        text: str,
        sys_flag: int,
    ) -> Outcome:
        """Store the message for ``queue_id`` of the header's topic as a half message; answer with the half message's place.

        ``text`` is the cleaned property string. Raises RemotingError.
        """
        unique_key = find_property(text, PROPERTY_UNIQUE_KEY) or ""
        if not unique_key:
            unique_key = self._unique_ids.create()
            text = append_property(text, PROPERTY_UNIQUE_KEY, unique_key)
        if text[-1] != "\x02":
            text += "\x02"
        body = command.body
        result = self._transactions.append_half(
            (
                header.topic,
                queue_id,
                body,
                b"",
                header.flag,
                sys_flag & ~TRANSACTION_MASK,
                header.born_timestamp,
                connection.peer_host,
                header.reconsume_times,
            ),
            text + self._suffix,
            header.producer_group,
            unique_key,
        )
        counters = self._counters
        if result.status is not PutStatus.PUT_OK:
            counters.put_failed += 1
            raise refusal(result.status, result.reason)
        counters.note_put(len(body))
        if command.is_oneway:
            return _ONEWAY_DONE
        ext = b'{"msgId":"%b%016X","queueId":"%d","queueOffset":"%d","transactionId":%b%b' % (
            self._identity.message_id_prefix,
            result.physical_offset,
            queue_id,
            result.queue_offset,
            msgspec.json.encode(unique_key),
            self._ext_tail,
        )
        if self._promise.is_deferred and "WAIT\x01f" not in text:
            command.body = b""
            self._promise.when_kept(result.end_offset, partial(answer_kept, connection, command, ext))
            return None
        return ext
