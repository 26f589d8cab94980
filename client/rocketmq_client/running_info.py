"""ConsumerRunningInfo: what ``mqadmin consumerStatus`` shows of a running consumer, in Java's JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from rocketmq_client.process_queue import ProcessQueue
from rocketmq_common import javajson, versions
from rocketmq_remoting.bodies import MessageQueue, SubscriptionData

WINDOW_SECONDS = 60
TOPICS_MAX = 10_000


class ConsumeStatistics:
    """Per topic: what listeners did, as rates over the last full minute."""

    def __init__(self) -> None:
        self._current: dict[str, list[float]] = {}  # ok, failed, milliseconds
        self._previous: dict[str, list[float]] = {}
        self._failed_total: dict[str, int] = {}
        self._window_start = time.monotonic()

    def count(self, topic: str, elapsed_ms: float, *, ok: bool) -> None:
        """Note one call of a listener."""
        self._roll()
        counts = self._current.get(topic)
        if counts is None:
            if len(self._current) >= TOPICS_MAX:
                return
            counts = self._current[topic] = [0, 0, 0.0]
        counts[0 if ok else 1] += 1
        counts[2] += elapsed_ms
        if not ok:
            self._failed_total[topic] = self._failed_total.get(topic, 0) + 1

    def table(self) -> dict[str, dict[str, float]]:
        """``statusTable`` of Java's ConsumerRunningInfo."""
        self._roll()
        result: dict[str, dict[str, float]] = {}
        for topic in {*self._current, *self._previous}:
            ok, failed, total_ms = self._previous.get(topic, (0, 0, 0.0))
            calls = ok + failed
            result[topic] = {
                "consumeFailedMsgs": self._failed_total.get(topic, 0),
                "consumeFailedTPS": failed / WINDOW_SECONDS,
                "consumeOKTPS": ok / WINDOW_SECONDS,
                "consumeRT": total_ms / calls if calls else 0.0,
                "pullRT": 0.0,
                "pullTPS": calls / WINDOW_SECONDS,
            }
        return result

    def _roll(self) -> None:
        now = time.monotonic()
        if now - self._window_start >= WINDOW_SECONDS:
            recent = now - self._window_start < 2 * WINDOW_SECONDS
            self._previous = self._current if recent else {}
            self._current = {}
            self._window_start = now


def encode(
    *,
    name_servers: Sequence[str],
    consume_type: str,
    is_orderly: bool,
    concurrency: int,
    started_ms: int,
    subscriptions: Sequence[SubscriptionData],
    assigned: Mapping[MessageQueue, ProcessQueue],
    statistics: ConsumeStatistics,
) -> bytes:
    """The body of the answer to GET_CONSUMER_RUNNING_INFO; its queue table has objects as keys, as Java requires."""
    properties = {
        "PROP_NAMESERVER_ADDR": ";".join(name_servers),
        "PROP_CONSUME_TYPE": consume_type,
        "PROP_CLIENT_VERSION": versions.version_name(versions.CURRENT),
        "PROP_CONSUMEORDERLY": "true" if is_orderly else "false",
        "PROP_THREADPOOL_CORE_SIZE": str(concurrency),
        "PROP_CONSUMER_START_TIMESTAMP": str(started_ms),
    }
    table = javajson.dumps_object_keyed((queue, _queue_info(held)) for queue, held in assigned.items())
    encode_json = msgspec.json.encode
    return b"".join(
        (
            b'{"mqPopTable":{},"mqTable":', table,
            b',"properties":', encode_json(properties),
            b',"statusTable":', encode_json(statistics.table()),
            b',"subscriptionSet":', encode_json(list(subscriptions)),
            b',"userConsumerInfo":{}}',
        )
    )  # fmt: skip


def _queue_info(held: ProcessQueue) -> dict[str, object]:
    offsets = list(held.messages)
    return {
        "cachedMsgCount": len(offsets),
        "cachedMsgMaxOffset": offsets[-1] if offsets else 0,
        "cachedMsgMinOffset": offsets[0] if offsets else 0,
        "cachedMsgSizeInMiB": held.bytes_held >> 20,
        "commitOffset": max(held.committed, 0),
        "droped": held.is_dropped,
        "lastConsumeTimestamp": held.last_consume_ms,
        "lastLockTimestamp": 0,
        "lastPullTimestamp": held.last_pull_ms,
        "locked": held.is_locked,
        "transactionMsgCount": 0,
        "transactionMsgMaxOffset": 0,
        "transactionMsgMinOffset": 0,
        "tryUnlockTimes": 0,
    }
