"""``rocketmq top``: what goes in and out, by topic and group, over the last minute, hour and day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rocketmq_tools.cli.names import complete_topic
from rocketmq_tools.cli.options import Globals, namesrv_option, output_option, watch_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import with_admin

if TYPE_CHECKING:
    from rocketmq_client import Admin
    from rocketmq_client.admin.access import BrokerAddress

WINDOWS = ("minute", "hour", "day")
COLUMNS = ("TOPIC", "GROUP", "LAG", "IN/S", "OUT/S", "IN/HOUR", "OUT/HOUR", "IN/DAY", "OUT/DAY")


@click.command("top", epilog="\b\nExamples:\n  rocketmq top --watch\n  rocketmq top orders -o json")
@click.argument("topics", nargs=-1, metavar="[TOPIC...]", shell_complete=complete_topic)
@click.option("--active", is_flag=True, help="Only rows with messages within the last minute.")
@namesrv_option
@output_option
@watch_option
@click.pass_obj
def command(settings: Globals, topics: tuple[str, ...], active: bool) -> None:
    """Show messages into topics and out to their groups (all topics but RocketMQ's own): per second, last hour, last day."""

    async def work(admin: Admin) -> list[dict[str, Any]]:
        masters = [b for b in await admin.brokers.find() if b.is_master]
        rows: list[dict[str, Any]] = []
        for topic in topics or await admin.topics.names():
            put = await _sums(admin, masters, "TOPIC_PUT_NUMS", topic)
            for group in await admin.topics.groups(topic) or [""]:
                got = await _sums(admin, masters, "GROUP_GET_NUMS", f"{topic}@{group}") if group else _NOTHING
                lag = (await admin.groups.progress(group, topic=topic)).lag if group else None
                rows.append(_row(topic, group, lag, put, got))
        return [row for row in rows if not active or row["in_minute"] or row["out_minute"]]

    data = with_admin(settings, work)
    shown = [
        [row["topic"], row["group"], row["lag"], row["in_tps"], row["out_tps"]]
        + [row[f"{way}_{window}"] for window in WINDOWS[1:] for way in ("in", "out")]
        for row in data
    ]
    show(settings, data, COLUMNS, shown)


_NOTHING: dict[str, float] = {"tps": 0.0, **dict.fromkeys(WINDOWS, 0)}


async def _sums(admin: Admin, masters: list[BrokerAddress], name: str, key: str) -> dict[str, float]:
    """A statistic of all brokers together: the sum of each window, and the rate of the last minute."""
    from rocketmq_client import RequestRefused

    total = dict(_NOTHING)
    for broker in masters:
        try:
            found = await admin.brokers.stats(broker.address, name, key)
        except RequestRefused:
            # Apache's way to say that there was none yet.
            continue
        for window in WINDOWS:
            total[window] += found[window].sum if window in found else 0
        total["tps"] += found["minute"].tps if "minute" in found else 0.0
    return total


def _row(topic: str, group: str, lag: int | None, put: dict[str, float], got: dict[str, float]) -> dict[str, Any]:
    row: dict[str, Any] = {"topic": topic, "group": group, "lag": lag}
    row |= {"in_tps": round(put["tps"], 2), "out_tps": round(got["tps"], 2)}
    return row | {f"{way}_{window}": int(of[window]) for window in WINDOWS for way, of in (("in", put), ("out", got))}
