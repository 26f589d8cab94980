"""``rocketmq group``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rocketmq_tools.cli import diagnosis, request_modes
from rocketmq_tools.cli.names import complete_group, complete_topic
from rocketmq_tools.cli.options import Globals, namesrv_option, output_option, watch_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import confirm, note, with_admin, yes_option
from rocketmq_tools.cli.values import Position, PositionType, QueueType, iso

if TYPE_CHECKING:
    from rocketmq_client import Admin, GroupProgress, SubscriptionGroupConfig


@click.group()
def command() -> None:
    """List, create, change, delete and describe consumer groups."""


@command.command("ls", epilog="\b\nExamples:\n  rocketmq group ls\n  rocketmq group ls --lag     # most behind first")
@click.option("-a", "--all", "everything", is_flag=True, help="Also RocketMQ's own groups.")
@click.option("--lag", "with_lag", is_flag=True, help="With lag, the most behind first.")
@namesrv_option
@output_option
@watch_option
@click.pass_obj
def list_groups(settings: Globals, everything: bool, with_lag: bool) -> None:
    """List consumer groups."""

    async def work(admin: Admin) -> list[dict[str, Any]]:
        names = list(await admin.groups.configs(with_system=everything))
        if not with_lag:
            return [{"group": name} for name in names]
        rows = [{"group": name, "lag": (await admin.groups.progress(name)).lag} for name in names]
        return sorted(rows, key=lambda row: (-row["lag"], row["group"]))

    data = with_admin(settings, work)
    show(settings, data, ("GROUP", "LAG") if with_lag else ("GROUP",), [list(row.values()) for row in data])


@command.command("create", epilog="\b\nExample:\n  rocketmq group create billing --retries 5")
@click.argument("group")
@click.option("--retries", type=click.IntRange(0), help="Deliveries after the first before the dead letters (16).")
@click.option("--retry-queues", type=click.IntRange(0), help="Queues of the retry topic (1).")
@click.option("--consume/--no-consume", default=None, help="Whether the group may consume.")
@click.option("--broadcast/--no-broadcast", default=None, help="Whether members may broadcast.")
@click.option("--orderly/--no-orderly", default=None, help="Whether the group consumes in order.")
@click.option("--cluster", help="Only brokers of this cluster.")
@click.option("--broker", help="Only this broker.")
@namesrv_option
@output_option
@click.pass_obj
def create(
    settings: Globals,
    group: str,
    retries: int | None,
    retry_queues: int | None,
    consume: bool | None,
    broadcast: bool | None,
    orderly: bool | None,
    cluster: str | None,
    broker: str | None,
) -> None:
    """Create GROUP at all brokers, or change it: what is not named stays as it is."""

    async def work(admin: Admin) -> list[Any]:
        from rocketmq_client import GroupNotFound, SubscriptionGroupConfig

        try:
            config = await admin.groups.config(group)
        except GroupNotFound:
            config = SubscriptionGroupConfig(group_name=group)
        for name, value in (
            ("retry_max_times", retries),
            ("retry_queue_nums", retry_queues),
            ("consume_enable", consume),
            ("consume_broadcast_enable", broadcast),
            ("consume_message_orderly", orderly),
        ):
            if value is not None:
                setattr(config, name, value)
        return await admin.groups.create(config, cluster=cluster, broker=broker)

    data = [{"group": group, "broker": b.name, "address": b.address} for b in with_admin(settings, work)]
    show(settings, data, ("GROUP", "BROKER", "ADDRESS"), [list(row.values()) for row in data])


@command.command("delete", epilog="\b\nExample:\n  rocketmq group delete billing --clean-offsets --yes")
@click.argument("groups", nargs=-1, required=True, shell_complete=complete_group)
@click.option("--clean-offsets", is_flag=True, help="Also forget how far the group was.")
@yes_option
@namesrv_option
@click.pass_obj
def delete(settings: Globals, groups: tuple[str, ...], clean_offsets: bool, yes: bool) -> None:
    """Delete GROUPS with their retry and dead-letter topics."""
    confirm(f"Delete {', '.join(groups)} with retry and dead-letter messages?", yes=yes)

    async def work(admin: Admin) -> None:
        for group in groups:
            await admin.groups.delete(group, clean_offsets=clean_offsets)
            note(f"group {group} deleted")

    with_admin(settings, work)


@command.command("describe", epilog="\b\nExample:\n  rocketmq group describe billing")
@click.argument("group", shell_complete=complete_group)
@namesrv_option
@output_option
@watch_option
@click.pass_obj
def describe(settings: Globals, group: str) -> None:
    """Show configuration, members, subscriptions and lag of GROUP."""

    async def work(admin: Admin) -> dict[str, Any]:
        from rocketmq_client import NobodyOnline

        config = await admin.groups.config(group)
        progress = await admin.groups.progress(group)
        data: dict[str, Any] = {"group": group, "lag": progress.lag, "tps": progress.tps, "members": 0}
        try:
            members = await admin.groups.members(group)
        except NobodyOnline:
            pass
        else:
            data |= {
                "members": len(members.connection_set),
                "consume_type": members.consume_type,
                "message_model": members.message_model,
                "consume_from": members.consume_from_where,
                "subscriptions": {t: s.sub_string for t, s in sorted(members.subscription_table.items())},
            }
        return data | {"config": _config(config), "topics": _lag_by_topic(progress)}

    data = with_admin(settings, work)
    rows = [[name, value] for name, value in data.items() if not isinstance(value, dict)]
    rows += [[f"subscription {t}", s] for t, s in data.get("subscriptions", {}).items()]
    rows += [[f"lag {t}", lag] for t, lag in data["topics"].items()]
    rows += [[name, str(value)] for name, value in data["config"].items()]
    show(settings, data, ("PROPERTY", "VALUE"), [[name, str(value)] for name, value in rows])


@command.command(
    "lag", epilog="\b\nExamples:\n  rocketmq group lag billing\n  rocketmq group lag billing -o json | jq .lag"
)
@click.argument("group", shell_complete=complete_group)
@click.option("--topic", help="Only this topic.", shell_complete=complete_topic)
@namesrv_option
@output_option
@watch_option
@click.pass_obj
def lag(settings: Globals, group: str, topic: str | None) -> None:
    """Show how far GROUP is behind on each queue."""

    async def work(admin: Admin) -> GroupProgress:
        return await admin.groups.progress(group, topic=topic)

    progress = with_admin(settings, work)
    rows = [
        {
            "topic": q.queue.topic,
            "broker": q.queue.broker_name,
            "queue_id": q.queue.queue_id,
            "broker_offset": q.broker_offset,
            "consumer_offset": q.consumer_offset,
            "lag": q.lag,
            "in_flight": q.in_flight,
            "last_consumed": iso(q.last_timestamp_ms),
        }
        for q in progress.queues
    ]
    data = {"group": group, "lag": progress.lag, "tps": progress.tps, "queues": rows}
    columns = ("TOPIC", "BROKER", "QUEUE", "BROKER OFFSET", "CONSUMER OFFSET", "LAG", "IN FLIGHT", "LAST CONSUMED")
    show(settings, data, columns, [list(row.values()) for row in rows])
    if settings.output == "table":
        note(f"{group} is {progress.lag} messages behind")


@command.command("clients", epilog="\b\nExample:\n  rocketmq group clients billing")
@click.argument("group", shell_complete=complete_group)
@namesrv_option
@output_option
@watch_option
@click.pass_obj
def clients(settings: Globals, group: str) -> None:
    """List the connected consumers of GROUP."""

    async def work(admin: Admin) -> list[dict[str, Any]]:
        from rocketmq_common.versions import version_name

        members = await admin.groups.members(group)
        return [
            {
                "client_id": c.client_id,
                "address": c.client_addr,
                "language": c.language,
                "version": version_name(c.version),
            }
            for c in members.connection_set
        ]

    data = with_admin(settings, work)
    show(settings, data, ("CLIENT", "ADDRESS", "LANGUAGE", "VERSION"), [list(row.values()) for row in data])


@command.command(
    "seek",
    epilog="""\b
Examples:
  rocketmq group seek billing orders --to end
  rocketmq group seek billing orders --to @-1h --yes
  rocketmq group seek billing orders --to 4711 --queue broker-a:3""",
)
@click.argument("group", shell_complete=complete_group)
@click.argument("topic", shell_complete=complete_topic)
@click.option("--to", "to", type=PositionType(), required=True, help="start, end, -10, +5, @TIME, or an offset.")
@click.option("--queue", type=QueueType(), help="Only this queue, BROKER:ID; required with an offset.")
@click.option("--dry-run", is_flag=True, help="Show the new offsets and change nothing.")
@yes_option
@namesrv_option
@output_option
@click.pass_obj
def seek(
    settings: Globals,
    group: str,
    topic: str,
    to: Position,
    queue: tuple[str, int] | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Move GROUP on TOPIC to another place, while its consumers run or not."""
    if to.kind == "offset" and queue is None:
        raise click.UsageError("an offset means one queue: give --queue BROKER:ID")

    async def plan(admin: Admin) -> list[dict[str, Any]]:
        from rocketmq_tools.cli.positions import offset_of

        await admin.groups.config(group)
        before = {q.queue: q.consumer_offset for q in (await admin.groups.progress(group, topic=topic)).queues}
        queues = (await admin.topics.route(topic)).read_queues
        chosen = [q for q in queues if queue in (None, (q.broker_name, q.queue_id))]
        if not chosen:
            raise click.UsageError(f"topic {topic} has no queue {queue[0]}:{queue[1]}" if queue else "no queues")
        rows = []
        for q in chosen:
            offset = await offset_of(admin, q, to)
            rows.append(
                {"broker": q.broker_name, "queue_id": q.queue_id, "from": before.get(q), "to": offset, "_queue": q}
            )
        return rows

    rows = with_admin(settings, plan)
    if not dry_run:
        confirm(f"Move group {group} on {len(rows)} queues of {topic}?", yes=yes)

        async def move(admin: Admin) -> None:
            for row in rows:
                await admin.groups.seek_queue(group, row["_queue"], row["to"])

        with_admin(settings, move)
    data = [{name: value for name, value in row.items() if name != "_queue"} for row in rows]
    show(settings, data, ("BROKER", "QUEUE", "FROM", "TO"), [list(row.values()) for row in data])


@command.command("skip", epilog="\b\nExample:\n  rocketmq group skip billing orders --yes")
@click.argument("group", shell_complete=complete_group)
@click.argument("topic", shell_complete=complete_topic)
@yes_option
@namesrv_option
@output_option
@click.pass_obj
def skip(settings: Globals, group: str, topic: str, yes: bool) -> None:
    """Let GROUP forget what it has not consumed of TOPIC and go on with what comes, while its consumers run or not."""
    confirm(f"Skip everything that {group} has not consumed of {topic}?", yes=yes)

    async def work(admin: Admin) -> tuple[int, list[dict[str, Any]]]:
        await admin.groups.config(group)
        lag = (await admin.groups.progress(group, topic=topic)).lag
        moved = await admin.groups.seek(group, topic)
        return lag, [{"broker": q.broker_name, "queue_id": q.queue_id, "to": offset} for q, offset in moved.items()]

    lag, data = with_admin(settings, work)
    show(settings, data, ("BROKER", "QUEUE", "TO"), [list(row.values()) for row in data])
    note(f"{group} skipped {lag} messages of {topic}")


@command.command("copy-offsets", epilog="\b\nExample:\n  rocketmq group copy-offsets billing billing-v2 orders")
@click.argument("source", shell_complete=complete_group)
@click.argument("target")
@click.argument("topic", shell_complete=complete_topic)
@namesrv_option
@click.pass_obj
def copy_offsets(settings: Globals, source: str, target: str, topic: str) -> None:
    """Give group TARGET the progress of group SOURCE on TOPIC."""

    async def work(admin: Admin) -> None:
        await admin.groups.config(source)
        await admin.groups.copy_offsets(source, target, topic=topic)

    with_admin(settings, work)
    note(f"{target} is now where {source} is on {topic}")


command.add_command(diagnosis.command)
command.add_command(request_modes.command)


def _config(config: SubscriptionGroupConfig) -> dict[str, Any]:
    return {
        "consume_enable": config.consume_enable,
        "consume_broadcast_enable": config.consume_broadcast_enable,
        "consume_message_orderly": config.consume_message_orderly,
        "retry_max_times": config.retry_max_times,
        "retry_queue_nums": config.retry_queue_nums,
        "consume_timeout_minute": config.consume_timeout_minute,
    }


def _lag_by_topic(progress: GroupProgress) -> dict[str, int]:
    result: dict[str, int] = {}
    for queue in progress.queues:
        result[queue.queue.topic] = result.get(queue.queue.topic, 0) + queue.lag
    return result
