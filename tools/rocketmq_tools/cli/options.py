"""Options that every command shares, and what they set.

``-n`` and ``-o`` are accepted before and after the sub-command; the later one wins. A command reads them from
``click.Context.obj``, which is a `Globals` (``@click.pass_obj``).
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from rocketmq_tools.errors import CommandError, ExitCode

F = TypeVar("F", bound=Callable[..., Any])

OUTPUT_FORMATS = ("table", "json", "jsonl", "yaml", "name")
WATCH_DEFAULT_S = 2.0


@dataclass(slots=True)
class Globals:
    """What the global options say."""

    namesrv: str | None = None  # ``host:port`` joined by semicolons, from a flag
    context: str | None = None  # a name of `rocketmq context`
    environment: str = ""  # $NAMESRV_ADDR
    output: str = "table"
    color: bool = False
    verbose: bool = False

    def namesrv_addresses(self) -> list[str]:
        """The name servers to ask. Raises CommandError.

        In this order: ``-n``, ``--context``, $NAMESRV_ADDR, the current context, the one cluster that `up` runs here.
        """
        addresses = self._given()
        if not addresses:
            from rocketmq_tools.embedded.clusters import running_name_servers

            addresses = running_name_servers()
        if not addresses:
            raise CommandError(
                "no name server is known",
                remedy="give -n HOST:PORT, set NAMESRV_ADDR, use a context, or start a cluster with `rocketmq up`",
                exit_code=ExitCode.USAGE,
            )
        return addresses

    def _given(self) -> list[str]:
        from rocketmq_tools.cli import context_file

        given = self.namesrv
        if not given and self.context:
            given = context_file.load().find(self.context)
        if not given:
            given = self.environment or context_file.load().current_address()
        return [a.strip() for a in given.replace(",", ";").split(";") if a.strip()]


def _set_global(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(ctx: click.Context, _parameter: click.Parameter, value: Any) -> Any:
        if value is not None:
            # The environment is weaker than a flag, wherever the flag stands.
            from_environment = name == "namesrv" and ctx.get_parameter_source(name) is ParameterSource.ENVIRONMENT
            setattr(ctx.ensure_object(Globals), "environment" if from_environment else name, value)
        return value

    return callback


def _namesrv_option(*flags: str) -> Callable[[F], F]:
    return click.option(
        *flags,
        metavar="HOST:PORT",
        envvar="NAMESRV_ADDR",
        expose_value=False,
        callback=_set_global("namesrv"),
        help="Name servers, joined by ';' or ','. Default: $NAMESRV_ADDR, the context, or the cluster started by `up`.",
    )


# ``-n/--namesrv ADDRESSES``; without the short flag where ``-n`` is a number of messages (``consume``), as in `head` and rpk.
namesrv_option = _namesrv_option("-n", "--namesrv")
namesrv_long_option = _namesrv_option("--namesrv")


def context_option(function: F) -> F:
    """``--context NAME``."""
    return click.option(
        "--context",
        metavar="NAME",
        envvar="ROCKETMQ_CONTEXT",
        expose_value=False,
        callback=_set_global("context"),
        help="A cluster named with `rocketmq context add`. Default: $ROCKETMQ_CONTEXT, else the current one.",
    )(function)


def watch_option(function: Callable[..., None]) -> Callable[..., None]:
    """``--watch [SECONDS]``: run the command again and again until Ctrl-C; on a terminal each time on a fresh screen."""

    @click.option(
        "--watch",
        "watch_s",
        is_flag=False,
        flag_value=WATCH_DEFAULT_S,
        type=click.FloatRange(min=0.1),
        metavar="[SECONDS]",
        help=f"Show it again each so many seconds ({WATCH_DEFAULT_S:g}) until Ctrl-C.",
    )
    @functools.wraps(function)
    def watching(*arguments: Any, watch_s: float | None, **options: Any) -> None:
        try:
            while True:
                if watch_s is not None and sys.stdout.isatty():
                    click.clear()
                function(*arguments, **options)
                if watch_s is None:
                    return
                time.sleep(watch_s)
        except KeyboardInterrupt:
            if watch_s is None:
                raise

    return watching


def output_option(function: F) -> F:
    """``-o/--output``, one of `OUTPUT_FORMATS`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(OUTPUT_FORMATS),
        expose_value=False,
        callback=_set_global("output"),
        help="How data is printed. Default: table.",
    )(function)
