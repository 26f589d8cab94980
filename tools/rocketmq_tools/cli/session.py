"""What every command that talks to a cluster does: run one coroutine, with an `Admin` if it wants one."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rocketmq_tools.cli.options import Globals

if TYPE_CHECKING:
    from rocketmq_client import Admin

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end on the fastest event loop there is."""
    import asyncio

    try:
        import uvloop
    except ImportError:
        return asyncio.run(coroutine)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


def with_admin(settings: Globals, action: Callable[[Admin], Awaitable[T]]) -> T:
    """Run ``action`` with a started `Admin` of the chosen cluster."""

    async def work() -> T:
        from rocketmq_client import Admin

        async with Admin(settings.namesrv_addresses()) as admin:
            return await action(admin)

    return run(work())


def note(text: str) -> None:
    """A remark for the user, on standard error."""
    click.echo(text, err=True)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is lost; ``--yes`` answers, and without a terminal that is needed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Say --yes, for there is no terminal to ask on.")
    click.confirm(question, abort=True, err=True)


def yes_option(function: Any) -> Any:
    """``-y/--yes``."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(function)
