"""Reading a broker's queues over a plain socket, for the history's judgement."""

from __future__ import annotations

import re
import struct

from e2e import frames

PULL_MESSAGE, GET_MAX_OFFSET, GET_MIN_OFFSET = 11, 30, 31
FOUND, NOT_FOUND, MOVED = 0, 19, 21
BODY = re.compile(rb"<(\d+)>")
READER_GROUP = "history_reader"


def body_of(number: int, size: int) -> bytes:
    """A body that can be recognised among the bytes of a pull answer."""
    text = b"<%d>" % number
    return text + b"." * (size - len(text))


def read_queue(link: frames.Link, topic: str, queue: int) -> list[int]:
    """Numbers of all messages of a queue from offset 0 on; an assertion fails where offsets are not dense."""
    asked = {"topic": topic, "queueId": str(queue)}
    end = int(link.call(GET_MAX_OFFSET, asked).ext["offset"])
    assert int(link.call(GET_MIN_OFFSET, asked).ext["offset"]) == 0
    numbers: list[int] = []
    while len(numbers) < end:
        header = {
            "consumerGroup": READER_GROUP, "topic": topic, "queueId": str(queue), "queueOffset": str(len(numbers)),
            "maxMsgNums": "32", "sysFlag": "4", "commitOffset": "0", "suspendTimeoutMillis": "0", "subscription": "*",
            "subVersion": "0", "expressionType": "TAG",
        }  # fmt: skip
        answer = link.call(PULL_MESSAGE, header)
        assert answer.code == FOUND, f"queue {queue} at {len(numbers)} of {end}: code {answer.code}, {answer.remark}"
        offsets = list(record_offsets(answer.body))
        expected = list(range(len(numbers), len(numbers) + len(offsets)))
        assert offsets == expected, f"queue {queue}: offsets {offsets[:5]}… where {expected[:5]}… should be"
        got = [int(number) for number in BODY.findall(answer.body)]
        assert len(got) == len(offsets)
        numbers += got
    return numbers


def record_offsets(body: bytes) -> list[int]:
    """Queue offsets of the records in a pull answer (total size at 0, queue offset at 20 of each)."""
    out, position = [], 0
    while position < len(body):
        (size,) = struct.unpack_from(">i", body, position)
        out.append(struct.unpack_from(">q", body, position + 20)[0])
        position += size
    return out
