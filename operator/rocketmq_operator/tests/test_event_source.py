"""What kopf is started with."""

from __future__ import annotations

import asyncio
from typing import Any

import kopf
import pytest

from rocketmq_operator.process.event_source import watch_own_kinds
from rocketmq_operator.process.settings import OperatorSettings


async def test_kopf_is_told_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it asks for the user's name, and the image's user is a number without one: the operator would not start."""
    given: dict[str, Any] = {}

    async def operator(**options: Any) -> None:
        given.update(options)

    monkeypatch.setattr(kopf, "operator", operator)
    settings = OperatorSettings(identity="operator-0", kubeconfig="absent")
    await watch_own_kinds(settings, lambda _: None, lambda: None, asyncio.Event(), asyncio.Event())
    assert given["identity"] == "operator-0"
