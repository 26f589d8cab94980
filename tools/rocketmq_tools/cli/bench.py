"""``rocketmq bench``: load from this client, with latencies and, for a broker on this machine, its CPU and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rocketmq_tools.cli.options import Globals, namesrv_option, output_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import note, with_admin
from rocketmq_tools.cli.values import Duration

if TYPE_CHECKING:
    from rocketmq_client import Admin
    from rocketmq_tools.load.plans import LoadResult

DEFAULT_TOPIC = "BenchmarkTest"
DEFAULT_GROUP = "benchmark_consumer"
COLUMNS = ("METRIC", "VALUE")


@click.group()
def command() -> None:
    """Measure sending and receiving, with this client; its own CPU is part of what is measured."""


def _common(function: Any) -> Any:
    for option in (
        click.option(
            "-t", "--topic", default=DEFAULT_TOPIC, show_default=True, help="Made with --queues if it is missing."
        ),
        click.option(
            "--queues", type=click.IntRange(1, 1024), default=8, show_default=True, help="Queues of a new topic."
        ),
        click.option("-d", "--duration", "duration_ms", type=Duration(), default="10s", show_default=True),
        click.option("--warmup", "warmup_ms", type=Duration(), default="1s", show_default=True, help="Not counted."),
        click.option(
            "-p",
            "--processes",
            type=click.IntRange(1, 64),
            default=1,
            show_default=True,
            help="Clients, one process each.",
        ),
    ):
        function = option(function)
    return output_option(namesrv_option(function))


@command.command(
    "produce",
    epilog="""\b
Examples:
  rocketmq bench produce
  rocketmq bench produce -s 1024 -w 256 -p 2 -d 30s -o json
  rocketmq bench produce --batch 100""",
)
@_common
@click.option("-s", "--size", type=click.IntRange(0, 4 << 20), default=128, show_default=True, help="Bytes of a body.")
@click.option("-w", "--in-flight", type=click.IntRange(1, 10_000), default=64, show_default=True, help="Per process.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Messages per second, all processes together.")
@click.option("--batch", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Messages per request.")
@click.option("-k", "--keys", is_flag=True, help="Each message with a key.")
@click.option("-l", "--tags", is_flag=True, help="Each message with a tag.")
@click.pass_obj
def produce(
    settings: Globals,
    topic: str,
    queues: int,
    duration_ms: int,
    warmup_ms: int,
    processes: int,
    size: int,
    in_flight: int,
    rate: float | None,
    batch: int,
    keys: bool,
    tags: bool,
) -> None:
    """Send as fast as the broker answers, or at --rate; latency is from send to answer."""
    from rocketmq_tools.load.plans import ProducePlan

    plan = ProducePlan(
        name_servers=settings.namesrv_addresses(), topic=topic, duration_ms=duration_ms, warmup_ms=warmup_ms, size=size,
        in_flight=in_flight, rate=rate / processes if rate else None, batch=batch, keys=keys, tags=tags,
    )  # fmt: skip
    _measure(settings, plan, processes, queues)


@command.command(
    "consume",
    epilog="""\b
Example:
  rocketmq bench produce -d 20s && rocketmq bench consume --from-start""",
)
@_common
@click.option("-g", "--group", default=DEFAULT_GROUP, show_default=True)
@click.option("--from-start", is_flag=True, help="Let the group begin at the first message stored.")
@click.pass_obj
def consume(
    settings: Globals,
    topic: str,
    queues: int,
    duration_ms: int,
    warmup_ms: int,
    processes: int,
    group: str,
    from_start: bool,
) -> None:
    """Receive as fast as possible in a group; latency is from the message's creation to the listener."""
    from rocketmq_tools.load.plans import ConsumePlan

    plan = ConsumePlan(
        name_servers=settings.namesrv_addresses(), topic=topic, duration_ms=duration_ms, warmup_ms=warmup_ms,
        group=group, from_start=from_start,
    )  # fmt: skip
    _measure(settings, plan, processes, queues)


@command.command("latency", epilog="\b\nExample:\n  rocketmq bench latency --rate 500 -d 30s")
@_common
@click.option("-s", "--size", type=click.IntRange(0, 4 << 20), default=128, show_default=True, help="Bytes of a body.")
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), default=500, show_default=True, help="Messages per second."
)
@click.pass_obj
def latency(
    settings: Globals,
    topic: str,
    queues: int,
    duration_ms: int,
    warmup_ms: int,
    processes: int,
    size: int,
    rate: float,
) -> None:
    """Send at a steady rate and receive by long poll in the same process; latency is from send to listener."""
    from rocketmq_tools.load.plans import LatencyPlan

    plan = LatencyPlan(
        name_servers=settings.namesrv_addresses(), topic=topic, duration_ms=duration_ms, warmup_ms=warmup_ms, size=size,
        rate=rate / processes,
    )  # fmt: skip
    _measure(settings, plan, processes, queues)


def _measure(settings: Globals, plan: Any, processes: int, queues: int) -> None:
    import time

    from rocketmq_tools.load.runner import run_plan
    from rocketmq_tools.load.servers import local_usages, spent

    async def prepare(admin: Admin) -> dict[str, str]:
        if not await admin.topics.exists(plan.topic):
            await admin.topics.create(plan.topic, queues=queues)
            note(f"topic {plan.topic} created with {queues} queues per broker")
        return {b.name: b.address for b in await admin.brokers.find() if b.is_master}

    brokers = with_admin(settings, prepare)
    before, started = local_usages(brokers), time.monotonic()
    result: LoadResult = run_plan(plan, processes, note)
    seconds = time.monotonic() - started
    # The brokers' CPU includes the warm-up, so it is put in relation to all messages of the run.
    data = result.as_data() | spent(before, local_usages(brokers), seconds, result.messages_with_warmup)
    show(settings, data, COLUMNS, [[name, value] for name, value in data.items()])
    if result.failed:
        note(f"{result.failed} requests failed; the first: {result.first_error}")
