"""A timer service on a real store, with time and turns in the test's hand."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.timer.placement import recall_key
from rocketmq_broker.timer.sending import TimerSender
from rocketmq_broker.timer.service import TimerService
from rocketmq_common.clock import ManualClock
from rocketmq_common.files import FileSystem, RealFiles
from rocketmq_common.records import StoredMessage, decode_messages
from rocketmq_store.appending import NewMessage
from rocketmq_store.settings import StoreSettings
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

TOPIC = "T"
TURNS_MAX = 1_000


class TimerRig:
    """One store directory, opened again and again. All methods run on ``loop``'s thread."""

    def __init__(
        self,
        root: Path,
        loop: asyncio.AbstractEventLoop,
        *,
        files: FileSystem | None = None,
        settings: dict[str, Any] | None = None,
        store: dict[str, Any] | None = None,
    ) -> None:
        self.root = root
        self.loop = loop
        self.clock = ManualClock()
        self.executor = ThreadPoolExecutor(1)
        self.files: FileSystem = files or RealFiles()
        self.settings = BrokerSettings(broker_name="b", recall_message_enable=True, **(settings or {}))
        self._store_fields: dict[str, Any] = {
            "commit_log_segment_size": 1 << 16,
            "consume_queue_segment_size": 2000,
            "index_slot_count": 97,
            "index_entry_count": 400,
            "timer_log_segment_size": 1 << 12,
            **(store or {}),
        }

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def open(self) -> None:
        config = self.root / "config"
        self.files.make_directory(config)
        self.store = MessageStore(
            StoreSettings(root=str(self.root), **self._store_fields),
            post=self.loop.call_soon_threadsafe,
            fatal=self._fail,
            files=self.files,
            clock=self.clock,
        )
        report = self.store.open()

        async def start() -> None:
            self.service = TimerService(
                self.settings, self.store, BrokerStatistics(), self.files, config, self.clock, self.executor
            )
            self.sender = TimerSender(self.settings, self.service, self.clock)
            self.service.load()
            await self.service.start(is_unclean=report.mode == "unclean")

        self.run(start())

    def close(self) -> None:
        self.service.stop()
        self.store.close()
        self.run(self.service.finish())

    def kill(self) -> None:
        """What a kill leaves: nothing is flushed or written down any more, the kernel keeps what was written."""
        self.service.stop()
        if self.service._opening is not None:
            self.run(asyncio.wait([self.service._opening]))
        work = self.service._work
        if work is not None:
            work.wheel.close()
            work.log.close()
        self.store.abandon()

    def end(self) -> None:
        self.executor.shutdown()

    @staticmethod
    def _fail(error: BaseException) -> None:
        raise AssertionError("the store failed") from error

    # Messages.

    def send(self, number: int, due_ms: int) -> None:
        self._append(b"%d" % number, f"UNIQ_KEY\x01KEY{number}\x02TIMER_DELIVER_MS\x01{due_ms}\x02")

    def recall(self, number: int, due_ms: int) -> None:
        text = f"UNIQ_KEY\x01KEY{number}\x02TIMER_DEL_UNIQKEY\x01{recall_key(TOPIC, f'KEY{number}')}\x02"
        self._append(b"0", f"{text}TIMER_DELIVER_MS\x01{due_ms}\x02")

    def _append(self, body: bytes, properties: str) -> None:
        place = self.sender.place(TOPIC, 0, properties)
        result = self.store.append(NewMessage(place.topic, place.queue_id, body, place.properties.encode()))
        assert result.status is PutStatus.PUT_OK, result

    def delivered(self) -> list[StoredMessage]:
        bounds = self.store.queue_bounds(TOPIC, 0)
        offset, found = 0 if bounds is None else bounds.min_offset, []
        while bounds is not None and offset < bounds.max_offset:
            got = self.store.get_messages(TOPIC, 0, offset, 32)
            for buffer in got.buffers:
                found += list(decode_messages(buffer))
            offset = got.next_offset
        return found

    def numbers(self) -> list[int]:
        return [int(message.body) for message in self.delivered()]

    # Time.

    def settle(self) -> None:
        """Let the service do everything that it can do now."""

        async def go() -> None:
            for _ in range(TURNS_MAX):
                if self.service._opening is not None:
                    await asyncio.wait([self.service._opening])
                self.service._wake()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                if self.service._opening is None and not self.service._is_soon and not self.service.unread_count:
                    return
            raise AssertionError("the timer service finds no rest")

        self.run(go())

    def advance(self, ms: int) -> None:
        self.clock.advance(ms)
        self.settle()

    def flush(self) -> None:
        """Wait until everything written is durable."""

        async def go() -> None:
            async with asyncio.timeout(30):
                while self.store.positions.flushed < self.store.positions.written:
                    self.clock.advance(1)
                    self.store.flush()
                    await asyncio.sleep(0.001)

        self.run(go())

    def save(self) -> None:
        """A checkpoint of now."""
        self.flush()
        self.run(self.service.save())
