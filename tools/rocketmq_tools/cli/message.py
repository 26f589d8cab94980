"""``rocketmq message``."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import click

from rocketmq_tools.cli import message_actions
from rocketmq_tools.cli.message_views import COLUMNS, as_data, as_row, body_text
from rocketmq_tools.cli.names import complete_topic
from rocketmq_tools.cli.options import Globals, namesrv_option, output_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import note, with_admin
from rocketmq_tools.cli.values import Position, PositionType, QueueType, iso, parse_time
from rocketmq_tools.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from rocketmq_client import Admin, MessageQueue, MessageView

SCAN_COUNT = 100
SCAN_PULL_COUNT = 32


@click.group()
def command() -> None:
    """Get and find stored messages."""


@command.command(
    "get",
    epilog="""\b
Examples:
  rocketmq message get 7F00000100002A9F0000000000000003
  rocketmq message get 7F0000014C2B18B4AAC20A5B6D0E0000 --topic orders
  rocketmq message get --topic orders --queue broker-a:0 --offset 42 --body""",
)
@click.argument("message_id", required=False)
@click.option("--topic", help="For unique ids and offsets.", shell_complete=complete_topic)
@click.option("--queue", type=QueueType(), help="BROKER:ID, together with --offset.")
@click.option("--offset", type=click.IntRange(0), help="Offset in --queue.")
@click.option("--body", "only_body", is_flag=True, help="Only the body, byte for byte.")
@namesrv_option
@output_option
@click.pass_obj
def get(
    settings: Globals,
    message_id: str | None,
    topic: str | None,
    queue: tuple[str, int] | None,
    offset: int | None,
    only_body: bool,
) -> None:
    """Show one message: by its id, or by queue and offset.

    Offset ids (from the broker) are found alone; unique ids (from the producer) need --topic.
    """
    if (message_id is None) == (topic is None or queue is None or offset is None):
        raise click.UsageError("give MESSAGE_ID, or --topic, --queue and --offset")

    async def work(admin: Admin) -> MessageView:
        from rocketmq_client import MessageQueue

        if message_id is None:
            assert topic is not None
            assert queue is not None
            assert offset is not None
            return await admin.messages.at(MessageQueue(topic, *queue), offset)
        if topic is not None:
            return await admin.messages.by_unique_id(topic, message_id)
        return await admin.messages.by_offset_id(message_id)

    view = with_admin(settings, work)
    if only_body:
        sys.stdout.buffer.write(view.body)
        return
    data = as_data(view)
    rows = [[name, value] for name, value in data.items() if name not in ("properties", "body", "body_base64")]
    rows += [[f"property {name}", value] for name, value in sorted(data["properties"].items())]
    rows.append(["body", body_text(view)])
    show(settings, data, ("FIELD", "VALUE"), [[name, _cell(name, value)] for name, value in rows])


@command.command(
    "find",
    epilog="""\b
Examples:
  rocketmq message find orders --key 4711
  rocketmq message find orders --key 4711 --since -2h -o json""",
)
@click.argument("topic", shell_complete=complete_topic)
@click.option("--key", help="One of the message's keys.")
@click.option("--id", "unique_id", help="The producer's id of the message.")
@click.option("--since", metavar="TIME", default="0", help="Stored at or after; ISO time, epoch, or -10m.")
@click.option("--until", metavar="TIME", default="now", help="Stored at or before.")
@click.option("-c", "--count", type=click.IntRange(1, 1000), default=64, show_default=True, help="At most so many.")
@namesrv_option
@output_option
@click.pass_obj
def find(
    settings: Globals, topic: str, key: str | None, unique_id: str | None, since: str, until: str, count: int
) -> None:
    """Find messages of TOPIC in the index; exit code 3 when there are none."""
    if (key is None) == (unique_id is None):
        raise click.UsageError("give either --key or --id")
    begin_ms, end_ms = _time(since, "--since"), _time(until, "--until")

    async def work(admin: Admin) -> list[MessageView]:
        if unique_id is not None:
            return [await admin.messages.by_unique_id(topic, unique_id)]
        assert key is not None
        # The index counts in seconds: a message stored in this one must be found.
        return await admin.messages.by_key(topic, key, count_max=count, begin_ms=begin_ms, end_ms=end_ms + 1000)

    views = with_admin(settings, work)
    if not views:
        raise CommandError(
            f"topic {topic} has no message with key {key}",
            why="keys are compared exactly; the index forgets with the messages",
            exit_code=ExitCode.NOT_FOUND,
        )
    show(settings, [as_data(v) for v in views], COLUMNS, [as_row(v) for v in views])


@command.command(
    "scan",
    epilog="""\b
Examples:
  rocketmq message scan orders --from -10
  rocketmq message scan orders --from @-1h --grep 'customer":7' -c 1000""",
)
@click.argument("topic", shell_complete=complete_topic)
@click.option(
    "--from", "start", type=PositionType(), default="-10", show_default=True, help="start, end, -10, +5, @TIME, offset."
)
@click.option("--queue", type=QueueType(), help="Only this queue, BROKER:ID.")
@click.option("--tag", default="*", help="Tag expression: A || B.")
@click.option("--grep", metavar="REGEX", help="Only messages whose body matches.")
@click.option(
    "-c", "--count", type=click.IntRange(1, 100_000), default=SCAN_COUNT, show_default=True, help="At most so many."
)
@namesrv_option
@output_option
@click.pass_obj
def scan(
    settings: Globals,
    topic: str,
    start: Position,
    queue: tuple[str, int] | None,
    tag: str,
    grep: str | None,
    count: int,
) -> None:
    """Read TOPIC without a group, queue by queue, and show what matches, oldest first."""
    try:
        pattern = re.compile(grep.encode()) if grep else None
    except re.error as error:
        raise click.UsageError(f"--grep {grep!r}: {error}") from error

    async def work(admin: Admin) -> list[MessageView]:
        queues = (await admin.topics.route(topic)).read_queues
        chosen = [q for q in queues if queue in (None, (q.broker_name, q.queue_id))]
        if not chosen:
            raise CommandError(f"topic {topic} has no such queue", exit_code=ExitCode.NOT_FOUND)
        found: list[MessageView] = []
        for q in chosen:
            found += await _scan_queue(admin, settings, q, start, tag, pattern, count)
        return sorted(found, key=lambda v: (v.store_timestamp_ms, v.queue, v.queue_offset))[:count]

    views = with_admin(settings, work)
    show(settings, [as_data(v) for v in views], COLUMNS, [as_row(v) for v in views])


async def _scan_queue(
    admin: Admin,
    settings: Globals,
    queue: MessageQueue,
    start: Position,
    tag: str,
    pattern: re.Pattern[bytes] | None,
    count: int,
) -> list[MessageView]:
    from rocketmq_client import LitePullConsumer
    from rocketmq_tools.cli.positions import offset_of

    first = await offset_of(admin, queue, start)
    _, end = await admin.messages.bounds(queue)
    found: list[MessageView] = []
    if first >= end:
        return found
    async with LitePullConsumer(settings.namesrv_addresses(), pull_count=SCAN_PULL_COUNT) as reader:
        await reader.assign({queue: first}, tag)
        while len(found) < count:
            position = reader.position(queue)
            if position is None or position >= end:
                break
            found += (
                view
                for view in await reader.poll(timeout_ms=500)
                if view.queue_offset < end and (pattern is None or pattern.search(view.body))
            )
    return found[:count]


@command.command(
    "decode",
    epilog="""\b
Examples:
  rocketmq message decode 7F00000100002A9F0000000000000003
  rocketmq message decode 7F0000014C2B18B4AAC20A5B6D0E0000 --unique""",
)
@click.argument("message_id")
@click.option("--unique", is_flag=True, help="Read it as a producer's unique id.")
@output_option
@click.pass_obj
def decode(settings: Globals, message_id: str, unique: bool) -> None:
    """Show what a message id says; asks no cluster."""
    from rocketmq_common.message_ids import parse_offset_message_id

    try:
        if unique:
            data = _unique_id(message_id)
        else:
            place = parse_offset_message_id(message_id)
            data = {
                "kind": "offset id",
                "host": place.host,
                "port": place.port,
                "physical_offset": place.physical_offset,
            }
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    show(settings, data, ("FIELD", "VALUE"), [[name, str(value)] for name, value in data.items()])
    if not unique and data["port"] == 0:
        note("port 0 is unusual: is it a unique id? try --unique")


for verb in message_actions.COMMANDS:
    command.add_command(verb)


def _unique_id(message_id: str) -> dict[str, Any]:
    """The parts of a unique id; the month of its time is not in it, so the latest possible one is taken. Raises ValueError."""
    import socket
    import time
    from datetime import datetime

    raw = bytes.fromhex(message_id)
    if len(raw) not in (16, 28):
        raise ValueError(f"message id {message_id!r} has {len(message_id)} characters; a unique id has 32 or 56")
    address, rest = raw[:-12], raw[-12:]
    since_month_ms = int.from_bytes(rest[6:10], "big")
    now = datetime.fromtimestamp(time.time()).astimezone()
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    created_ms = int(month.timestamp() * 1000) + since_month_ms
    if created_ms > now.timestamp() * 1000:
        month = month.replace(year=month.year - (month.month == 1), month=(month.month - 2) % 12 + 1)
        created_ms = int(month.timestamp() * 1000) + since_month_ms
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return {
        "kind": "unique id",
        "host": socket.inet_ntop(family, address),
        "pid": int.from_bytes(rest[:2], "big"),
        "created": iso(created_ms),
        "counter": int.from_bytes(rest[10:], "big"),
    }


def _cell(name: str, value: Any) -> str:
    if name.endswith("_timestamp_ms"):
        return iso(value) or "-"
    if isinstance(value, list):
        return " ".join(value)
    return str(value)


def _time(text: str, option: str) -> int:
    try:
        return 0 if text == "0" else parse_time(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from error
