"""Sending messages: choose a queue, send to its master, try other brokers where that is safe."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self

import msgspec

from rocketmq_client import messages as m
from rocketmq_client.compression import Compression, compress
from rocketmq_client.errors import (
    BrokerUnavailable,
    ClientClosed,
    ClientError,
    InvalidArgument,
    MessageTooLarge,
    RequestRefused,
    RequestTimeout,
    TopicNotFound,
    refusal,
)
from rocketmq_client.instance import ClientInstance
from rocketmq_client.latency import FaultLatencies
from rocketmq_client.messages import Message, SendReceipt, SendStatus
from rocketmq_client.name_servers import parse_addresses
from rocketmq_client.routes import MASTER_ID, Route
from rocketmq_client.selectors import QueueSelector, RoundRobin, by_hash
from rocketmq_client.telemetry import Telemetry
from rocketmq_client.tracing import Tracer
from rocketmq_common import names
from rocketmq_common import properties as props
from rocketmq_common.batches import BatchEntry, encode_batch
from rocketmq_common.namespaces import qualified
from rocketmq_common.recall_handles import decode_recall_handle
from rocketmq_common.sysflags import TRANSACTION_MASK
from rocketmq_remoting.bodies import MessageQueue
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command
from rocketmq_remoting.headers.recall import RecallMessageRequestHeader, RecallMessageResponseHeader
from rocketmq_remoting.headers.send import SendMessageResponseHeader

logger = logging.getLogger(__name__)

DEFAULT_GROUP: Final = "PYTHON_PRODUCER"
SEND_TIMEOUT_MS: Final = 3000
ATTEMPTS: Final = 3  # Java's retryTimesWhenSendFailed = 2 beyond the first
COMPRESS_OVER_BYTES: Final = 4096
MESSAGE_SIZE_MAX: Final = 4 << 20

# Answers after which Java's producer tries another broker; any other error is final (DefaultMQProducer.retryResponseCodes).
RETRYABLE_CODES: Final = frozenset(
    {
        ResponseCode.TOPIC_NOT_EXIST,
        ResponseCode.SERVICE_NOT_AVAILABLE,
        ResponseCode.SYSTEM_ERROR,
        ResponseCode.SYSTEM_BUSY,
        ResponseCode.NO_PERMISSION,
        ResponseCode.NO_BUYER_ID,
        ResponseCode.NOT_IN_CURRENT_UNIT,
        ResponseCode.GO_AWAY,
    }
)
_STATUSES: Final = {status.value: status for status in SendStatus}
_EXT_TEMPLATE: Final = (
    b'{"a":%b,"b":%b,"c":"TBW102","d":"4","e":"%d","f":"%d","g":"%d",'
    b'"h":"%d","i":%b,"j":"0","k":"false","m":"%b","n":%b}'
)
_json: Final = msgspec.json.Encoder().encode


class Producer:
    """An asyncio producer; safe for any number of concurrent ``send`` calls.

    ```python
    async with Producer("127.0.0.1:9876") as producer:
        receipt = await producer.send("orders", b"hi", tag="created", keys="4711")
    ```

    ``name_servers``: ``host:port`` list, or None for $NAMESRV_ADDR. ``send_timeout_ms`` bounds one send with all its attempts.
    Bodies over ``compress_over_bytes`` are compressed with ``compression`` (None: never). ``tracer`` is told of every attempt,
    ``telemetry`` of every send. ``namespace`` is put before topics and group where brokers see them (``namespace%topic``).
    """

    def __init__(
        self,
        name_servers: str | Sequence[str] | None = None,
        *,
        group: str = DEFAULT_GROUP,
        send_timeout_ms: int = SEND_TIMEOUT_MS,
        attempts: int = ATTEMPTS,
        compression: Compression | None = Compression.ZLIB,
        compress_over_bytes: int = COMPRESS_OVER_BYTES,
        message_size_max: int = MESSAGE_SIZE_MAX,
        avoid_slow_brokers: bool = True,
        tracer: Tracer | None = None,
        telemetry: Telemetry | None = None,
        namespace: str = "",
    ) -> None:
        group = qualified(namespace, group)
        problem = names.group_name_problem(group)
        if problem is not None:
            raise InvalidArgument(problem)
        if attempts < 1 or send_timeout_ms < 1:
            raise InvalidArgument(f"attempts={attempts}, send_timeout_ms={send_timeout_ms}: both must be positive")
        self._addresses = parse_addresses(name_servers)
        self._group = group
        self._send_timeout_ms = send_timeout_ms
        self._attempts = attempts
        self._compression = compression
        self._compress_over_bytes = compress_over_bytes
        self._message_size_max = message_size_max
        self._faults = FaultLatencies() if avoid_slow_brokers else None
        self._tracer = tracer
        self._telemetry = telemetry
        self._namespace = namespace
        self._round_robins: dict[str, RoundRobin] = {}
        self._instance: ClientInstance | None = None
        self._json_group = _json(group)

    @property
    def group(self) -> str:
        """The producer group."""
        return self._group

    @property
    def instance(self) -> ClientInstance:
        """The client instance that it shares; raises ClientClosed before `start`."""
        return self._active

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Join the process's client instance. Name servers are first asked when something is sent."""
        if self._instance is None:
            self._instance = ClientInstance.acquire(self._addresses)
            self._instance.register_producer(self)

    async def close(self) -> None:
        """Leave; sends under way fail with ClientClosed when this was the instance's last user."""
        instance, self._instance = self._instance, None
        if instance is not None:
            try:
                await instance.unregister_producer(self)
            finally:
                await instance.release()

    async def queues(self, topic: str) -> tuple[MessageQueue, ...]:
        """The queues that a message to ``topic`` may go to; raises TopicNotFound."""
        return (await self._route(self.topic_at_brokers(topic))).write_queues

    def topic_at_brokers(self, topic: str) -> str:
        """The name under which brokers know ``topic``: with the namespace before it."""
        return qualified(self._namespace, topic)

    async def send(
        self,
        topic: str | Message,
        body: bytes | str = b"",
        *,
        tag: str = "",
        keys: str | Iterable[str] | None = None,
        properties: Mapping[str, str] | None = None,
        delay_level: int = 0,
        delay: timedelta | None = None,
        deliver_at: datetime | None = None,
        deliver_at_ms: int = 0,
        sharding_key: str = "",
        queue: MessageQueue | None = None,
        selector: QueueSelector | None = None,
        timeout_ms: int | None = None,
    ) -> SendReceipt:
        """Send one message and wait until the broker has it, as safely as the broker is configured.

        With ``delay`` it is delivered that much later, with ``deliver_at`` (local time unless it says otherwise) then: both to the
        millisecond, up to the broker's timerMaxDelaySec. The receipt's ``recall_handle`` takes it back until then (`recall`).
        Without ``queue``, ``selector`` and ``sharding_key`` queues take turns and a failed attempt goes to another broker;
        with one of them there is one attempt, for a retry could break the order.
        Raises InvalidArgument or MessageTooLarge before anything is sent, else TopicNotFound, BrokerUnavailable,
        RequestTimeout (then the message may be stored), RequestRefused.
        """
        message = m.make_message(
            topic, body, tag=tag, keys=keys, properties=properties, delay_level=delay_level,
            delay_ms=0 if delay is None else max(round(delay / timedelta(milliseconds=1)), 0),
            deliver_at_ms=deliver_at_ms if deliver_at is None else m.epoch_ms(deliver_at), sharding_key=sharding_key,
        )  # fmt: skip
        if self._telemetry is None:
            return await self._send(message, queue, selector, timeout_ms)
        with self._telemetry.sending(self._group, [message]) as sending:
            receipt = await self._send(sending.messages[0], queue, selector, timeout_ms)
            sending.sent(receipt)
            return receipt

    async def send_batch(
        self, messages: Sequence[Message], *, queue: MessageQueue | None = None, timeout_ms: int | None = None
    ) -> SendReceipt:
        """Send messages of one topic in one request; they get consecutive offsets of one queue, all or none.

        Raises InvalidArgument for an empty batch, mixed topics or delayed messages, MessageTooLarge when together they exceed
        the size limit; otherwise like `send`.
        """
        if self._telemetry is None or not messages:
            return await self._send_batch(messages, queue, timeout_ms)
        with self._telemetry.sending(self._group, messages) as sending:
            receipt = await self._send_batch(sending.messages, queue, timeout_ms)
            sending.sent(receipt)
            return receipt

    async def _send(
        self, message: Message, queue: MessageQueue | None, selector: QueueSelector | None, timeout_ms: int | None
    ) -> SendReceipt:
        m.check_topic(message.topic)
        unique_id = self._active.unique_ids.create()
        wire = encode_wire_properties(m.wire_properties(message, unique_id))
        packed, sys_flag = self._pack(message.body)
        return await self._deliver(
            message, wire, packed, sys_flag, unique_id, queue, selector, timeout_ms, is_batch=False
        )

    async def _send_batch(
        self, messages: Sequence[Message], queue: MessageQueue | None, timeout_ms: int | None
    ) -> SendReceipt:
        first = m.check_batch(messages)
        identifiers: list[str] = []
        entries: list[BatchEntry] = []
        for message in messages:
            unique_id = self._active.unique_ids.create()
            identifiers.append(unique_id)
            wire = encode_wire_properties(m.wire_properties(message, unique_id))
            entries.append(BatchEntry(message.flag, message.body, wire.encode()))
        body = encode_batch(entries)
        self._check_size(len(body), f"a batch of {len(messages)} messages", "send smaller batches")
        wait = "true" if first.wait_store_ok else "false"
        outer = props.encode_properties({props.PROPERTY_WAIT_STORE_OK: wait})
        return await self._deliver(first, outer, body, 0, ",".join(identifiers), queue, None, timeout_ms, is_batch=True)

    async def send_oneway(
        self,
        topic: str | Message,
        body: bytes | str = b"",
        *,
        tag: str = "",
        keys: str | Iterable[str] | None = None,
        properties: Mapping[str, str] | None = None,
        sharding_key: str = "",
        queue: MessageQueue | None = None,
        selector: QueueSelector | None = None,
    ) -> str:
        """Hand one message to the connection and forget it: nobody says whether it arrived. Returns its unique id."""
        message = m.make_message(topic, body, tag=tag, keys=keys, properties=properties, sharding_key=sharding_key)
        m.check_topic(message.topic)
        instance = self._active
        unique_id = instance.unique_ids.create()
        wire = encode_wire_properties(m.wire_properties(message, unique_id))
        packed, sys_flag = self._pack(message.body)
        message, wire = self._within_namespace(message, wire)
        route = await self._route(message.topic)
        chosen = self._choose(route, message, queue, selector, set())
        ext = self._ext(message, wire, sys_flag, chosen, is_batch=False)
        await instance.tell_raw(master_of(route, chosen), RequestCode.SEND_MESSAGE_V2, ext, packed)
        return unique_id

    async def recall(self, handle: str, *, timeout_ms: int | None = None) -> str:
        """Take back a delayed message that was not delivered yet, by its receipt's ``recall_handle``; returns its unique id.

        Raises InvalidArgument (no handle), RequestRefused (too late, or `recallMessageEnable` is off at the broker), and what
        `send` raises.
        """
        try:
            known = decode_recall_handle(handle)
        except ValueError as error:
            raise InvalidArgument(str(error), hint="use the recall_handle of the receipt") from error
        route = await self._route(known.topic)
        header = RecallMessageRequestHeader(
            topic=known.topic, recall_handle=handle, producer_group=self._group, broker_name=known.broker_name
        )
        answer = await self._active.call(
            master_of(route, MessageQueue(known.topic, known.broker_name, 0)),
            RequestCode.RECALL_MESSAGE,
            header,
            broker_name=known.broker_name,
            timeout_ms=timeout_ms or self._send_timeout_ms,
        )
        if answer.code != ResponseCode.SUCCESS:
            raise refusal(answer.code, answer.remark, f"recall from {known.topic} at {known.broker_name}")
        return answer.header(RecallMessageResponseHeader).msg_id

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _active(self) -> ClientInstance:
        if self._instance is None:
            raise ClientClosed("the producer is not started", hint="use: async with Producer(...) as producer")
        return self._instance

    async def _route(self, topic: str) -> Route:
        route = await self._active.routes.get_for_send(topic)
        if not route.write_queues:
            raise BrokerUnavailable(
                f"no queue of topic {topic} can be written to now",
                hint=f"its brokers are down or not writeable: rocketmq topic route {topic}",
            )
        return route

    async def _deliver(
        self,
        message: Message,
        wire: str,
        body: bytes,
        sys_flag: int,
        unique_id: str,
        queue: MessageQueue | None,
        selector: QueueSelector | None,
        timeout_ms: int | None,
        *,
        is_batch: bool,
    ) -> SendReceipt:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (timeout_ms or self._send_timeout_ms) / 1000
        message, wire = self._within_namespace(message, wire)
        attempts = 1 if queue is not None or selector is not None or message.sharding_key else self._attempts
        code = RequestCode.SEND_BATCH_MESSAGE if is_batch else RequestCode.SEND_MESSAGE_V2
        if message.properties and message.properties.get(props.PROPERTY_MESSAGE_TYPE) == "reply":
            code = RequestCode.SEND_REPLY_MESSAGE_V2
        failed: set[str] = set()
        last_error: ClientError | None = None
        for attempt in range(attempts):
            route = await self._route(message.topic)
            chosen = self._choose(route, message, queue, selector, failed)
            remaining_ms = (deadline - loop.time()) * 1000
            if remaining_ms <= 0:
                break
            started = loop.time()
            receipt: SendReceipt | None = None
            try:
                answer = await self._active.call(
                    master_of(route, chosen),
                    code,
                    self._ext(message, wire, sys_flag, chosen, is_batch=is_batch),
                    body,
                    broker_name=chosen.broker_name,
                    timeout_ms=remaining_ms,
                )
            except (BrokerUnavailable, RequestTimeout) as error:
                self._note(chosen, ISOLATED)
                last_error = error
            else:
                self._note(chosen, (loop.time() - started) * 1000)
                status = _STATUSES.get(answer.code)
                if status is not None:
                    receipt = _receipt(answer, status, unique_id, chosen)
                    return receipt
                last_error = refusal(answer.code, answer.remark, f"send to {chosen.topic} at {chosen.broker_name}")
                if answer.code not in RETRYABLE_CODES:
                    raise last_error
                if answer.code in (ResponseCode.SYSTEM_ERROR, ResponseCode.SERVICE_NOT_AVAILABLE):
                    self._note(chosen, ISOLATED)
            finally:
                if self._tracer is not None:
                    started_ms = time.time_ns() // 1_000_000 - int((loop.time() - started) * 1000)
                    is_half = sys_flag & TRANSACTION_MASK != 0
                    host = master_of(route, chosen)
                    self._tracer.sent(self._group, message, unique_id, host, started_ms, receipt, is_half=is_half)
            failed.add(chosen.broker_name)
            logger.info("attempt %d to send to %s failed: %s", attempt + 1, chosen.topic, last_error)
            await self._refresh(message.topic, last_error)
        if last_error is None:
            raise RequestTimeout(f"no time was left to send to {message.topic}", hint="raise send_timeout_ms")
        raise last_error

    def _within_namespace(self, message: Message, wire: str) -> tuple[Message, str]:
        # Replies go to a topic of the broker's own.
        if not self._namespace or message.properties.get(props.PROPERTY_MESSAGE_TYPE) == "reply":
            return message, wire
        wire = props.append_property(wire, props.PROPERTY_INSTANCE_ID, self._namespace)
        return replace(message, topic=self.topic_at_brokers(message.topic)), wire

    async def _refresh(self, topic: str, error: ClientError) -> None:
        """Look whether the topic has moved, after errors that hint at it."""
        moved = isinstance(error, BrokerUnavailable | TopicNotFound) or (
            isinstance(error, RequestRefused) and error.code == ResponseCode.NO_PERMISSION
        )
        if moved:
            try:
                await self._active.routes.fetch(topic)
            except ClientError as failure:
                logger.info("route of %s not refreshed: %s", topic, failure)

    def _choose(
        self,
        route: Route,
        message: Message,
        queue: MessageQueue | None,
        selector: QueueSelector | None,
        failed: set[str],
    ) -> MessageQueue:
        if queue is not None:
            return queue
        if selector is not None:
            return selector(route.write_queues, message)
        if message.sharding_key:
            return by_hash(route.write_queues, message.sharding_key)
        round_robin = self._round_robins.get(message.topic)
        if round_robin is None:
            if len(self._round_robins) >= TOPICS_MAX:
                self._round_robins.pop(next(iter(self._round_robins)))
            round_robin = self._round_robins[message.topic] = RoundRobin(self._faults)
        return round_robin.select(route.write_queues, failed)

    def _ext(self, message: Message, wire: str, sys_flag: int, queue: MessageQueue, *, is_batch: bool) -> bytes:
        """SendMessageRequestHeaderV2 as ready JSON: the header of every message, so no struct and no dictionary."""
        return _EXT_TEMPLATE % (
            self._json_group, _json(message.topic), queue.queue_id, sys_flag, time.time_ns() // 1_000_000,
            message.flag, _json(wire), b"true" if is_batch else b"false", _json(queue.broker_name),
        )  # fmt: skip

    def _pack(self, body: bytes) -> tuple[bytes, int]:
        """(bytes to send, sys flag)."""
        self._check_size(
            len(body), "the body", "send less, or raise maxMessageSize at the broker and message_size_max here"
        )
        if self._compression is None or len(body) < self._compress_over_bytes:
            return body, 0
        return compress(body, self._compression), self._compression.value

    def _check_size(self, size: int, what: str, hint: str) -> None:
        if size > self._message_size_max:
            raise MessageTooLarge(f"{what} has {size} bytes, {self._message_size_max} are allowed", hint=hint)

    def _note(self, queue: MessageQueue, latency_ms: float) -> None:
        if self._faults is not None:
            self._faults.note(queue.broker_name, latency_ms, failed=latency_ms == ISOLATED)


ISOLATED: Final = -1.0
TOPICS_MAX: Final = 10_000  # topics whose turn is remembered


def encode_wire_properties(properties: Mapping[str, str]) -> str:
    """The property string; raises InvalidArgument or MessageTooLarge."""
    try:
        wire = props.encode_properties(properties)
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
    size = len(wire.encode())
    if size > props.PROPERTIES_SIZE_MAX:
        raise MessageTooLarge(
            f"the properties take {size} bytes, {props.PROPERTIES_SIZE_MAX} are allowed", hint="move data to the body"
        )
    return wire


def master_of(route: Route, queue: MessageQueue) -> str:
    """The address of the queue's master; raises BrokerUnavailable when the route names none."""
    broker = route.brokers.get(queue.broker_name)
    address = broker.broker_addrs.get(MASTER_ID) if broker is not None else None
    if address is None:
        raise BrokerUnavailable(
            f"broker {queue.broker_name} has no master in the route of {route.topic}",
            hint=f"check: rocketmq topic route {route.topic}",
        )
    return address


def _receipt(answer: Command, status: SendStatus, unique_id: str, queue: MessageQueue) -> SendReceipt:
    header = answer.header(SendMessageResponseHeader)
    if header.queue_id != queue.queue_id:
        queue = MessageQueue(queue.topic, queue.broker_name, header.queue_id)
    return SendReceipt(
        status=status,
        message_id=unique_id,
        offset_message_id=header.msg_id,
        queue=queue,
        queue_offset=header.queue_offset,
        transaction_id=header.transaction_id,
        recall_handle=header.recall_handle,
        region_id=header.region_id,
        is_trace_on=header.trace_on != "false",
    )
