"""Where a group's progress is kept: at the brokers (clustering) or in a local file (broadcasting)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from rocketmq_client.addresses import own_address
from rocketmq_client.errors import ClientError, RequestRefused
from rocketmq_client.instance import ClientInstance
from rocketmq_common import javajson
from rocketmq_common.files import FileSystem, RealFiles
from rocketmq_remoting.bodies import MessageQueue
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.headers.offsets import (
    OffsetResponseHeader,
    QueryConsumerOffsetRequestHeader,
    QueueHeader,
    SearchOffsetRequestHeader,
    UpdateConsumerOffsetRequestHeader,
)

logger = logging.getLogger(__name__)

OFFSETS_FILE = "offsets.json"


class OffsetStore(Protocol):
    """Progress of one group."""

    async def fetch(self, queue: MessageQueue) -> int | None:
        """The next offset to consume; ``None`` when the group never consumed the queue. Raises ClientError."""
        ...

    async def commit(self, offsets: Mapping[MessageQueue, int], *, wait: bool = False) -> set[MessageQueue]:
        """Keep these; returns those that were kept. With ``wait`` brokers confirm, else they are only told."""
        ...


class RemoteOffsets:
    """At the master of each queue's broker."""

    def __init__(self, instance: ClientInstance, group: str) -> None:
        self._instance = instance
        self._group = group
        # (topic, broker) pairs of which the broker has a position of the group.
        self._begun: set[tuple[str, str]] = set()

    async def fetch(self, queue: MessageQueue) -> int | None:
        """See `OffsetStore.fetch`."""
        header = QueryConsumerOffsetRequestHeader(
            consumer_group=self._group, topic=queue.topic, queue_id=queue.queue_id
        )
        address, _ = self._instance.routes.for_reading(queue.broker_name)
        try:
            answer = await self._instance.request(
                address, RequestCode.QUERY_CONSUMER_OFFSET, header, broker_name=queue.broker_name
            )
        except RequestRefused as error:
            if error.code == ResponseCode.QUERY_NOT_FOUND:
                return None
            raise
        return answer.header(OffsetResponseHeader).offset

    async def commit(self, offsets: Mapping[MessageQueue, int], *, wait: bool = False) -> set[MessageQueue]:
        """See `OffsetStore.commit`; a broker that cannot be reached is logged and tried again with the next commit."""

        async def commit_one(queue: MessageQueue, *, wait: bool) -> None:
            offset = offsets[queue]
            header = UpdateConsumerOffsetRequestHeader(
                consumer_group=self._group, topic=queue.topic, queue_id=queue.queue_id, commit_offset=offset
            )
            address, _ = self._instance.routes.for_reading(queue.broker_name)
            code, name = RequestCode.UPDATE_CONSUMER_OFFSET, queue.broker_name
            if wait:
                await self._instance.request(address, code, header, broker_name=name)
            else:
                await self._instance.tell(address, code, header, broker_name=name)

        # Apache's brokers lose positions when the first ones of a group on a topic come at once: one goes ahead.
        ahead = {(q.topic, q.broker_name): q for q in offsets if (q.topic, q.broker_name) not in self._begun}
        first = list(ahead.values())
        rest = [queue for queue in offsets if queue not in first]
        outcomes = await asyncio.gather(*(commit_one(q, wait=True) for q in first), return_exceptions=True)
        self._begun |= {pair for pair, outcome in zip(ahead, outcomes, strict=True) if outcome is None}
        outcomes += await asyncio.gather(*(commit_one(q, wait=wait) for q in rest), return_exceptions=True)
        queues = first + rest
        kept: set[MessageQueue] = set()
        for queue, outcome in zip(queues, outcomes, strict=True):
            if isinstance(outcome, ClientError):
                logger.warning("offset %d of %s not committed: %s", offsets[queue], queue, outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                kept.add(queue)
        return kept


def default_directory() -> Path:
    """Where broadcasting consumers keep offsets, as Java does: one directory per address."""
    return Path.home() / ".rocketmq_offsets" / f"{own_address()}@DEFAULT"


class LocalOffsets:
    """In ``<directory>/<group>/offsets.json``, in Java's form."""

    def __init__(self, group: str, directory: Path | None = None, files: FileSystem | None = None) -> None:
        self._path = (directory or default_directory()) / group / OFFSETS_FILE
        self._files = files or RealFiles()
        self._table: dict[MessageQueue, int] | None = None

    async def fetch(self, queue: MessageQueue) -> int | None:
        """See `OffsetStore.fetch`; raises ClientError when file and backup are damaged."""
        if self._table is None:
            self._table = await asyncio.to_thread(self._load)
        return self._table.get(queue)

    async def commit(self, offsets: Mapping[MessageQueue, int], *, wait: bool = False) -> set[MessageQueue]:
        """See `OffsetStore.commit`; raises ClientError when the file cannot be written."""
        del wait
        if self._table is None:
            self._table = await asyncio.to_thread(self._load)
        self._table.update(offsets)
        data = b'{"offsetTable":' + javajson.dumps_object_keyed(self._table.items()) + b"}"
        try:
            await asyncio.to_thread(self._save, data)
        except OSError as error:
            raise ClientError(
                f"offsets cannot be kept in {self._path}: {error}", hint="give another offset_directory"
            ) from error
        return set(offsets)

    def _save(self, data: bytes) -> None:
        self._files.make_directory(self._path.parent)
        self._files.replace(self._path, data)

    def _load(self) -> dict[MessageQueue, int]:
        problem = ""
        for path in (self._path, self._path.with_name(self._path.name + ".bak")):
            try:
                return _parse(self._files.read(path))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, javajson.JavaJsonError, KeyError, TypeError, ValueError, AttributeError) as error:
                problem = f"{path} cannot be read: {error}"
                logger.warning("%s", problem)
        if problem:
            raise ClientError(problem, hint="restore the file, or remove it to start as a new consumer")
        return {}


def _parse(data: bytes) -> dict[MessageQueue, int]:
    table = javajson.loads(data)["offsetTable"]
    result: dict[MessageQueue, int] = {}
    for key, offset in table.items():
        # Older Java clients quote the key object, which makes it a string of JSON.
        fields = json.loads(key) if isinstance(key, str) else key.as_dict()
        value = offset if isinstance(offset, int) else int(offset)
        result[MessageQueue(fields["topic"], fields["brokerName"], int(fields["queueId"]))] = value
    return result


class QueueBounds:
    """Where queues begin and end, by offset or by time."""

    def __init__(self, instance: ClientInstance) -> None:
        self._instance = instance

    async def min_offset(self, queue: MessageQueue) -> int:
        """The first offset that still exists."""
        return await self._ask(queue, RequestCode.GET_MIN_OFFSET)

    async def max_offset(self, queue: MessageQueue) -> int:
        """The offset that the next message will get."""
        return await self._ask(queue, RequestCode.GET_MAX_OFFSET)

    async def offset_at(self, queue: MessageQueue, timestamp_ms: int, *, upper: bool = False) -> int:
        """The offset of the first message stored at or after ``timestamp_ms`` (``upper``: of the last at or before)."""
        header = SearchOffsetRequestHeader(
            topic=queue.topic,
            queue_id=queue.queue_id,
            timestamp=timestamp_ms,
            boundary_type="UPPER" if upper else "LOWER",
        )
        return await self._send(queue, RequestCode.SEARCH_OFFSET_BY_TIMESTAMP, header)

    async def _ask(self, queue: MessageQueue, code: RequestCode) -> int:
        return await self._send(queue, code, QueueHeader(topic=queue.topic, queue_id=queue.queue_id))

    async def _send(
        self, queue: MessageQueue, code: RequestCode, header: QueueHeader | SearchOffsetRequestHeader
    ) -> int:
        address, _ = self._instance.routes.for_reading(queue.broker_name)
        answer = await self._instance.request(address, code, header, broker_name=queue.broker_name)
        return answer.header(OffsetResponseHeader).offset
