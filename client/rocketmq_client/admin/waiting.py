"""Delayed messages that wait at one broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rocketmq_client.admin.access import Access, parse
from rocketmq_client.errors import NotFound, RequestRefused
from rocketmq_common import names
from rocketmq_common.settings import parse_java_properties
from rocketmq_remoting.codes import RequestCode


@dataclass(frozen=True, slots=True)
class WaitingLevel:
    """Messages of one delay level: its number, its delay in the broker's words (``10s``), and how many wait."""

    level: int
    delay: str
    count: int


async def waiting_levels(access: Access, address: str) -> list[WaitingLevel]:
    """Delay levels at which messages wait."""
    config = parse_java_properties((await access.ask(address, RequestCode.GET_BROKER_CONFIG)).body.decode())
    delays = config.get("messageDelayLevel", "").split()
    done = _table(parse((await access.ask(address, RequestCode.GET_ALL_DELAY_OFFSET)).body))
    result: list[WaitingLevel] = []
    for number, delay in enumerate(delays, start=1):
        header = {"topic": names.SCHEDULE_TOPIC, "queueId": str(number - 1)}
        end = int((await access.ask(address, RequestCode.GET_MAX_OFFSET, header)).ext_fields().get("offset") or 0)
        if end > done.get(number, 0):
            result.append(WaitingLevel(number, delay, end - done.get(number, 0)))
    return result


async def waiting_timers(access: Access, address: str) -> dict[str, int]:
    """Timer messages that wait, by topic; empty at a broker without timers."""
    try:
        body = parse((await access.ask(address, RequestCode.GET_TIMER_METRICS)).body)
    except (NotFound, RequestRefused):
        return {}
    counts = {topic: int(row.get("count") or 0) for topic, row in (body.get("timingCount") or {}).items()}
    return {topic: count for topic, count in sorted(counts.items()) if count > 0}


def _table(body: dict[str, Any]) -> dict[int, int]:
    return {int(level): int(offset) for level, offset in (body.get("offsetTable") or {}).items()}
