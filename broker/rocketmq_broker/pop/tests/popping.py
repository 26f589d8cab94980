"""What tests of POP ask a broker, as a Java client would."""

from __future__ import annotations

from typing import Any

from rocketmq_broker.tests.harness import Peer
from rocketmq_common.properties import PROPERTY_POP_CK, find_property
from rocketmq_common.records import StoredMessage, decode_messages
from rocketmq_remoting.codes import RequestCode
from rocketmq_remoting.commands import Command
from rocketmq_remoting.headers.pop import (
    AckMessageRequestHeader,
    ChangeInvisibleTimeRequestHeader,
    PopMessageRequestHeader,
)
from rocketmq_remoting.pop_handles import Handle, parse_handle, parse_message_offsets, parse_start_offsets, real_topic

INVISIBLE_MS = 60_000


async def pop(peer: Peer, topic: str = "T", queue_id: int = -1, group: str = "cg", **fields: Any) -> Command:
    header = PopMessageRequestHeader(
        **{
            "consumer_group": group,
            "topic": topic,
            "queue_id": queue_id,
            "max_msg_nums": 32,
            "invisible_time": INVISIBLE_MS,
            "poll_time": 0,
            **fields,
        }
    )
    return await peer.ask(RequestCode.POP_MESSAGE, header)


def popped(answer: Command, broker_name: str = "broker-a") -> list[tuple[StoredMessage, Handle]]:
    """Messages with their handles, made as Java's client makes them; every message must be covered by the answer's texts."""
    assert answer.code == 0, answer.remark
    fields = answer.ext_fields()
    starts = parse_start_offsets(fields["startOffsetInfo"])
    offsets = parse_message_offsets(fields["msgOffsetInfo"])
    assert starts.keys() == offsets.keys()
    found = []
    positions = dict.fromkeys(offsets, 0)
    for message in decode_messages(answer.body):
        text = find_property(message.properties, PROPERTY_POP_CK)
        if text is not None:
            handle = parse_handle(text)
        else:
            key = ("0", message.queue_id)
            handle = Handle(
                starts[key],
                int(fields["popTime"]),
                int(fields["invisibleTime"]),
                int(fields["reviveQid"]),
                "0",
                broker_name,
                message.queue_id,
                offsets[key][positions[key]],
            )
            assert handle.offset == message.queue_offset
        positions[handle.retry, handle.queue_id] += 1
        found.append((message, handle))
    assert positions == {key: len(listed) for key, listed in offsets.items()}
    return found


async def ack(peer: Peer, handle: Handle, topic: str = "T", group: str = "cg") -> Command:
    return await peer.ask(
        RequestCode.ACK_MESSAGE,
        AckMessageRequestHeader(
            consumer_group=group,
            topic=real_topic(group, topic, handle.retry),
            queue_id=handle.queue_id,
            extra_info=str(handle),
            offset=handle.offset,
        ),
    )


async def change(peer: Peer, handle: Handle, invisible_ms: int, topic: str = "T", group: str = "cg") -> Command:
    return await peer.ask(
        RequestCode.CHANGE_MESSAGE_INVISIBLETIME,
        ChangeInvisibleTimeRequestHeader(
            consumer_group=group,
            topic=real_topic(group, topic, handle.retry),
            queue_id=handle.queue_id,
            extra_info=str(handle),
            offset=handle.offset,
            invisible_time=invisible_ms,
        ),
    )


def changed(handle: Handle, answer: Command) -> Handle:
    assert answer.code == 0, answer.remark
    fields = answer.ext_fields()
    return handle._replace(
        start_offset=handle.offset if fields["reviveQid"] != "999" else handle.start_offset,
        pop_time_ms=int(fields["popTime"]),
        invisible_ms=int(fields["invisibleTime"]),
        revive_queue_id=int(fields["reviveQid"]),
    )
