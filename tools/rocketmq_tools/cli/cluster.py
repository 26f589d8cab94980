"""``rocketmq cluster``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from rocketmq_tools.cli.options import Globals, namesrv_option, output_option, watch_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import note, run, with_admin
from rocketmq_tools.cli.values import Duration
from rocketmq_tools.errors import ExitCode

if TYPE_CHECKING:
    from rocketmq_client import Admin

DISK_USED_MAX = 0.90
PROBE_INTERVAL_MS = 500
PROBE_TIMEOUT_MS = 3000


@click.group()
def command() -> None:
    """Show clusters and their health."""


@command.command("info", epilog="\b\nExample:\n  rocketmq cluster info")
@namesrv_option
@output_option
@watch_option
@click.pass_obj
def info(settings: Globals) -> None:
    """List clusters with their brokers and addresses."""

    async def work(admin: Admin) -> list[dict[str, Any]]:
        return [
            {
                "cluster": b.cluster,
                "broker": b.name,
                "broker_id": b.broker_id,
                "role": _role(b.is_master),
                "address": b.address,
            }
            for b in (await admin.brokers.cluster()).addresses()
        ]

    data = with_admin(settings, work)
    columns = ("CLUSTER", "BROKER", "ID", "ROLE", "ADDRESS")
    show(settings, data, columns, [list(row.values()) for row in data])


@command.command(
    "health",
    epilog="""\b
Examples:
  rocketmq cluster health
  rocketmq cluster health --wait --timeout 60s   # in scripts, after a start""",
)
@click.option("--wait", is_flag=True, help="Until healthy, or until --timeout.")
@click.option("--timeout", "timeout_ms", type=Duration(), default="30s", show_default=True, help="How long to wait.")
@namesrv_option
@output_option
@click.pass_obj
def health(settings: Globals, wait: bool, timeout_ms: int) -> int:
    """Check name servers and brokers; exit code 7 when something is wrong."""
    deadline = time.monotonic() + timeout_ms / 1000
    while True:
        rows = run(_probe(settings.namesrv_addresses()))
        is_healthy = all(row["ok"] for row in rows)
        if is_healthy or not wait or time.monotonic() >= deadline:
            break
        time.sleep(PROBE_INTERVAL_MS / 1000)
    show(
        settings,
        {"healthy": is_healthy, "checks": rows},
        ("CHECK", "TARGET", "OK", "DETAIL"),
        [list(row.values()) for row in rows],
    )
    if not is_healthy:
        note("unhealthy: " + "; ".join(f"{r['check']} {r['target']}: {r['detail']}" for r in rows if not r["ok"]))
        return ExitCode.UNHEALTHY
    return ExitCode.OK


async def _probe(addresses: list[str]) -> list[dict[str, Any]]:
    """One row per name server and broker. Every name server is asked, for each must know every broker."""
    from rocketmq_client import Admin, ClientError

    rows: list[dict[str, Any]] = []
    known: dict[str, dict[str, str]] = {}
    for address in addresses:
        try:
            async with Admin(address, timeout_ms=PROBE_TIMEOUT_MS) as admin:
                brokers = (await admin.brokers.cluster()).addresses()
        except ClientError as error:
            rows.append(_row("name server", address, False, _what(error)))
            continue
        known[address] = {b.address: f"{b.name}:{b.broker_id}" for b in brokers}
        rows.append(_row("name server", address, bool(brokers), f"knows {len(brokers)} brokers"))
    everybody: dict[str, str] = {}
    for part in known.values():
        everybody |= part
    for address, part in known.items():
        missing = sorted(name for broker, name in everybody.items() if broker not in part)
        if missing:
            rows.append(_row("registration", address, False, f"does not know {', '.join(missing)}"))
    if known:
        async with Admin(next(iter(known)), timeout_ms=PROBE_TIMEOUT_MS) as admin:
            for broker, name in sorted(everybody.items(), key=lambda item: item[1]):
                try:
                    rows.append(_broker_row(name, broker, await admin.brokers.runtime(broker)))
                except ClientError as error:
                    rows.append(_row("broker", name, False, f"{broker}: {_what(error)}"))
    return rows


def _broker_row(name: str, address: str, runtime: dict[str, str]) -> dict[str, Any]:
    try:
        used = float(runtime.get("commitLogDiskRatio") or 0)
    except ValueError:
        used = 0.0
    if used > DISK_USED_MAX:
        return _row("broker", name, False, f"{address}: disk {used:.0%} full")
    return _row("broker", name, True, f"{address}, disk {used:.0%}, {runtime.get('brokerVersionDesc', '?')}")


def _row(check: str, target: str, ok: bool, detail: str) -> dict[str, Any]:
    return {"check": check, "target": target, "ok": ok, "detail": detail}


def _what(error: Exception) -> str:
    return str(getattr(error, "what", error))


def _role(is_master: bool) -> str:
    return "master" if is_master else "slave"
