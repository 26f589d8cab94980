"""``rocketmq message trace|deliver``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rocketmq_tools.cli.names import complete_group, complete_topic
from rocketmq_tools.cli.options import Globals, namesrv_option, output_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import with_admin
from rocketmq_tools.cli.values import iso
from rocketmq_tools.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from rocketmq_client import Admin, TraceEvent

TRACE_TOPIC = "RMQ_SYS_TRACE_TOPIC"


@click.command("trace", epilog="\b\nExample:\n  rocketmq message trace 7F0000014C2B18B4AAC20A5B6D0E0000")
@click.argument("message_id")
@click.option("--topic", default=TRACE_TOPIC, show_default=True, help="The topic that traces go to.")
@namesrv_option
@output_option
@click.pass_obj
def trace(settings: Globals, message_id: str, topic: str) -> None:
    """Show who sent and who consumed a message, when, how fast and with which outcome (clients must trace)."""

    async def work(admin: Admin) -> list[TraceEvent]:
        return await admin.messages.trace(message_id, topic=topic)

    events = with_admin(settings, work)
    if not events:
        raise CommandError(
            f"nothing is known of message {message_id}",
            why=f"neither its producer nor a consumer wrote into {topic} (yet)",
            exit_code=ExitCode.NOT_FOUND,
        )
    data = [{**event._asdict(), "time": iso(event.time_ms)} for event in events]
    rows = [[iso(e.time_ms), e.kind, e.group, e.host, e.cost_ms, e.is_success, e.retry_times, e.detail] for e in events]
    show(settings, data, ("TIME", "EVENT", "GROUP", "STORED AT", "MS", "OK", "TRIES BEFORE", "DETAIL"), rows)


@click.command(
    "deliver",
    epilog="\b\nExample:\n  rocketmq message deliver 7F0000014C2B18B4AAC20A5B6D0E0000 --topic orders --group billing --client ID",
)
@click.argument("message_id")
@click.option("--topic", required=True, help="The topic of the message.", shell_complete=complete_topic)
@click.option("--group", required=True, help="The group of the client.", shell_complete=complete_group)
@click.option("--client", "client_id", help="See: rocketmq group clients; needed when there are several.")
@namesrv_option
@output_option
@click.pass_obj
def deliver(settings: Globals, message_id: str, topic: str, group: str, client_id: str | None) -> None:
    """Hand a stored message to one connected consumer now, outside its order, and show what its listener made of it."""

    async def work(admin: Admin) -> dict[str, Any]:
        members = [c.client_id for c in (await admin.groups.members(group)).connection_set]
        if client_id is None and len(members) > 1:
            raise click.UsageError(f"group {group} has {len(members)} members: choose one with --client")
        message = await admin.messages.by_unique_id(topic, message_id)
        return await admin.messages.deliver(group, client_id or members[0], message)

    data = with_admin(settings, work)
    show(settings, data, ("FIELD", "VALUE"), [[name, str(value)] for name, value in data.items()])


COMMANDS = (trace, deliver)
