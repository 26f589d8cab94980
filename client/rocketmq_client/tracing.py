"""Message trace: who sent and who consumed a message, when, and with which outcome, written to a topic that Java's tools read.

A `Tracer` serves any number of producers and consumers of a process. It never slows them: records wait in a bounded queue and
leave in batches; when the queue is full, or the trace topic cannot be written, records are dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from rocketmq_client import trace_records as records
from rocketmq_client.errors import ClientError
from rocketmq_client.messages import ConsumeResult, Message, MessageView, SendReceipt
from rocketmq_client.trace_records import ContextCode, MessageKind, Traced, TraceRecord
from rocketmq_common import names
from rocketmq_common import properties as props
from rocketmq_common.tasks import TaskRegistry

if TYPE_CHECKING:
    from rocketmq_client.producer import Producer

logger = logging.getLogger(__name__)

RECORDS_MAX: Final = 20_000
# Of one trace message (Java: maxMsgSize of the dispatcher).
BATCH_SIZE_MAX: Final = 128_000
BATCH_COUNT_MAX: Final = 100
BATCH_INTERVAL_MS: Final = 500
CLOSE_TIMEOUT_MS: Final = 5000
DEFAULT_REGION: Final = "DefaultRegion"


class Tracer:
    """Collects and sends trace records.

    ```python
    async with Tracer("127.0.0.1:9876") as tracer, Producer("127.0.0.1:9876", tracer=tracer) as producer:
        await producer.send("orders", b"hi")
    ```

    Close it after those who use it. ``dropped_count``: records that were lost because nothing could take them.
    """

    def __init__(
        self,
        name_servers: str | Sequence[str] | None = None,
        *,
        topic: str = names.TRACE_TOPIC,
        region: str = DEFAULT_REGION,
    ) -> None:
        from rocketmq_client.producer import Producer

        self._topic = topic
        self._region = region
        group = f"_INNER_TRACE_PRODUCER-PYTHON-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._producer: Producer = Producer(name_servers, group=group)
        self._records: deque[TraceRecord] = deque()
        self._tasks = TaskRegistry()
        self.dropped_count = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Begin to send what is collected."""
        await self._producer.start()
        self._tasks.every(BATCH_INTERVAL_MS, self.flush, "message trace", critical=False)

    async def close(self) -> None:
        """Send what is left, as far as that is possible in a few seconds."""
        await self._tasks.stop()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_MS / 1000):
                await self.flush()
        except TimeoutError:
            self._drop(len(self._records), "the tracer closes")
        await self._producer.close()

    async def flush(self) -> None:
        """Send everything collected so far; records that cannot be sent are dropped."""
        while self._records:
            batch = self._take_batch()
            body = "".join(record.text for record in batch).encode()
            keys = dict.fromkeys(key for record in batch for key in record.keys if key and " " not in key)
            try:
                await self._producer.send(Message(topic=self._topic, body=body, keys=tuple(keys)))
            except ClientError as error:
                self._drop(len(batch), str(error))

    # -- what producers and consumers tell ---------------------------------------------------------------------------

    def sent(
        self,
        group: str,
        message: Message,
        message_id: str,
        store_host: str,
        started_ms: int,
        receipt: SendReceipt | None,
        *,
        is_half: bool = False,
    ) -> None:
        """A send ended; ``receipt`` is None when it failed. Brokers that say TRACE_ON=false are not traced."""
        if receipt is not None and not receipt.is_trace_on:
            return
        kind = MessageKind.TRANSACTION_HALF if is_half else _kind_of(message)
        self._add(
            records.published(
                Traced(message.topic, message_id, message.tag, message.keys, store_host, kind),
                time_ms=started_ms,
                region=self._region if receipt is None else receipt.region_id or self._region,
                group=group,
                body_size=len(message.body),
                cost_ms=_now_ms() - started_ms,
                offset_message_id="" if receipt is None else receipt.offset_message_id,
                is_success=receipt is not None,
            )
        )

    def ended(self, group: str, message: Traced, transaction_id: str, state: str, *, is_checked: bool) -> None:
        """A producer told the broker how a transaction ended."""
        self._add(
            records.transaction_ended(
                message, time_ms=_now_ms(), region=self._region, group=group, transaction_id=transaction_id,
                state=state, is_checked=is_checked,
            )
        )  # fmt: skip

    async def consuming(
        self, group: str, message: MessageView, listen: Callable[[MessageView], Awaitable[ConsumeResult]]
    ) -> ConsumeResult:
        """Call ``listen`` with one record before and one after it."""
        if message.properties.get(props.PROPERTY_TRACE_SWITCH) == "false":
            return await listen(message)
        traced = Traced(message.topic, message.message_id, message.tag, message.keys, message.store_host)
        request_id, started = uuid.uuid4().hex.upper(), time.perf_counter()
        self._add(
            records.about_to_consume(
                traced,
                time_ms=_now_ms(),
                region=message.properties.get(props.PROPERTY_MSG_REGION, self._region),
                group=group,
                request_id=request_id,
                retry_times=message.reconsume_times,
            )
        )
        result = await listen(message)
        code = ContextCode.SUCCESS if result is ConsumeResult.SUCCESS else ContextCode.FAILED
        cost_ms = int((time.perf_counter() - started) * 1000)
        self._add(
            records.consumed(traced, time_ms=_now_ms(), group=group, request_id=request_id, cost_ms=cost_ms, code=code)
        )
        return result

    # -- inside ------------------------------------------------------------------------------------------------------

    def _add(self, record: TraceRecord) -> None:
        if len(self._records) >= RECORDS_MAX:
            self._drop(1, f"{RECORDS_MAX} records wait")
            return
        self._records.append(record)

    def _take_batch(self) -> list[TraceRecord]:
        batch = [self._records.popleft()]
        size = len(batch[0].text)
        while self._records and len(batch) < BATCH_COUNT_MAX and size + len(self._records[0].text) <= BATCH_SIZE_MAX:
            record = self._records.popleft()
            size += len(record.text)
            batch.append(record)
        return batch

    def _drop(self, count: int, why: str) -> None:
        if count:
            # Once per power of two, not once per record.
            if (self.dropped_count + count).bit_length() > self.dropped_count.bit_length():
                logger.warning("%d trace records dropped so far: %s", self.dropped_count + count, why)
            self.dropped_count += count


def _kind_of(message: Message) -> MessageKind:
    if message.delay_level or message.deliver_at_ms:
        return MessageKind.DELAY
    return MessageKind.ORDER if message.sharding_key else MessageKind.NORMAL


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
