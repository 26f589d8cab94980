"""POP of the fake broker: messages in flight in memory, given again through the pop retry topic when their time is over."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec

from rocketmq_common import properties as props
from rocketmq_common.records import StoredMessage, encode_message
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.pop import (
    AckMessageRequestHeader,
    BatchAckMessageRequestBody,
    ChangeInvisibleTimeRequestHeader,
    ChangeInvisibleTimeResponseHeader,
    NotificationRequestHeader,
    NotificationResponseHeader,
    PopMessageRequestHeader,
    PopMessageResponseHeader,
)
from rocketmq_remoting.pop_handles import (
    RETRY_NONE,
    RETRY_V1,
    Handle,
    decode_bits,
    parse_handle,
    pop_retry_topic,
    real_topic,
)

if TYPE_CHECKING:
    from rocketmq_testkit.fake_broker import FakeBroker

LOOK_SECONDS = 0.01
Place = tuple[str, str, int, int]


class FakePops:
    """``flying``: (group, real topic, queue id, offset) → (pop time, due) in ms; ``settled``: places that are done with."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self.flying: dict[Place, tuple[int, int]] = {}
        self.settled: set[Place] = set()
        self._last_ms = 0

    def routes(self) -> list[Route]:
        """The rows of the fake broker's table."""
        return [
            Route(RequestCode.POP_MESSAGE, PopMessageRequestHeader, self._pop),
            Route(RequestCode.NOTIFICATION, NotificationRequestHeader, self._notification),
            Route(RequestCode.ACK_MESSAGE, AckMessageRequestHeader, self._ack),
            Route(RequestCode.BATCH_ACK_MESSAGE, None, self._ack_batch),
            Route(RequestCode.CHANGE_MESSAGE_INVISIBLETIME, ChangeInvisibleTimeRequestHeader, self._change),
        ]

    async def _pop(self, connection: Connection, command: Command, header: PopMessageRequestHeader) -> Response:
        del connection, command
        deadline = _now_ms() + header.poll_time
        while not (found := self._available(header.consumer_group, header.topic)[: header.max_msg_nums]):
            if _now_ms() >= deadline:
                return Response(ResponseCode.POLLING_TIMEOUT)
            await asyncio.sleep(LOOK_SECONDS)
        # No two deliveries share a pop time, so a handle is never mistaken for another's.
        self._last_ms = max(_now_ms(), self._last_ms + 1)
        body, offsets = [], dict[tuple[str, int], list[int]]()
        for message in found:
            retry = RETRY_NONE if message.topic == header.topic else RETRY_V1
            place = (header.consumer_group, message.topic, message.queue_id, message.queue_offset)
            self.flying[place] = (self._last_ms, self._last_ms + header.invisible_time)
            offsets.setdefault((retry, message.queue_id), []).append(message.queue_offset)
            copy = msgspec.structs.replace(message, topic=header.topic)
            if retry != RETRY_NONE:
                start = offsets[retry, message.queue_id][0]
                handle = Handle(
                    start, self._last_ms, header.invisible_time, 0, retry, self._broker.name, message.queue_id,
                    message.queue_offset,
                )  # fmt: skip
                copy.properties = props.append_property(copy.properties, props.PROPERTY_POP_CK, str(handle))
            body.append(encode_message(copy))
        ext = PopMessageResponseHeader(
            pop_time=self._last_ms,
            invisible_time=header.invisible_time,
            start_offset_info=";".join(f"{retry} {queue} {listed[0]}" for (retry, queue), listed in offsets.items()),
            msg_offset_info=";".join(
                f"{retry} {queue} {','.join(map(str, listed))}" for (retry, queue), listed in offsets.items()
            ),
        )
        return Response(ext=ext, body=b"".join(body))

    async def _notification(
        self, connection: Connection, command: Command, header: NotificationRequestHeader
    ) -> Response:
        del connection, command
        deadline = _now_ms() + header.poll_time
        while not (found := self._available(header.consumer_group, header.topic)) and _now_ms() < deadline:
            await asyncio.sleep(LOOK_SECONDS)
        return Response(ext=NotificationResponseHeader(has_msg=bool(found), polling_full=False))

    def _ack(self, connection: Connection, command: Command, header: AckMessageRequestHeader) -> Response:
        del connection, command
        place = (header.consumer_group, header.topic, header.queue_id, header.offset)
        self._settle(place, parse_handle(header.extra_info).pop_time_ms)
        return Response()

    def _ack_batch(self, connection: Connection, command: Command, header: Any) -> Response:
        del connection, header
        for ack in msgspec.json.decode(command.body, type=BatchAckMessageRequestBody).acks:
            topic = real_topic(ack.consumer_group, ack.topic, ack.retry)
            for bit in decode_bits(ack.bit_set):
                self._settle((ack.consumer_group, topic, ack.queue_id, ack.start_offset + bit), ack.pop_time)
        return Response()

    def _change(self, connection: Connection, command: Command, header: ChangeInvisibleTimeRequestHeader) -> Response:
        del connection, command
        place = (header.consumer_group, header.topic, header.queue_id, header.offset)
        if self.flying.get(place, (0, 0))[0] != parse_handle(header.extra_info).pop_time_ms:
            raise RemotingError(ResponseCode.NO_MESSAGE, "the handle is not valid any more")
        self._last_ms = max(_now_ms(), self._last_ms + 1)
        self.flying[place] = (self._last_ms, self._last_ms + header.invisible_time)
        return Response(
            ext=ChangeInvisibleTimeResponseHeader(
                pop_time=self._last_ms, invisible_time=header.invisible_time, revive_qid=0
            )
        )

    def _settle(self, place: Place, pop_time_ms: int) -> None:
        if self.flying.get(place, (0, 0))[0] == pop_time_ms:
            del self.flying[place]
            self.settled.add(place)

    def _available(self, group: str, topic: str) -> list[StoredMessage]:
        """Messages that nobody holds; those whose time is over move to the retry topic first."""
        broker, retry_topic = self._broker, pop_retry_topic(group, topic, RETRY_V1)
        for place, (_, due_ms) in list(self.flying.items()):
            if place[0] == group and place[1] in (topic, retry_topic) and due_ms <= _now_ms():
                del self.flying[place]
                self.settled.add(place)
                message = broker.log[place[1], place[2]][place[3]]
                broker.topics.get(retry_topic) or broker.create_topic(retry_topic, 1)
                broker.put(
                    msgspec.structs.replace(
                        message, topic=retry_topic, queue_id=0, reconsume_times=message.reconsume_times + 1
                    )
                )
        return [
            message
            for name in (topic, retry_topic)
            for message in broker.messages(name)
            if (place := (group, name, message.queue_id, message.queue_offset)) not in self.settled
            and place not in self.flying
        ]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
