"""What was sent, what was acknowledged, what is there: the judge of crash tests.

The rules: nothing acknowledged is lost or moved, nothing is there that was never sent, offsets are dense from 0, and the messages
of one sender keep their order within a queue.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections import defaultdict
from dataclasses import dataclass, field

from e2e import frames

PULL_MESSAGE, GET_MAX_OFFSET, GET_MIN_OFFSET = 11, 30, 31
FOUND, NOT_FOUND, MOVED = 0, 19, 21
BODY = re.compile(rb"<(\d+)>")
READER_GROUP = "history_reader"


def body_of(number: int, size: int) -> bytes:
    """A body that can be recognised among the bytes of a pull answer."""
    text = b"<%d>" % number
    return text + b"." * (size - len(text))


@dataclass(slots=True)
class History:
    """Sends by number; ``acknowledged`` maps the number to (queue, queue offset) of the broker's answer."""

    attempted: set[int] = field(default_factory=set)
    acknowledged: dict[int, tuple[int, int]] = field(default_factory=dict)

    def problems(self, found: dict[int, list[int]]) -> list[str]:
        """Violations, given for each queue the numbers in it from offset 0 on; empty when all is well."""
        out: list[str] = []
        places: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for queue, numbers in found.items():
            for offset, number in enumerate(numbers):
                places[number].append((queue, offset))
                if number not in self.attempted:
                    out.append(f"phantom: {number} at {queue}:{offset} was never sent")
            # One sender writes one after the other on one connection, so what is in a queue must be in the order of the sends.
            out += [f"order: {b} after {a} in queue {queue}" for a, b in itertools.pairwise(numbers) if b <= a]
        for number, place in self.acknowledged.items():
            if place not in places.get(number, []):
                out.append(
                    f"lost: {number} was acknowledged at {place[0]}:{place[1]} and is at {places.get(number, 'no place')}"
                )
            if len(places.get(number, [])) > 1:
                out.append(f"twice: {number} at {places[number]}")
        return out


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
