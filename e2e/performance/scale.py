"""A broker with thousands of topics, queues and groups: how they are made, and how long it takes to ask for them."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from e2e import frames
from e2e.performance import pools
from e2e.performance.generator import LoadFailed

TOPICS, GROUPS = 5_000, 2_000
# Each group has offsets on so many topics, as an application that reads from several does.
TOPICS_OF_GROUP = 3
WINDOW = 64
LIST_COUNT = 500
ASK_ROUNDS = 5
CALL_SECONDS = 60.0

SYSTEM_BUSY = 2
UPDATE_CONSUMER_OFFSET, UPDATE_AND_CREATE_TOPIC_LIST, UPDATE_AND_CREATE_GROUP_LIST = 15, 18, 225
# What consoles, exporters and mqadmin ask for, with the fields of the request.
QUESTIONS: dict[str, tuple[int, dict[str, str] | None]] = {
    "all topics": (21, None),
    "runtime": (28, None),
    "all offsets": (43, None),
    "all groups": (201, None),
    "topic stats": (202, {"topic": "BenchScale00007"}),
    "consume stats": (208, {"consumerGroup": "bench_scale_0007", "topic": ""}),
    "topics of a group": (343, {"group": "bench_scale_0007"}),
    "groups of a topic": (300, {"topic": "BenchScale00007"}),
}


def topic(number: int) -> str:
    return f"BenchScale{number:05d}"


def group(number: int) -> str:
    return f"bench_scale_{number:04d}"


def build(address: str) -> int:
    """Make topics of `QUEUE_COUNT` queues with a message in each, and groups with offsets; return the number of queues."""
    with frames.Link(address, timeout_seconds=CALL_SECONDS) as link:
        topics = [
            {
                "topicName": topic(n), "readQueueNums": pools.QUEUE_COUNT, "writeQueueNums": pools.QUEUE_COUNT, "perm": 6,
                "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": False, "attributes": {},
            }
            for n in range(TOPICS)
        ]  # fmt: skip
        for start in range(0, TOPICS, LIST_COUNT):
            _done(link, UPDATE_AND_CREATE_TOPIC_LIST, {"topicConfigList": topics[start : start + LIST_COUNT]})
        groups = [{"groupName": group(n)} for n in range(GROUPS)]
        for start in range(0, GROUPS, LIST_COUNT):
            _done(link, UPDATE_AND_CREATE_GROUP_LIST, {"groupConfigList": groups[start : start + LIST_COUNT]})
    places = [(topic(n), queue) for n in range(TOPICS) for queue in range(pools.QUEUE_COUNT)]
    _pipelined(address, [_send(place, number) for number, place in enumerate(places)])
    commits = [
        (group(n), topic((n * TOPICS_OF_GROUP + one) % TOPICS), queue)
        for n in range(GROUPS)
        for one in range(TOPICS_OF_GROUP)
        for queue in range(pools.QUEUE_COUNT)
    ]
    _pipelined(address, [_commit(commit, number) for number, commit in enumerate(commits)])
    return len(places)


def slowest_answer(address: str) -> tuple[float, str]:
    """Seconds of the slowest question, each asked `ASK_ROUNDS` times, and which it was."""
    slowest = (0.0, "")
    with frames.Link(address, timeout_seconds=CALL_SECONDS) as link:
        for _ in range(ASK_ROUNDS):
            for name, (code, ext) in QUESTIONS.items():
                started = time.perf_counter()
                answer = link.call(code, ext)
                seconds = time.perf_counter() - started
                if answer.code != 0:
                    raise LoadFailed(f"{name}: code {answer.code}, {answer.remark}")
                slowest = max(slowest, (seconds, name))
    return slowest


def _done(link: frames.Link, code: int, body: dict[str, Any]) -> None:
    answer = link.call(code, {}, json.dumps(body).encode())
    if answer.code != 0:
        raise LoadFailed(f"request {code}: code {answer.code}, {answer.remark}")


def _send(place: tuple[str, int], number: int) -> bytes:
    ext = pools.send_ext(*place, pools.PROPERTIES.format(key=number))
    return pools.frame(pools.header(pools.SEND_MESSAGE_V2, ext, number), b"x" * 128)


def _commit(commit: Sequence[str | int], number: int) -> bytes:
    ext = '"consumerGroup":"{}","topic":"{}","queueId":"{}","commitOffset":"0"'.format(*commit)
    return pools.frame(pools.header(UPDATE_CONSUMER_OFFSET, ext, number), b"")


def _pipelined(address: str, requests: Sequence[bytes]) -> None:
    """Send them with `WINDOW` in flight, again when the broker is busy, until all were answered with 0; opaques are the places."""
    waiting = deque(range(len(requests)))
    in_flight = 0
    with frames.Link(address, timeout_seconds=CALL_SECONDS) as link:
        while waiting or in_flight:
            while waiting and in_flight < WINDOW:
                link.socket.sendall(requests[waiting.popleft()])
                in_flight += 1
            answer = link.receive()
            in_flight -= 1
            if answer.code == SYSTEM_BUSY:
                waiting.append(answer.opaque)
            elif answer.code != 0:
                raise LoadFailed(f"request {answer.opaque}: code {answer.code}, {answer.remark}")
