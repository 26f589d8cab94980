"""``rocketmq delayed``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rocketmq_tools.cli.names import complete_broker
from rocketmq_tools.cli.options import Globals, namesrv_option, output_option, watch_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import run, with_admin

if TYPE_CHECKING:
    from rocketmq_client import Admin


@click.group()
def command() -> None:
    """Show which delayed messages wait; take them back."""


@command.command("ls", epilog="\b\nExamples:\n  rocketmq delayed ls\n  rocketmq delayed ls broker-a --watch")
@click.argument("broker", required=False, shell_complete=complete_broker)
@namesrv_option
@output_option
@watch_option
@click.pass_obj
def list_waiting(settings: Globals, broker: str | None) -> None:
    """Count the messages that wait: of each delay level, and of each topic with timer messages."""

    async def work(admin: Admin) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for b in await admin.brokers.find(broker=broker):
            if not b.is_master:
                continue
            levels = await admin.brokers.waiting_levels(b.address)
            timers = await admin.brokers.waiting_timers(b.address)
            rows += [
                {"broker": b.name, "kind": "level", "what": f"{level.level} ({level.delay})", "waiting": level.count}
                for level in levels
            ]
            rows += [
                {"broker": b.name, "kind": "timer", "what": topic, "waiting": count} for topic, count in timers.items()
            ]
        return rows

    data = with_admin(settings, work)
    show(settings, data, ("BROKER", "KIND", "LEVEL OR TOPIC", "WAITING"), [list(row.values()) for row in data])


@command.command(
    "recall",
    epilog="""\b
Example:
  rocketmq produce reminders 'wake up' --delay 1h -o json | jq -r '.messages[0].recall_handle' | xargs rocketmq delayed recall""",
)
@click.argument("handles", metavar="HANDLE...", nargs=-1, required=True)
@namesrv_option
@output_option
@click.pass_obj
def recall(settings: Globals, handles: tuple[str, ...]) -> None:
    """Keep messages sent with --delay or --at from being delivered, by the handles that came with their receipts.

    Needs recallMessageEnable at the broker, and that the message is not delivered yet.
    """

    async def work() -> list[str]:
        from rocketmq_client import Producer

        async with Producer(settings.namesrv_addresses()) as producer:
            return [await producer.recall(handle) for handle in handles]

    recalled = run(work())
    show(settings, {"recalled": recalled}, ("RECALLED MESSAGE ID",), [[message_id] for message_id in recalled])
