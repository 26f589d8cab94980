"""Values as users write and read them: times, positions, permissions, queues, pairs."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PERMISSIONS = {"rw": 6, "wr": 6, "r": 4, "w": 2, "none": 0, "-": 0}


def iso(ms: int) -> str | None:
    """``ms`` since the epoch in ISO 8601, UTC, to the millisecond; ``None`` for 0 or less, which means unknown."""
    if ms <= 0:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


if TYPE_CHECKING:
    _Type = click.ParamType[Any]  # generic for the type checker only
else:
    _Type = click.ParamType


class Duration(_Type):
    """``500ms``, ``10s``, ``5m``, ``2h``, ``1d``; a bare number is seconds. The value is milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See `click.ParamType.convert`."""
        if isinstance(value, int):
            return value
        match = _DURATION.fullmatch(str(value) + ("s" if str(value).replace(".", "", 1).isdigit() else ""))
        if match is None:
            self.fail(f"{value!r} is no duration; write for example 500ms, 10s, 5m, 2h", param, ctx)
        return int(float(match[1]) * _UNITS_MS[match[2]])


def parse_time(text: str) -> int:
    """ms since the epoch of: epoch ms or s, ISO 8601 (local time unless it says otherwise), ``now``, ``-10m`` (ago).

    Raises ValueError.
    """
    if text == "now":
        return time.time_ns() // 1_000_000
    if text.startswith("-"):
        match = _DURATION.fullmatch(text[1:])
        if match is None:
            raise ValueError(f"{text!r} is no time ago; write for example -10m")
        return time.time_ns() // 1_000_000 - int(float(match[1]) * _UNITS_MS[match[2]])
    if text.isdigit():
        return int(text) if len(text) >= 12 else int(text) * 1000
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except ValueError:
        raise ValueError(f"{text!r} is no time; write 2026-11-21T10:00, epoch milliseconds, or -10m") from None


@dataclass(frozen=True, slots=True)
class Position:
    """Where to begin: ``kind`` is start, end, last (``value`` before the end), skip (after the start), time (ms), offset."""

    kind: str
    value: int = 0


class PositionType(_Type):
    """``start``, ``end``, ``-10`` (ten before the end), ``+5`` (five after the start), ``@TIME``, or an offset."""

    name = "position"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Position:
        """See `click.ParamType.convert`."""
        if isinstance(value, Position):
            return value
        text = str(value)
        if text in ("start", "end"):
            return Position(text)
        try:
            if text.startswith("@"):
                return Position("time", parse_time(text[1:]))
            if text.startswith("-"):
                return Position("last", int(text[1:]))
            if text.startswith("+"):
                return Position("skip", int(text[1:]))
            return Position("offset", int(text))
        except ValueError as error:
            hint = str(error) if text.startswith("@") else f"{text!r} is no position"
            self.fail(f"{hint}; write start, end, -10, +5, @2026-11-21T10:00, @-10m or an offset", param, ctx)


class Permission(_Type):
    """``rw``, ``r``, ``w``, ``none`` or Apache's number. The value is the number."""

    name = "rw|r|w|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See `click.ParamType.convert`."""
        if isinstance(value, int):
            return value
        text = str(value).lower()
        if text in _PERMISSIONS:
            return _PERMISSIONS[text]
        if not text.isdigit() or int(text) > 7:
            self.fail(f"{value!r} is no permission; write rw, r, w or none", param, ctx)
        return int(text)


class QueueType(_Type):
    """``BROKER:ID``. The value is (broker name, queue id)."""

    name = "broker:queue"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """See `click.ParamType.convert`."""
        if isinstance(value, tuple):
            return value
        broker, separator, number = str(value).rpartition(":")
        if not separator or not broker or not number.isdigit():
            self.fail(f"{value!r} is no queue; write BROKER:ID, for example broker-a:0", param, ctx)
        return broker, int(number)


def pairs(items: tuple[str, ...], option: str) -> dict[str, str]:
    """``k=v`` items as a dictionary; raises click.UsageError."""
    result: dict[str, str] = {}
    for item in items:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise click.UsageError(f"{option} {item!r}: write key=value")
        result[key] = value
    return result
