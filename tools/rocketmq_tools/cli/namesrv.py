"""``rocketmq namesrv ls|config|kv``; with flags ``rocketmq namesrv`` is the role instead, see `roles`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rocketmq_tools.cli.options import Globals, namesrv_option, output_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import note, run, with_admin
from rocketmq_tools.cli.values import pairs
from rocketmq_tools.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from rocketmq_client import Admin


@click.group()
def command() -> None:
    """Show and configure name servers; with -c FILE run one."""


@command.command("ls", epilog="\b\nExample:\n  rocketmq namesrv ls")
@namesrv_option
@output_option
@click.pass_obj
def list_name_servers(settings: Globals) -> None:
    """List the name servers in use, with what each of them knows."""

    async def work() -> list[dict[str, Any]]:
        from rocketmq_client import Admin, ClientError

        rows: list[dict[str, Any]] = []
        for address in settings.namesrv_addresses():
            async with Admin(address) as admin:
                try:
                    brokers = len((await admin.brokers.cluster()).addresses())
                    topics = len(await admin.topics.names(with_system=True))
                except ClientError as error:
                    note(f"{address}: {error}")
                    rows.append({"address": address, "answers": False, "brokers": None, "topics": None})
                else:
                    rows.append({"address": address, "answers": True, "brokers": brokers, "topics": topics})
        return rows

    data = run(work())
    show(settings, data, ("ADDRESS", "ANSWERS", "BROKERS", "TOPICS"), [list(row.values()) for row in data])


@command.group("config")
def config() -> None:
    """Show and change configuration at run time."""


@config.command("get", epilog="\b\nExample:\n  rocketmq namesrv config get")
@namesrv_option
@output_option
@click.pass_obj
def get_config(settings: Globals) -> None:
    """Show the configuration of the first name server that answers."""

    async def work(admin: Admin) -> dict[str, str]:
        return await admin.brokers.name_server_config()

    data = with_admin(settings, work)
    show(settings, data, ("KEY", "VALUE"), [[name, value] for name, value in data.items()])


@config.command("set", epilog="\b\nExample:\n  rocketmq namesrv config set waitSecondsForService=30")
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE...")
@namesrv_option
@click.pass_obj
def set_config(settings: Globals, changes: tuple[str, ...]) -> None:
    """Change configuration of every name server while it runs."""
    wanted = pairs(changes, "change")

    async def work(admin: Admin) -> None:
        await admin.brokers.configure_name_servers(wanted)

    with_admin(settings, work)
    note(f"name servers: {', '.join(changes)}")


@command.group("kv")
def kv() -> None:
    """Key-value pairs that name servers keep."""


@kv.command("ls", epilog="\b\nExample:\n  rocketmq namesrv kv ls ORDER_TOPIC_CONFIG")
@click.argument("namespace")
@namesrv_option
@output_option
@click.pass_obj
def list_pairs(settings: Globals, namespace: str) -> None:
    """Show the pairs of NAMESPACE."""

    async def work(admin: Admin) -> dict[str, str]:
        return await admin.brokers.kv_table(namespace)

    data = with_admin(settings, work)
    if not data:
        raise CommandError(f"namespace {namespace} holds nothing", exit_code=ExitCode.NOT_FOUND)
    show(settings, data, ("KEY", "VALUE"), [[name, value] for name, value in data.items()])


@kv.command("put", epilog="\b\nExample:\n  rocketmq namesrv kv put ORDER_TOPIC_CONFIG orders broker-a:4")
@click.argument("namespace")
@click.argument("key")
@click.argument("value")
@namesrv_option
@click.pass_obj
def put_pair(settings: Globals, namespace: str, key: str, value: str) -> None:
    """Set KEY of NAMESPACE to VALUE at every name server."""

    async def work(admin: Admin) -> None:
        await admin.brokers.put_kv(namespace, key, value)

    with_admin(settings, work)
    note(f"{namespace} {key} is {value}")


@kv.command("delete", epilog="\b\nExample:\n  rocketmq namesrv kv delete ORDER_TOPIC_CONFIG orders")
@click.argument("namespace")
@click.argument("key")
@namesrv_option
@click.pass_obj
def delete_pair(settings: Globals, namespace: str, key: str) -> None:
    """Remove KEY of NAMESPACE at every name server."""

    async def work(admin: Admin) -> None:
        await admin.brokers.delete_kv(namespace, key)

    with_admin(settings, work)
    note(f"{namespace} {key} is removed")
