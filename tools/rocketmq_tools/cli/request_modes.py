"""``rocketmq group mode``: whether a group pulls or pops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rocketmq_tools.cli.names import complete_group, complete_topic
from rocketmq_tools.cli.options import Globals, namesrv_option, output_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import with_admin

if TYPE_CHECKING:
    from rocketmq_client import Admin


@click.command(
    "mode",
    epilog="\b\nExamples:\n  rocketmq group mode billing                  # what is set\n"
    "  rocketmq group mode billing orders pop\n  rocketmq group mode billing orders pop --share 2",
)
@click.argument("group", shell_complete=complete_group)
@click.argument("topic", required=False, shell_complete=complete_topic)
@click.argument("mode", required=False, type=click.Choice(("pull", "pop"), case_sensitive=False))
@click.option("--share", type=click.IntRange(0), default=0, help="Pop: so many further members share a queue (0: all).")
@click.option("--cluster", help="Only brokers of this cluster.")
@click.option("--broker", help="Only this broker.")
@namesrv_option
@output_option
@click.pass_obj
def command(
    settings: Globals,
    group: str,
    topic: str | None,
    mode: str | None,
    share: int,
    cluster: str | None,
    broker: str | None,
) -> None:
    """Have GROUP pull or pop TOPIC, or show what was set.

    For consumers that ask brokers for their queues, as Java's do with setClientRebalance(false); in force within seconds.
    """
    if topic is not None and mode is None:
        raise click.UsageError(f"say whether {group} shall pull or pop {topic}")

    async def work(admin: Admin) -> list[dict[str, Any]]:
        await admin.groups.config(group)
        if topic is not None and mode is not None:
            await admin.topics.route(topic)
            await admin.groups.set_mode(group, topic, mode.upper(), share_count=share, cluster=cluster, broker=broker)
        return [
            {
                "broker": where.name,
                "topic": found.get("topic"),
                "mode": str(found.get("mode", "")).lower(),
                "share": found.get("popShareQueueNum"),
            }
            for where, found in await admin.groups.modes(group)
        ]

    data = with_admin(settings, work)
    show(settings, data, ("BROKER", "TOPIC", "MODE", "SHARE"), [list(row.values()) for row in data])
