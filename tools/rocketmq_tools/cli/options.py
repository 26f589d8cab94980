"""Options that every command shares, and what they set.

``-n`` and ``-o`` are accepted before and after the sub-command; the later one wins. A command reads them from
``click.Context.obj``, which is a `Globals` (``@click.pass_obj``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from rocketmq_tools.errors import CommandError, ExitCode

F = TypeVar("F", bound=Callable[..., Any])

OUTPUT_FORMATS = ("table", "json", "yaml")


@dataclass(slots=True)
class Globals:
    """What the global options say."""

    namesrv: str | None = None  # ``host:port`` joined by semicolons
    output: str = "table"
    color: bool = False
    verbose: bool = False

    def namesrv_addresses(self) -> list[str]:
        """The name servers to ask: those given, else those of the one cluster that `up` runs here. Raises CommandError."""
        addresses = [a.strip() for a in (self.namesrv or "").replace(",", ";").split(";") if a.strip()]
        if not addresses:
            from rocketmq_tools.embedded.clusters import running_name_servers

            addresses = running_name_servers()
        if not addresses:
            raise CommandError(
                "no name server is known",
                remedy="give -n HOST:PORT, set NAMESRV_ADDR, or start a cluster with `rocketmq up`",
                exit_code=ExitCode.USAGE,
            )
        return addresses


def _set_global(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(ctx: click.Context, _parameter: click.Parameter, value: Any) -> Any:
        settings = ctx.ensure_object(Globals)
        # The environment is weaker than a flag, wherever the flag stands.
        from_environment = ctx.get_parameter_source(name) is ParameterSource.ENVIRONMENT
        if value is not None and not (from_environment and getattr(settings, name) is not None):
            setattr(settings, name, value)
        return value

    return callback


def _namesrv_option(*flags: str) -> Callable[[F], F]:
    return click.option(
        *flags,
        metavar="HOST:PORT",
        envvar="NAMESRV_ADDR",
        expose_value=False,
        callback=_set_global("namesrv"),
        help="Name servers, joined by ';' or ','. Default: $NAMESRV_ADDR, else the cluster started by `up`.",
    )


# ``-n/--namesrv ADDRESSES``; without the short flag where ``-n`` is a number of messages (``consume``), as in `head` and rpk.
namesrv_option = _namesrv_option("-n", "--namesrv")
namesrv_long_option = _namesrv_option("--namesrv")


def output_option(function: F) -> F:
    """``-o/--output table|json|yaml``."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(OUTPUT_FORMATS),
        expose_value=False,
        callback=_set_global("output"),
        help="How data is printed. Default: table.",
    )(function)
