"""Conditions, as Kubernetes' conventions want them: the time changes only with the status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

MESSAGE_LENGTH_MAX = 2000


def condition(kind: str, is_true: bool | None, reason: str, message: str, generation: int) -> dict[str, Any]:
    """One condition without its time; None is Unknown, ``reason`` an UpperCamelCase word."""
    return {
        "type": kind,
        "status": "Unknown" if is_true is None else str(is_true),
        "reason": reason,
        "message": message[:MESSAGE_LENGTH_MAX],
        "observedGeneration": generation,
    }


def timed(
    conditions: Sequence[dict[str, Any]], before: Sequence[Mapping[str, Any]], now_ms: int
) -> list[dict[str, Any]]:
    """The conditions with ``lastTransitionTime``: as before where the status is as before, else now."""
    old = {c["type"]: c for c in before}
    now = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [
        {
            **one,
            "lastTransitionTime": old[one["type"]]["lastTransitionTime"]
            if one["type"] in old and old[one["type"]]["status"] == one["status"]
            else now,
        }
        for one in conditions
    ]
