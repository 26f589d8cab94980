"""Request frames built before the measurement, one after the other in one buffer.

Every frame of a pool has the same size, so that the generator sends any run of frames as one slice without copying; opaque
and UNIQ_KEY are fixed-width and distinct within the pool.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

from e2e.frames import HEAD, VERSION_5_5_0

OPAQUE_BASE = 1_000_000
POOL_FRAMES_MAX = 1_000_000
SEND_MESSAGE_V2, SEND_BATCH_MESSAGE = 310, 320
PULL_MESSAGE, HEART_BEAT = 11, 34
QUEUE_COUNT = 4
BORN_MS = 1_700_000_000_000
STAMP_DIGITS = 16
# As Java writes it: 0x01 and 0x02 escaped; the UNIQ_KEY of 32 digits.
PROPERTIES = "UNIQ_KEY\\u0001{key:032X}\\u0002WAIT\\u0001true\\u0002"


@dataclass(frozen=True, slots=True)
class Pool:
    """``count`` frames of ``frame_size`` bytes; frame ``i`` has opaque ``OPAQUE_BASE + i`` and holds ``messages_per_frame``."""

    data: memoryview
    frame_size: int
    count: int
    messages_per_frame: int = 1


def header(code: int, ext: str, opaque: int) -> bytes:
    """A JSON header in the key order of the Java client; ``ext`` is the inside of extFields."""
    return (
        f'{{"code":{code},"extFields":{{{ext}}},"flag":0,"language":"JAVA","opaque":{opaque},'
        f'"serializeTypeCurrentRPC":"JSON","version":{VERSION_5_5_0}}}'
    ).encode()


def frame(head: bytes, body: bytes) -> bytes:
    """Length, header length, header, body."""
    return HEAD.pack(4 + len(head) + len(body), len(head)) + head + body


def send_ext(topic: str, queue_id: int, properties: str, *, is_batch: bool = False) -> str:
    """The fields of a v2 send as the 5.5 Java client names them."""
    return (
        f'"a":"bench_producer","b":"{topic}","c":"TBW102","d":"4","e":"{queue_id}","f":"0","g":"{BORN_MS}","h":"0",'
        f'"i":"{properties}","j":"0","k":"false","m":"{"true" if is_batch else "false"}","n":"broker-a"'
    )


def single_sends(topic: str, body_size: int, count: int, *, run: int = 0) -> Pool:
    """``count`` plain sends with bodies of ``body_size`` bytes, round robin over the queues; ``run`` makes keys differ."""
    assert count <= POOL_FRAMES_MAX
    body = b"x" * body_size
    whole = bytearray()
    size = 0
    for index in range(count):
        properties = PROPERTIES.format(key=run << 64 | index)
        one = frame(
            header(SEND_MESSAGE_V2, send_ext(topic, index % QUEUE_COUNT, properties), OPAQUE_BASE + index), body
        )
        size = len(one)
        whole += one
    assert len(whole) == size * count
    return Pool(memoryview(bytes(whole)), size, count)


def batch_sends(
    topic: str, body_size: int, messages_per_batch: int, count: int, *, run: int = 0, is_marked: bool = False
) -> Pool:
    """``count`` batch sends of ``messages_per_batch`` messages each; ``is_marked``: of ten each has another tag and level."""
    whole = bytearray()
    size = 0
    for index in range(count):
        inner = bytearray()
        for number in range(messages_per_batch):
            mark = f"TAGS\x01t{number % 10}\x02level\x01{number % 10}\x02colour\x01blue\x02" if is_marked else ""
            properties = f"UNIQ_KEY\x01{run << 64 | index << 16 | number:032X}\x02WAIT\x01true\x02{mark}".encode()
            total = 4 + 4 + 4 + 4 + 4 + body_size + 2 + len(properties)
            inner += (
                struct.pack(">iiiii", total, 0, 0, 0, body_size)
                + b"x" * body_size
                + struct.pack(">h", len(properties))
                + properties
            )
        ext = send_ext(topic, index % QUEUE_COUNT, PROPERTIES.format(key=run << 64 | index), is_batch=True)
        one = frame(header(SEND_BATCH_MESSAGE, ext, OPAQUE_BASE + index), bytes(inner))
        size = len(one)
        whole += one
    assert len(whole) == size * count
    return Pool(memoryview(bytes(whole)), size, count, messages_per_batch)


def stamped_send(topic: str, queue_id: int, opaque: int, stamp_ns: int, *, delay_level: int = 0) -> bytes:
    """One send of 128 bytes whose body says when it was made, for latencies from end to end."""
    properties = PROPERTIES.format(key=stamp_ns << 32 | opaque) + (
        f"DELAY\\u0001{delay_level}\\u0002" if delay_level else ""
    )
    body = b"T=%0*x|" % (STAMP_DIGITS, stamp_ns)
    return frame(
        header(SEND_MESSAGE_V2, send_ext(topic, queue_id, properties), opaque), body + b"x" * (128 - len(body))
    )


def pull(
    group: str,
    topic: str,
    queue_id: int,
    offset: int,
    count_max: int,
    opaque: int,
    *,
    is_suspended: bool,
    is_subscribed: bool = False,
) -> bytes:
    """One pull of everything, or of what the group's heartbeat subscribed to.

    ``is_suspended`` lets the broker hold it while there is nothing.
    """
    system_flag = (0 if is_subscribed else 4) | (2 if is_suspended else 0)
    wanted = "" if is_subscribed else '"expressionType":"TAG","subscription":"*",'
    ext = (
        f'"bname":"broker-a","commitOffset":"0","consumerGroup":"{group}",{wanted}"maxMsgBytes":"2147483647",'
        f'"maxMsgNums":"{count_max}","queueId":"{queue_id}","queueOffset":"{offset}","subVersion":"0",'
        f'"suspendTimeoutMillis":"15000","sysFlag":"{system_flag}","topic":"{topic}"'
    )
    return frame(header(PULL_MESSAGE, ext, opaque), b"")


def subscribe(group: str, topic: str, expression: str, expression_type: str, opaque: int) -> bytes:
    """The heartbeat of a push consumer with this one subscription; an expression of type TAG is one tag here."""
    is_tag = expression_type == "TAG"
    subscription = {
        "classFilterMode": False, "codeSet": [java_hash(expression)] if is_tag else [], "expressionType": expression_type,
        "subString": expression, "subVersion": 1, "tagsSet": [expression] if is_tag else [], "topic": topic,
    }  # fmt: skip
    consumer = {
        "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET", "consumeType": "CONSUME_PASSIVELY", "groupName": group,
        "messageModel": "CLUSTERING", "subscriptionDataSet": [subscription], "unitMode": False,
    }  # fmt: skip
    data = {"clientID": f"{group}@bench", "consumerDataSet": [consumer], "producerDataSet": []}
    return frame(header(HEART_BEAT, "", opaque), json.dumps(data).encode())


def java_hash(text: str) -> int:
    """``String.hashCode`` of an ASCII text."""
    value = 0
    for character in text.encode():
        value = (value * 31 + character) & 0xFFFFFFFF
    return value - (value >> 31 << 32)
