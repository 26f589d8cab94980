"""What one append costs: ``python -m e2e.performance.store_append [--count N] [--body-size N] [--flush sync|async] [--profile]``.

Appends alone, on one thread, into a store in a temporary directory: record, queue entry and, counted separately, the index
that is built behind the appends. Prints µs of CPU per message. No network, no broker: the floor of what a send can cost.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import tempfile
import time
from pathlib import Path

from rocketmq_common.batches import BatchEntry, encode_batch
from rocketmq_store.appending import NewMessage
from rocketmq_store.settings import FlushDiskType, StoreSettings
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

QUEUE_COUNT = 8
BATCH_COUNT = 100
RUN_COUNT = 3


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--body-size", type=int, default=128)
    parser.add_argument("--flush", choices=("async", "sync"), default="async")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="store-append-") as root:
        settings = StoreSettings(
            root=str(Path(root) / "store"),
            flush_disk_type=FlushDiskType.SYNC_FLUSH if options.flush == "sync" else FlushDiskType.ASYNC_FLUSH,
        )
        store = MessageStore(settings, post=lambda callback: None, fatal=_die)
        store.open()
        gc.freeze()
        try:
            for _ in range(RUN_COUNT):
                _single(store, options.count, options.body_size)
            for _ in range(RUN_COUNT):
                _batch(store, options.count, options.body_size)
            _drain(store)
            if options.profile:
                profile = cProfile.Profile()
                profile.runcall(_single, store, options.count, options.body_size)
                pstats.Stats(profile).sort_stats("tottime").print_stats(15)
        finally:
            store.close()


def _die(error: BaseException) -> None:
    raise SystemExit(f"store failed: {error}")


def _message(number: int, body: bytes) -> NewMessage:
    properties = b"UNIQ_KEY\x017F0000010C2418B4AAC2%08X%04X\x02WAIT\x01true\x02TAGS\x01TagA\x02" % (
        number // 60,
        number & 0xFFFF,
    )
    return NewMessage("BenchmarkTest", number % QUEUE_COUNT, body, properties, born_timestamp_ms=1_700_000_000_000)


def _single(store: MessageStore, count: int, body_size: int) -> None:
    body = bytes(body_size)
    messages = [_message(number, body) for number in range(count)]
    append = store.append
    appended = indexed = 0
    for start in range(0, count, 64):
        begun = time.thread_time_ns()
        for message in messages[start : start + 64]:
            if append(message).status is not PutStatus.PUT_OK:
                raise SystemExit("an append failed")
        turned = time.thread_time_ns()
        store.build_index(64)
        indexed += time.thread_time_ns() - turned
        appended += turned - begun
    print(
        f"single, {body_size} B: append with queue entry {appended / count / 1000:.2f} µs, "
        f"index {indexed / count / 1000:.2f} µs, together {(appended + indexed) / count / 1000:.2f} µs"
    )


def _batch(store: MessageStore, count: int, body_size: int) -> None:
    body = bytes(body_size)
    batches = []
    for first in range(0, count, BATCH_COUNT):
        entries = [BatchEntry(0, body, _message(first + number, body).properties) for number in range(BATCH_COUNT)]
        batches.append(NewMessage("BenchmarkTest", first % QUEUE_COUNT, encode_batch(entries)))
    begun = time.thread_time_ns()
    for batch in batches:
        if store.append_batch(batch).status is not PutStatus.PUT_OK:
            raise SystemExit("a batch append failed")
        store.build_index(BATCH_COUNT)
    spent = time.thread_time_ns() - begun
    print(
        f"batches of {BATCH_COUNT}, {body_size} B: {spent / count / 1000:.2f} µs per message with queue entry and index"
    )


def _drain(store: MessageStore) -> None:
    begun = time.thread_time_ns()
    count = pulls = 0
    for queue_id in range(QUEUE_COUNT):
        offset = 0
        while True:
            got = store.get_messages("BenchmarkTest", queue_id, offset, 32)
            if not got.message_count:
                break
            offset = got.next_offset
            count += got.message_count
            pulls += 1
    spent = time.thread_time_ns() - begun
    print(
        f"drain: {spent / max(count, 1) / 1000:.2f} µs per message, {spent / max(pulls, 1) / 1000:.1f} µs per pull of 32"
    )


if __name__ == "__main__":
    main()
