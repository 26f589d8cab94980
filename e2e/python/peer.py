"""Apache's C++ client 1.2 through the Python package ``rocketmq``, at the command of a test, a JSON object a line each way.

Run by the path of this file with the package's directory on PYTHONPATH (see ``e2e.toolchain.python_peer``): the package
has no place in our environment, and its native library runs threads that only the end of their process ends for certain.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import zlib
from collections import Counter
from typing import Any

from rocketmq import client, ffi  # type: ignore[import-not-found]

CALLBACK_TIMEOUT_SECONDS = 20.0
PULL_COUNT = 32


def build(topic: str, fields: dict[str, Any]) -> Any:
    """The client's message of the fields that all peers understand."""
    message = client.Message(topic)
    message.set_body(fields["body"])
    if "tag" in fields:
        message.set_tags(fields["tag"])
    if "keys" in fields:
        message.set_keys(fields["keys"])
    if "delay_level" in fields:
        message.set_delay_time_level(fields["delay_level"])
    for name, value in fields.get("properties", {}).items():
        message.set_property(name, value)
    return message


def text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def describe(message: Any) -> dict[str, Any]:
    """What a consumer was given, as the other peers tell it; ``n`` is the property of that name."""
    body = message.body
    return {
        "topic": message.topic,
        "queue_id": message.queue_id,
        "queue_offset": message.queue_offset,
        "physical_offset": message.commit_log_offset,
        "message_id": message.id,
        "reconsume_times": message.reconsume_times,
        "tags": text(message.tags),
        "keys": text(message.keys),
        "n": text(message.get_property("n")),
        "body": body.decode(),
        "body_size": len(body),
        "body_crc32": zlib.crc32(body),
    }


def sent(result: Any) -> dict[str, Any]:
    return {"status": f"SEND_{result.status.name}", "message_id": result.msg_id, "queue_offset": result.offset}


class Consumer:
    """A push consumer which remembers what it was given and fails each message ``fail_times`` times."""

    def __init__(self, fields: dict[str, Any]) -> None:
        model = ffi.MessageModel.BROADCASTING if fields.get("broadcast") else ffi.MessageModel.CLUSTERING
        self.push = client.PushConsumer(fields["group"], orderly=fields.get("orderly", False), message_model=model)
        self.push.set_namesrv_addr(fields["namesrv"])
        self.push.set_instance_name(fields["name"])
        self.received: list[dict[str, Any]] = []
        self._failures: Counter[str] = Counter()
        self._fail_times = fields.get("fail_times", 0)
        self._lock = threading.Lock()
        for subscription in fields["subscriptions"]:
            expression = subscription.get("expression", "*")
            ffi.dll.Subscribe(self.push._handle, subscription["topic"].encode(), expression.encode())
        # Not by subscribe(): its wrapper of the callback turns a failure into a success.
        self.push._register_callback(self._take)
        self.push.start()

    def _take(self, _consumer: int, handle: int) -> int:
        seen = describe(client.RecvMessage(handle))
        with self._lock:
            self.received.append(seen)
            self._failures[seen["message_id"]] += 1
            is_well = self._failures[seen["message_id"]] > self._fail_times
        status = ffi._CConsumeStatus
        return int(status.CONSUME_SUCCESS if is_well else status.RECONSUME_LATER)


class Peer:
    """The clients that the test has started, by name."""

    def __init__(self) -> None:
        self.producers: dict[str, Any] = {}
        self.consumers: dict[str, Consumer] = {}

    def run(self, command: str, fields: dict[str, Any]) -> Any:
        name = fields.get("name", "")
        match command:
            case "ping":
                return "pong"
            case "producer.start":
                producer = client.Producer(fields["group"], timeout=5000)
                producer.set_namesrv_addr(fields["namesrv"])
                ffi.dll.SetProducerInstanceName(producer._handle, name.encode())
                producer.start()
                self.producers[name] = producer
            case "producer.send":
                return self.send(self.producers[name], fields)
            case "producer.running":
                return name in self.producers
            case "producer.stop":
                self.producers.pop(name).shutdown()
            case "consumer.start":
                self.consumers[name] = Consumer(fields)
            case "consumer.received":
                return list(self.consumers[name].received)
            case "consumer.running":
                return name in self.consumers
            case "consumer.stop":
                self.consumers.pop(name).push.shutdown()
            case "pull.all":
                return self.pull(fields)
            case _:
                raise ValueError(f"unknown command {command}")
        return True

    @staticmethod
    def send(producer: Any, fields: dict[str, Any]) -> list[dict[str, Any]]:
        messages = [build(fields["topic"], one) for one in fields["messages"]]
        match fields.get("mode", "sync"):
            case "sync":
                return [sent(producer.send_sync(message)) for message in messages]
            case "ordered":
                shards = [one["shard"] for one in fields["messages"]]
                return [sent(producer.send_orderly(m, s)) for m, s in zip(messages, shards, strict=True)]
            case "batch":
                return [sent(producer.send_batch(messages))]
            case "oneway":
                for message in messages:
                    producer.send_oneway(message)
                return []
            case "async":
                results: list[Any] = []
                done = threading.Semaphore(0)

                def note(result: Any) -> None:
                    results.append(result)
                    done.release()

                for message in messages:
                    producer.send_async(message, note, note)
                for _ in messages:
                    if not done.acquire(timeout=CALLBACK_TIMEOUT_SECONDS):
                        raise TimeoutError(f"{len(messages) - len(results)} callbacks are missing")
                return [sent(result) for result in results]
            case mode:
                raise ValueError(f"unknown mode {mode}")

    @staticmethod
    def pull(fields: dict[str, Any]) -> list[dict[str, Any]]:
        consumer = client.PullConsumer(fields["group"])
        consumer.set_namesrv_addr(fields["namesrv"])
        consumer.start()
        return [describe(m) for m in consumer.pull(fields["topic"], fields.get("expression", "*"), PULL_COUNT)]


def main() -> None:
    # The native library prints where it likes: the answers have a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    peer = Peer()
    for line in sys.stdin:
        fields = json.loads(line)
        try:
            answer = {"result": peer.run(fields.pop("command"), fields)}
        except Exception as error:  # noqa: BLE001 - whatever the client raises is the test's to judge
            answer = {"error": f"{type(error).__name__}: {error}", "code": getattr(error, "error", None)}
        answers.write(json.dumps(answer) + "\n")
    # Neither destructors nor shutdowns: they wait for brokers that may be gone.
    os._exit(0)


if __name__ == "__main__":
    main()
