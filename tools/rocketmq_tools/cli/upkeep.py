"""``rocketmq broker drain|undrain|gc|cq|producers``: what operators do to a running broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rocketmq_tools.cli.names import complete_broker, complete_group, complete_topic
from rocketmq_tools.cli.options import Globals, namesrv_option, output_option, watch_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import note, with_admin
from rocketmq_tools.cli.values import QueueType

if TYPE_CHECKING:
    from rocketmq_client import Admin

CLEANED = {"log": "EXPIRED_LOG", "queues": "EXPIRED_QUEUES", "topics": "UNUSED_TOPICS"}


@click.command("drain", epilog="\b\nExample:\n  rocketmq broker drain broker-a")
@click.argument("broker", shell_complete=complete_broker)
@namesrv_option
@click.pass_obj
def drain(settings: Globals, broker: str) -> None:
    """Take BROKER from producers at every name server; consumers go on reading it. Undone by undrain, or when it registers anew."""

    async def work(admin: Admin) -> int:
        return await admin.brokers.wipe_write_permission(broker)

    note(f"{broker} takes no new messages: {with_admin(settings, work)} topics")


@click.command("undrain", epilog="\b\nExample:\n  rocketmq broker undrain broker-a")
@click.argument("broker", shell_complete=complete_broker)
@namesrv_option
@click.pass_obj
def undrain(settings: Globals, broker: str) -> None:
    """Give BROKER back to producers."""

    async def work(admin: Admin) -> int:
        return await admin.brokers.add_write_permission(broker)

    note(f"{broker} takes messages again: {with_admin(settings, work)} topics")


@click.command("gc", epilog="\b\nExamples:\n  rocketmq broker gc\n  rocketmq broker gc broker-a --what topics")
@click.argument("broker", required=False, shell_complete=complete_broker)
@click.option("--what", type=click.Choice(tuple(CLEANED)), default="log", show_default=True, help="What to clean.")
@namesrv_option
@output_option
@click.pass_obj
def collect(settings: Globals, broker: str | None, what: str) -> None:
    """Have brokers remove what has expired now: old log files, old queue files, or queues of topics that are gone."""

    async def work(admin: Admin) -> list[dict[str, Any]]:
        from rocketmq_client.admin.brokers import Housekeeping

        found = await admin.brokers.find(broker=broker)
        for b in found:
            await admin.brokers.clean(b.address, Housekeeping[CLEANED[what]])
        return [{"broker": b.name, "broker_id": b.broker_id, "address": b.address, "cleaned": what} for b in found]

    data = with_admin(settings, work)
    show(settings, data, ("BROKER", "ID", "ADDRESS", "CLEANED"), [list(row.values()) for row in data])


@click.command("cq", epilog="\b\nExample:\n  rocketmq broker cq orders broker-a:0 --offset 100 -c 5 --group billing")
@click.argument("topic", shell_complete=complete_topic)
@click.argument("queue", type=QueueType())
@click.option("--offset", type=click.IntRange(0), default=0, help="The first entry.")
@click.option("-c", "--count", type=click.IntRange(1, 1000), default=10, show_default=True, help="At most so many.")
@click.option("--group", help="Also say which entries this group's filter lets through.", shell_complete=complete_group)
@namesrv_option
@output_option
@click.pass_obj
def entries(settings: Globals, topic: str, queue: tuple[str, int], offset: int, count: int, group: str | None) -> None:
    """Show raw entries of the consume queue QUEUE (BROKER:ID) of TOPIC."""

    async def work(admin: Admin) -> dict[str, Any]:
        (master,) = [b for b in await admin.brokers.find(broker=queue[0]) if b.is_master]
        return await admin.brokers.consume_queue(master.address, topic, queue[1], offset, count, group=group or "")

    found = with_admin(settings, work)
    rows = [
        [
            max(offset, found.get("minQueueIndex", 0)) + n,
            e.get("physicOffset"),
            e.get("physicSize"),
            e.get("tagsCode"),
            e.get("eval"),
        ]
        for n, e in enumerate(found.get("queueData") or [])
    ]
    show(settings, found, ("OFFSET", "PHYSICAL OFFSET", "SIZE", "TAGS CODE", "MATCHES"), rows)
    note(f"the queue holds {found.get('minQueueIndex')} to {int(found.get('maxQueueIndex', 0)) - 1}")


@click.command("producers", epilog="\b\nExample:\n  rocketmq broker producers broker-a")
@click.argument("broker", required=False, shell_complete=complete_broker)
@namesrv_option
@output_option
@watch_option
@click.pass_obj
def producers(settings: Globals, broker: str | None) -> None:
    """List the producers that are connected to BROKER, or to any."""

    async def work(admin: Admin) -> list[dict[str, Any]]:
        from rocketmq_common.versions import version_name

        rows = []
        for b in await admin.brokers.find(broker=broker):
            for group, clients in (await admin.brokers.producers(b.address)).items():
                rows += [
                    {
                        "broker": b.name,
                        "group": group,
                        "client_id": client.client_id,
                        "address": client.client_addr,
                        "language": client.language,
                        "version": version_name(client.version),
                    }
                    for client in clients
                ]
        return rows

    data = with_admin(settings, work)
    columns = ("BROKER", "GROUP", "CLIENT", "ADDRESS", "LANGUAGE", "VERSION")
    show(settings, data, columns, [list(row.values()) for row in data])


COMMANDS = (drain, undrain, collect, entries, producers)
