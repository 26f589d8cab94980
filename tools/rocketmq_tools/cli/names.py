"""Completion of topic, group and broker names: asks the cluster, but never for longer than a shell user waits."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rocketmq_tools.cli.options import Globals

if TYPE_CHECKING:
    from rocketmq_client import Admin

COMPLETION_TIMEOUT_MS = 300
CACHE_SECONDS = 10.0


def complete_topic(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of topics."""
    del param

    async def ask(admin: Admin) -> list[str]:
        return await admin.topics.names()

    return _complete(ctx, "topics", ask, incomplete)


def complete_group(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of consumer groups."""
    del param

    async def ask(admin: Admin) -> list[str]:
        return list(await admin.groups.configs())

    return _complete(ctx, "groups", ask, incomplete)


def complete_broker(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of brokers."""
    del param

    async def ask(admin: Admin) -> list[str]:
        return sorted({b.name for b in await admin.brokers.find()})

    return _complete(ctx, "brokers", ask, incomplete)


def _complete(
    ctx: click.Context, kind: str, ask: Callable[[Admin], Awaitable[list[str]]], incomplete: str
) -> list[str]:
    from rocketmq_client import Admin, ClientError
    from rocketmq_tools.cli.session import run
    from rocketmq_tools.errors import CommandError

    settings = ctx.find_object(Globals) or Globals(environment=os.environ.get("NAMESRV_ADDR", ""))
    try:
        addresses = settings.namesrv_addresses()
    except CommandError:
        return []
    cache = _cache_path(kind, addresses)
    names = _cached(cache)
    if names is None:

        async def work() -> list[str]:
            import asyncio

            async with (
                Admin(addresses, timeout_ms=COMPLETION_TIMEOUT_MS) as admin,
                asyncio.timeout(COMPLETION_TIMEOUT_MS / 1000),
            ):
                return await ask(admin)

        try:
            names = run(work())
        except (ClientError, TimeoutError):
            return []  # a completion that fails must not print into the user's line
        _keep(cache, names)
    return [name for name in names if name.startswith(incomplete)]


def _cache_path(kind: str, addresses: list[str]) -> Path:
    from hashlib import sha256

    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rocketmq"
    return root / f"{kind}-{sha256(';'.join(addresses).encode()).hexdigest()[:16]}.json"


def _cached(path: Path) -> list[str] | None:
    try:
        if time.time() - path.stat().st_mtime > CACHE_SECONDS:
            return None
        names = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _keep(path: Path, names: list[str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(names))
    except OSError:
        return  # completion works without a cache, only slower
