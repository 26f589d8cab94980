"""``rocketmq consume``."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click

from rocketmq_tools.cli.message_views import FORMAT_HELP, as_bytes, as_data, as_line
from rocketmq_tools.cli.names import complete_topic
from rocketmq_tools.cli.options import Globals, namesrv_long_option, output_option
from rocketmq_tools.cli.session import note, run
from rocketmq_tools.cli.values import Duration, Position, PositionType
from rocketmq_tools.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from rocketmq_client import Delivery, MessageView, PushConsumer

Acknowledge = Callable[[], Awaitable[None]]

GROUP_WAIT_MS = 3000
POLL_MS = 200
# How often it is looked whether a group has anything to do, and how long it may take to get queues.
IDLE_LOOK_MS = 20
ASSIGNMENT_MAX_MS = 30_000


@click.command(
    epilog=f"""\b
Examples:
  rocketmq consume orders                          # everything stored, then stop
  rocketmq consume orders -f --from end            # what comes from now on, until Ctrl-C
  rocketmq consume orders --from -10 -o json       # the last ten of each queue, a JSON object a line
  rocketmq consume orders,payments -g billing -n 5 # as a member of a group, which remembers
  rocketmq consume orders --tag 'created || paid' -F '%k %b\\n'

\b
Formats (-F):
{FORMAT_HELP}"""
)
@click.argument("topics", metavar="TOPIC[,TOPIC...]", shell_complete=complete_topic)
@click.option("-g", "--group", help="Consume as a member of this group; without it nothing is remembered.")
@click.option(
    "--from",
    "start",
    type=PositionType(),
    help="start (default), end, -10, +5, @TIME, or an offset. For groups: the first time only.",
)
@click.option("-n", "-c", "--count", "count", type=click.IntRange(1), help="Stop after so many messages.")
@click.option("-f", "--follow", is_flag=True, help="Wait for more instead of stopping at the end.")
@click.option(
    "--wait", "wait_ms", type=Duration(), help="With -g and without -f: stop when nothing came for so long (3s)."
)
@click.option("--tag", default="*", help="Only these tags: 'A || B'.")
@click.option("--sql", help="Only messages whose properties satisfy this SQL92 expression.")
@click.option("-F", "--format", "layout", help="How to print each message; see below.")
@click.option("--broadcast", is_flag=True, help="With -g: every member gets everything.")
@click.option("--orderly", is_flag=True, help="With -g: one message after another in each queue.")
@namesrv_long_option
@output_option
@click.pass_obj
def command(
    settings: Globals,
    topics: str,
    group: str | None,
    start: Position | None,
    count: int | None,
    follow: bool,
    wait_ms: int | None,
    tag: str,
    sql: str | None,
    layout: str | None,
    broadcast: bool,
    orderly: bool,
) -> None:
    """Receive messages of TOPICS and print them."""
    names = [name.strip() for name in topics.split(",") if name.strip()]
    if not names:
        raise click.UsageError("no topic is given")
    if group is None and (broadcast or orderly or wait_ms is not None):
        raise click.UsageError("--broadcast, --orderly and --wait are for groups: give -g")
    if sql is not None and tag != "*":
        raise click.UsageError("give either --tag or --sql")
    emit = _printer(settings, layout)

    async def messages() -> AsyncGenerator[tuple[MessageView, Acknowledge], None]:
        from rocketmq_client import Sql, Tags

        wanted = Tags(tag) if sql is None else Sql(sql)
        if group is None:
            async with aclosing(_read(settings, names, start or Position("start"), wanted, follow)) as views:
                async for view in views:
                    yield view, _nothing_to_acknowledge
        else:
            silence_ms = None if follow else GROUP_WAIT_MS if wait_ms is None else wait_ms
            arguments = (settings, names, group, start, wanted, silence_ms, broadcast, orderly)
            async with aclosing(_consume(*arguments)) as works:
                async for work in works:
                    yield work

    received = 0

    async def work() -> None:
        nonlocal received
        # Closed here and now, not when the collector gets to it: leaving the group commits.
        async with aclosing(messages()) as source:
            async for view, acknowledge in source:
                emit(view)
                await acknowledge()
                received += 1
                if count is not None and received >= count:
                    return

    try:
        run(work())
    except KeyboardInterrupt:
        pass
    finally:
        note(f"{received} messages")


async def _nothing_to_acknowledge() -> None:
    """Readers without a group leave no trace."""


def _printer(settings: Globals, layout: str | None) -> Callable[[MessageView], None]:
    out = sys.stdout.buffer
    if layout is not None:
        _check_layout(layout)

        def emit_layout(view: MessageView) -> None:
            out.write(as_bytes(view, layout))
            out.flush()

        return emit_layout
    if settings.output in ("json", "jsonl"):
        import msgspec

        def emit_json(view: MessageView) -> None:
            out.write(msgspec.json.encode(as_data(view)) + b"\n")
            out.flush()

        return emit_json
    if settings.output == "yaml":
        import yaml

        def emit_yaml(view: MessageView) -> None:
            click.echo("---\n" + yaml.safe_dump(as_data(view), sort_keys=False, allow_unicode=True), nl=False)

        return emit_yaml

    def emit_line(view: MessageView) -> None:
        line = as_line(view)
        if settings.color and sys.stdout.isatty():
            head, _, body = line.rpartition("  ")
            line = f"{click.style(head, dim=True)}  {body}"
        click.echo(line)

    return emit_line


def _check_layout(layout: str) -> None:
    from rocketmq_client import MessageQueue, MessageView
    from rocketmq_common.records import StoredMessage

    sample = MessageView(StoredMessage(topic="t", body=b""), MessageQueue("t", "b", 0))
    try:
        as_bytes(sample, layout)
    except ValueError as error:
        raise click.UsageError(f"-F: {error}") from error


async def _read(
    settings: Globals, topics: list[str], start: Position, wanted: Any, follow: bool
) -> AsyncGenerator[MessageView, None]:
    """All queues of the topics without a group; without ``follow`` up to where they end now."""
    from rocketmq_client import Admin, LitePullConsumer
    from rocketmq_tools.cli.positions import offset_of

    addresses = settings.namesrv_addresses()
    async with Admin(addresses) as admin, LitePullConsumer(addresses) as reader:
        begins, ends = {}, {}
        for topic in topics:
            for queue in (await admin.topics.route(topic)).read_queues:
                begins[queue] = await offset_of(admin, queue, start)
                _, ends[queue] = await admin.messages.bounds(queue)
        await reader.assign(begins, wanted)
        while follow or any((reader.position(queue) or 0) < end for queue, end in ends.items()):
            for view in await reader.poll(timeout_ms=POLL_MS):
                if follow or view.queue_offset < ends[view.queue]:
                    yield view


async def _consume(
    settings: Globals,
    topics: list[str],
    group: str,
    start: Position | None,
    wanted: Any,
    silence_ms: int | None,
    broadcast: bool,
    orderly: bool,
) -> AsyncGenerator[tuple[MessageView, Acknowledge], None]:
    """As a member of ``group``; each message is to be acknowledged when it has been printed."""
    from rocketmq_client import ConsumeFrom, MessageModel, PushConsumer

    kinds = {None: ConsumeFrom.LAST, "start": ConsumeFrom.FIRST, "end": ConsumeFrom.LAST, "time": ConsumeFrom.TIMESTAMP}
    kind = start.kind if start else None
    if kind not in kinds:
        raise CommandError("a group begins at start, end or @TIME", remedy="move it: rocketmq group seek")
    async with PushConsumer(
        settings.namesrv_addresses(),
        group=group,
        topics=dict.fromkeys(topics, wanted),
        model=MessageModel.BROADCASTING if broadcast else MessageModel.CLUSTERING,
        consume_from=kinds[kind],
        consume_timestamp_ms=start.value if start and kind == "time" else None,
        orderly=orderly,
    ) as consumer:
        deliveries = aiter(consumer)
        while (delivery := await _next_before_silence(consumer, deliveries, silence_ms)) is not None:
            yield delivery.message, delivery.ack


async def _next_before_silence(
    consumer: PushConsumer, deliveries: AsyncIterator[Delivery], silence_ms: int | None
) -> Delivery | None:
    """The next message; ``None`` when there was nothing to do for ``silence_ms``.

    Joining the group, being given queues and asking for the first messages take their time and are no silence.
    """
    import asyncio
    import time

    coming = asyncio.ensure_future(anext(deliveries, None))
    began = time.monotonic()
    idle_since: float | None = None
    try:
        while silence_ms is not None and not coming.done():
            await asyncio.wait({coming}, timeout=IDLE_LOOK_MS / 1000)
            now = time.monotonic()
            if consumer.is_idle:
                idle_since = now if idle_since is None else idle_since
                if now - idle_since >= silence_ms / 1000 and not coming.done():
                    return None
            else:
                idle_since = None
                if now - began > ASSIGNMENT_MAX_MS / 1000 and not coming.done():
                    raise CommandError(
                        f"group {consumer.group} has nothing to read from after {ASSIGNMENT_MAX_MS // 1000} s",
                        why="its queues could not be shared out, or their brokers do not answer",
                        remedy=f"rocketmq group diagnose {consumer.group}",
                        exit_code=ExitCode.TIMEOUT,
                    )
        return await coming
    finally:
        if not coming.done():
            coming.cancel()
            await asyncio.wait({coming})
