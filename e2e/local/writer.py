"""A pipelining sender of numbered messages which survives the death of its broker."""

from __future__ import annotations

import threading
import time

from e2e import frames
from e2e.local.history import body_of
from rocketmq_testkit.history import History

SEND_MESSAGE_V2 = 310
SYSTEM_BUSY = 2
WINDOW = 64
QUEUE_COUNT = 4
BODY_SIZE = 200


class Writer:
    """Sends numbered messages to one broker from a thread of its own until the connection ends or ``stop`` is called."""

    def __init__(self, address: str, topic: str, history: History) -> None:
        self.address, self.topic, self.history = address, topic, history
        self._next = len(history.attempted)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer")
        self.failures: list[str] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        in_flight: dict[int, int] = {}
        try:
            with frames.Link(self.address, timeout_seconds=20.0) as link:
                while not self._stop.is_set():
                    while len(in_flight) < WINDOW:
                        number = self._next
                        self._next += 1
                        self.history.attempted.add(number)
                        in_flight[link.send(SEND_MESSAGE_V2, self._fields(number), body_of(number, BODY_SIZE))] = number
                    self._take(link.receive(), in_flight)
                while in_flight:
                    self._take(link.receive(), in_flight)
        except (TimeoutError, ConnectionError):
            return  # the broker was killed: what is in flight stays unacknowledged

    def _take(self, answer: frames.Answer, in_flight: dict[int, int]) -> None:
        number = in_flight.pop(answer.opaque)
        if answer.code == 0:
            place = int(answer.ext["queueId"]), int(answer.ext["queueOffset"])
            self.history.acknowledge(number, *place, at=time.monotonic())
        elif answer.code != SYSTEM_BUSY:  # turned away at the door of a late broker: sent, not stored, no failure
            self.failures.append(f"{number}: code {answer.code}, {answer.remark}")

    def _fields(self, number: int) -> dict[str, str]:
        return {
            "a": "history_writer", "b": self.topic, "c": "TBW102", "d": str(QUEUE_COUNT), "e": str(number % QUEUE_COUNT), "f": "0",
            "g": str(int(time.time() * 1000)), "h": "0",
            "i": f"KEYS\x01n{number}\x02WAIT\x01true\x02", "j": "0", "k": "false", "m": "false",
        }  # fmt: skip
