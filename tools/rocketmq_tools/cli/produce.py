"""``rocketmq produce``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from rocketmq_tools.cli.names import complete_topic
from rocketmq_tools.cli.options import Globals, namesrv_option, output_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import note, run
from rocketmq_tools.cli.values import Duration, QueueType, pairs, parse_time
from rocketmq_tools.errors import CommandError

if TYPE_CHECKING:
    from rocketmq_client import Message, SendReceipt

RECEIPTS_MAX = 1000  # receipts kept for printing; more are counted only
PROGRESS_INTERVAL_S = 1.0
COLUMNS = ("STATUS", "QUEUE", "OFFSET", "MESSAGE ID", "OFFSET ID")


@click.command(
    epilog="""\b
Examples:
  rocketmq produce orders 'hello'
  rocketmq produce orders '{"id":1}' --key 1 --tag created -H source=cli
  cat lines.txt | rocketmq produce orders               # one message a line
  rocketmq produce orders - < picture.png               # one message
  rocketmq produce orders 'n {n}' --template --count 1000 --rate 100
  rocketmq produce reminders 'wake up' --delay 90s      # recall it: rocketmq delayed recall HANDLE
  rocketmq produce reminders 'wake up' --at 2026-11-21T10:00
  rocketmq produce orders --jsonl < messages.jsonl
                  # body, key(s), tag, properties, sharding_key, delay_level, delay_ms, deliver_at_ms"""
)
@click.argument("topic", shell_complete=complete_topic)
@click.argument("body", required=False)
@click.option("-k", "--key", "keys", multiple=True, help="A key to find the message by; may be repeated.")
@click.option("-t", "--tag", default="", help="The tag that consumers filter by.")
@click.option("-H", "--header", "headers", multiple=True, metavar="K=V", help="A property; may be repeated.")
@click.option("--delay-level", type=click.IntRange(0), default=0, help="1 is 1s, 2 5s, 3 10s, 4 30s, 5 1m … 18 2h.")
@click.option(
    "--delay",
    "delay_ms",
    type=Duration(),
    default=0,
    help="Deliver that much later, to the millisecond: 500ms, 10s, 2h.",
)
@click.option("--at", "deliver_at", metavar="TIME", help="Deliver then: 2026-11-21T10:00, or epoch milliseconds.")
@click.option("--sharding-key", default="", help="Messages of one key stay in order, in one queue.")
@click.option("--queue", type=QueueType(), help="Send to this queue, BROKER:ID.")
@click.option("--count", type=click.IntRange(1), default=1, help="Send the message so many times.")
@click.option("--template", is_flag=True, help="Replace {n} in body and keys by the number of the message.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Messages per second at most.")
@click.option(
    "--in-flight", type=click.IntRange(1, 10_000), default=64, show_default=True, help="Sends under way at once."
)
@click.option("--jsonl", is_flag=True, help="Each line of standard input is a JSON object with the message.")
@click.option("--create", is_flag=True, help="Create the topic first if it does not exist.")
@click.option("--oneway", is_flag=True, help="Do not wait for the broker's word.")
@namesrv_option
@output_option
@click.pass_obj
def command(
    settings: Globals,
    topic: str,
    body: str | None,
    keys: tuple[str, ...],
    tag: str,
    headers: tuple[str, ...],
    delay_level: int,
    delay_ms: int,
    deliver_at: str | None,
    sharding_key: str,
    queue: tuple[str, int] | None,
    count: int,
    template: bool,
    rate: float | None,
    in_flight: int,
    jsonl: bool,
    create: bool,
    oneway: bool,
) -> None:
    """Send messages to TOPIC: BODY, standard input as one message (-), or each of its lines."""
    if jsonl and body is not None:
        raise click.UsageError("--jsonl reads standard input: leave BODY out")
    if body is None and count != 1:
        raise click.UsageError("--count needs BODY")
    properties = pairs(headers, "--header")
    try:
        deliver_at_ms = 0 if deliver_at is None else parse_time(deliver_at)
    except ValueError as error:
        raise click.UsageError(f"--at: {error}") from error

    def messages() -> Iterator[Message]:
        from rocketmq_client import Message

        number = 0
        for raw in _bodies(body, count, jsonl):
            number += 1
            if jsonl:
                yield _from_json(topic, raw, number)
                continue
            content = raw.replace(b"{n}", b"%d" % number) if template else raw
            yield Message(
                topic=topic,
                body=content,
                tag=tag,
                keys=tuple(k.replace("{n}", str(number)) if template else k for k in keys),
                properties=properties,
                delay_level=delay_level,
                delay_ms=delay_ms,
                deliver_at_ms=deliver_at_ms,
                sharding_key=sharding_key,
            )

    outcome = run(_send(settings, topic, messages(), queue, rate, in_flight, create=create, oneway=oneway))
    _report(settings, outcome)


class _Outcome:
    def __init__(self) -> None:
        self.started = time.monotonic()
        self.sent = 0
        self.failed = 0
        self.error: Exception | None = None
        self.receipts: list[dict[str, Any]] = []

    def add(self, receipt: SendReceipt) -> None:
        self.sent += 1
        if len(self.receipts) < RECEIPTS_MAX:
            self.receipts.append(
                {
                    "status": receipt.status.name,
                    "queue": f"{receipt.queue.broker_name}:{receipt.queue.queue_id}",
                    "queue_offset": receipt.queue_offset,
                    "message_id": receipt.message_id,
                    "offset_message_id": receipt.offset_message_id,
                }
            )
            if receipt.recall_handle is not None:
                self.receipts[-1]["recall_handle"] = receipt.recall_handle


async def _send(
    settings: Globals,
    topic: str,
    messages: Iterator[Message],
    queue: tuple[str, int] | None,
    rate: float | None,
    in_flight: int,
    *,
    create: bool,
    oneway: bool,
) -> _Outcome:
    import asyncio

    from rocketmq_client import Admin, ClientError, MessageQueue, Producer

    addresses = settings.namesrv_addresses()
    target = MessageQueue(topic, *queue) if queue else None
    outcome = _Outcome()
    if create:
        async with Admin(addresses) as admin:
            if not await admin.topics.exists(topic):
                await admin.topics.create(topic)
                note(f"topic {topic} created")
    slots = asyncio.Semaphore(in_flight)

    async def send_one(producer: Producer, message: Message) -> None:
        try:
            if oneway:
                await producer.send_oneway(message, queue=target)
                outcome.sent += 1
            else:
                outcome.add(await producer.send(message, queue=target))
        except ClientError as error:
            outcome.failed += 1
            outcome.error = outcome.error or error
        finally:
            slots.release()

    loop = asyncio.get_running_loop()
    shown = next_slot = loop.time()
    async with Producer(addresses) as producer, asyncio.TaskGroup() as group:
        while (message := await _next(messages, outcome)) is not None:
            if rate:
                next_slot = max(next_slot + 1 / rate, loop.time() - 1)
                await asyncio.sleep(next_slot - loop.time())
            await slots.acquire()
            if outcome.error is not None and outcome.sent == 0:
                slots.release()
                break  # the first one failed, and so would the others
            group.create_task(send_one(producer, message))
            if sys.stderr.isatty() and loop.time() - shown > PROGRESS_INTERVAL_S:
                shown = loop.time()
                note(f"{outcome.sent} sent, {outcome.failed} failed")
    return outcome


async def _next(messages: Iterator[Message], outcome: _Outcome) -> Message | None:
    """The next message to send; bad input ends the sending, but what was sent before it still counts."""
    import asyncio

    try:
        # Reading standard input can block, and messages are under way while it does.
        return await asyncio.to_thread(next, messages, None)
    except CommandError as error:
        outcome.error = outcome.error or error
        return None


def _report(settings: Globals, outcome: _Outcome) -> None:
    elapsed_ms = round((time.monotonic() - outcome.started) * 1000)
    data = {
        "sent": outcome.sent,
        "failed": outcome.failed,
        "elapsed_ms": elapsed_ms,
        "messages": outcome.receipts,
    }
    if settings.output != "table" or outcome.sent == 1:
        show(settings, data, COLUMNS, [list(receipt.values())[: len(COLUMNS)] for receipt in outcome.receipts])
        handle = outcome.receipts[0].get("recall_handle") if outcome.receipts else None
        if settings.output == "table" and handle is not None:
            note(f"recall it with: rocketmq delayed recall {handle}")
    if outcome.sent != 1 or outcome.failed:
        note(f"{outcome.sent} sent, {outcome.failed} failed, {elapsed_ms} ms")
    if outcome.error is not None:
        raise outcome.error


def _bodies(body: str | None, count: int, jsonl: bool) -> Iterator[bytes]:
    if body == "-":
        yield _stdin().read()
    elif body is not None:
        for _ in range(count):
            yield body.encode()
    else:
        if sys.stdin.isatty():
            note("Type messages, one a line; Ctrl-D ends.")
        for line in _stdin():
            text = line.rstrip(b"\r\n")
            if text or not jsonl:
                yield text


def _stdin() -> BinaryIO:
    return sys.stdin.buffer


_JSON_FIELDS = {
    "body",
    "body_base64",
    "key",
    "keys",
    "tag",
    "properties",
    "sharding_key",
    "delay_level",
    "delay_ms",
    "deliver_at_ms",
}


def _from_json(topic: str, line: bytes, number: int) -> Message:
    import base64
    import json

    from rocketmq_client import Message

    try:
        raw = json.loads(line)
        if not isinstance(raw, dict):
            raise TypeError("it is no object")
        unknown = sorted(raw.keys() - _JSON_FIELDS)
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!r}; known are {', '.join(sorted(_JSON_FIELDS))}")
        body = raw.get("body", "")
        text = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
        encoded = raw.get("body_base64")
        keys = raw.get("keys") or ([raw["key"]] if "key" in raw else [])
        return Message(
            topic=topic,
            body=text.encode() if encoded is None else base64.b64decode(encoded, validate=True),
            tag=str(raw.get("tag", "")),
            keys=tuple(str(key) for key in keys),
            properties={str(k): str(v) for k, v in (raw.get("properties") or {}).items()},
            sharding_key=str(raw.get("sharding_key", "")),
            delay_level=int(raw.get("delay_level", 0)),
            delay_ms=int(raw.get("delay_ms", 0)),
            deliver_at_ms=int(raw.get("deliver_at_ms", 0)),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise CommandError(f"line {number} of standard input is no message: {error}") from error
