"""``rocketmq broker replication|switchover``: who follows whom, and another master on purpose."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rocketmq_tools.cli.chaos import await_epoch, group_of
from rocketmq_tools.cli.local import choice_options
from rocketmq_tools.cli.names import complete_broker
from rocketmq_tools.cli.options import Globals, namesrv_option, output_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import note, with_admin
from rocketmq_tools.errors import CommandError

if TYPE_CHECKING:
    from rocketmq_client import Admin

COLUMNS = ("BROKER", "ID", "ADDRESS", "ROLE", "LOG END", "LAG", "IN SYNC", "SLAVES")


@click.command("replication", epilog="\b\nExample:\n  rocketmq broker replication")
@click.argument("broker", required=False, shell_complete=complete_broker)
@namesrv_option
@output_option
@click.pass_obj
def replication(settings: Globals, broker: str | None) -> None:
    """Show masters with their slaves: how far each log reaches, and how far slaves are behind. Lag is bytes."""

    async def work(admin: Admin) -> list[dict[str, Any]]:
        import msgspec

        from rocketmq_remoting.client import RemotingClient
        from rocketmq_remoting.codes import RequestCode
        from rocketmq_remoting.errors import RemotingConnectError, RemotingError, RemotingTimeout

        rows: list[dict[str, Any]] = []
        client = RemotingClient()
        try:
            for found in await admin.brokers.find(broker=broker):
                row: dict[str, Any] = {"broker": found.name, "broker_id": found.broker_id, "address": found.address}
                try:
                    answer = await client.invoke(found.address, RequestCode.GET_BROKER_HA_STATUS, timeout_ms=3000)
                    told = msgspec.json.decode(answer.body)
                except (RemotingConnectError, RemotingError, RemotingTimeout, msgspec.DecodeError) as error:
                    note(f"{found.name} at {found.address} does not tell: {error}")
                    rows.append(row)
                    continue
                rows.append(row | (_master_row(told) if told.get("master") else _slave_row(told)))
        finally:
            await client.close()
        return rows

    data = with_admin(settings, work)
    keys = ("broker", "broker_id", "address", "role", "log_end", "lag", "in_sync", "slaves")
    show(settings, data, COLUMNS, [[row.get(key) for key in keys] for row in data])


def _master_row(told: dict[str, Any]) -> dict[str, Any]:
    slaves = told.get("haConnectionInfo") or []
    return {
        "role": "master",
        "log_end": told.get("masterCommitLogMaxOffset"),
        "lag": max((slave.get("diff", 0) for slave in slaves), default=None),
        "in_sync": 1 + told.get("inSyncSlaveNums", 0),
        "slaves": len(slaves),
    }


def _slave_row(told: dict[str, Any]) -> dict[str, Any]:
    client = told.get("haClientRuntimeInfo") or {}
    end = client.get("maxOffset", 0)
    return {
        "role": "slave" if client.get("isActivated") else "slave, not connected",
        "log_end": end,
        "lag": max(0, client.get("masterFlushOffset", 0) - end),
    }


@click.command("switchover", epilog="\b\nExample:\n  rocketmq broker switchover --to rocketmq-b0-1")
@click.argument("group", required=False)
@click.option("--to", "replica", help="The replica that shall be master; one that is in sync, if not given.")
@choice_options
@output_option
@click.pass_obj
def switchover(
    settings: Globals,
    group: str | None,
    replica: str | None,
    cluster_name: str | None,
    source: str | None,
    data: Path | None,
) -> None:
    """Make another replica of broker GROUP its master, without losing a message; in a cluster on this machine.

    On Kubernetes: kubectl annotate lease GROUP rocketmqkube.dev/target=REPLICA
    """
    from rocketmq_tools.embedded import leases

    directory, group, _ = group_of(group, cluster_name, source, data)
    record = leases.read_lease(directory, group)
    if replica is None and record is not None:
        replica = next((name for name in record.in_sync if name != record.holder_name), None)
    if replica is None:
        raise CommandError(f"{group} has no other replica that is in sync", remedy="see `rocketmq broker replication`")
    started = time.monotonic()
    before = leases.ask_for(directory, group, replica)
    after = await_epoch(directory, group, before.epoch, replica)
    told = {
        "group": group,
        "from": before.holder_name,
        "master": after.holder_name,
        "epoch": after.epoch,
        "seconds": round(time.monotonic() - started, 1),
    }
    show(settings, told, ("GROUP", "FROM", "MASTER", "EPOCH", "SECONDS"), [list(told.values())])
