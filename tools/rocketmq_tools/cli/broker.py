"""``rocketmq broker ls|status|config``; with flags ``rocketmq broker`` is the role instead, see `roles`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rocketmq_tools.cli import upkeep
from rocketmq_tools.cli.names import complete_broker
from rocketmq_tools.cli.options import Globals, namesrv_option, output_option, watch_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.replication import replication, switchover
from rocketmq_tools.cli.session import note, with_admin
from rocketmq_tools.cli.values import pairs
from rocketmq_tools.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from rocketmq_client import Admin, BrokerAddress


@click.group()
def command() -> None:
    """List and configure brokers."""


command.add_command(replication)
command.add_command(switchover)


@command.command("ls", epilog="\b\nExample:\n  rocketmq broker ls -o json")
@namesrv_option
@output_option
@watch_option
@click.pass_obj
def list_brokers(settings: Globals) -> None:
    """List broker processes with version and load."""

    async def work(admin: Admin) -> list[dict[str, Any]]:
        from rocketmq_client import ClientError

        rows: list[dict[str, Any]] = []
        for broker in await admin.brokers.find():
            row: dict[str, Any] = {
                "cluster": broker.cluster,
                "broker": broker.name,
                "broker_id": broker.broker_id,
                "address": broker.address,
            }
            try:
                runtime = await admin.brokers.runtime(broker.address)
            except ClientError as error:
                note(f"{broker.name} at {broker.address} does not answer: {error}")
                runtime = {}
            row |= {
                "version": runtime.get("brokerVersionDesc"),
                "in_tps": first_number(runtime.get("putTps")),
                "out_tps": first_number(runtime.get("getTransferredTps")),
                "disk_used": _percent(runtime.get("commitLogDiskRatio")),
            }
            rows.append(row)
        return rows

    data = with_admin(settings, work)
    columns = ("CLUSTER", "BROKER", "ID", "ADDRESS", "VERSION", "IN TPS", "OUT TPS", "DISK")
    show(settings, data, columns, [list(row.values()) for row in data])


@command.command("status", epilog="\b\nExample:\n  rocketmq broker status broker-a")
@click.argument("broker", shell_complete=complete_broker)
@namesrv_option
@output_option
@watch_option
@click.pass_obj
def status(settings: Globals, broker: str) -> None:
    """Show the figures of BROKER (a name, then its master, or an address)."""

    async def work(admin: Admin) -> dict[str, str]:
        return await admin.brokers.runtime((await _one(admin, broker)).address)

    data = with_admin(settings, work)
    show(settings, data, ("NAME", "VALUE"), [[name, value] for name, value in data.items()])


@command.group("config")
def config() -> None:
    """Show and change configuration at run time."""


@config.command("get", epilog="\b\nExample:\n  rocketmq broker config get broker-a flushDiskType")
@click.argument("broker", shell_complete=complete_broker)
@click.argument("keys", nargs=-1)
@namesrv_option
@output_option
@click.pass_obj
def get_config(settings: Globals, broker: str, keys: tuple[str, ...]) -> None:
    """Show the configuration of BROKER, or only KEYS."""

    async def work(admin: Admin) -> dict[str, str]:
        return await admin.brokers.config((await _one(admin, broker)).address)

    data = with_admin(settings, work)
    unknown = [key for key in keys if key not in data]
    if unknown:
        raise CommandError(
            f"{broker} has no configuration key {', '.join(unknown)}",
            remedy=f"see them all: rocketmq broker config get {broker}",
            exit_code=ExitCode.NOT_FOUND,
        )
    if keys:
        data = {key: data[key] for key in keys}
    show(settings, data, ("KEY", "VALUE"), [[name, value] for name, value in data.items()])


@config.command("set", epilog="\b\nExample:\n  rocketmq broker config set broker-a fileReservedTime=48")
@click.argument("broker", shell_complete=complete_broker)
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE...")
@namesrv_option
@click.pass_obj
def set_config(settings: Globals, broker: str, changes: tuple[str, ...]) -> None:
    """Change configuration of BROKER while it runs."""
    wanted = pairs(changes, "change")

    async def work(admin: Admin) -> None:
        await admin.brokers.configure((await _one(admin, broker)).address, wanted)

    with_admin(settings, work)
    note(f"{broker}: {', '.join(changes)}")


for verb in upkeep.COMMANDS:
    command.add_command(verb)


async def _one(admin: Admin, broker: str) -> BrokerAddress:
    found = await admin.brokers.find(broker=broker)
    return next((b for b in found if b.is_master), found[0])


def first_number(text: str | None) -> float | None:
    """The first of Apache's three averages (10 s, 60 s, 600 s)."""
    try:
        return round(float((text or "").split(" ")[0]), 2)
    except ValueError:
        return None


def _percent(ratio: str | None) -> str | None:
    try:
        return f"{float(ratio or ''):.0%}"
    except ValueError:
        return None
