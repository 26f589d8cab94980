"""``rocketmq context``: clusters by name."""

from __future__ import annotations

import click

from rocketmq_tools.cli import context_file
from rocketmq_tools.cli.options import Globals, output_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import note


@click.group()
def command() -> None:
    """Remember clusters by name and choose the one that commands talk to."""


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    del ctx, param
    return [name for name in sorted(context_file.load().addresses) if name.startswith(incomplete)]


@command.command("add", epilog="\b\nExample:\n  rocketmq context add prod 'ns-1:9876;ns-2:9876' --use")
@click.argument("name")
@click.argument("namesrv", metavar="HOST:PORT[;HOST:PORT...]")
@click.option("--use", is_flag=True, help="Make it the current one.")
def add(name: str, namesrv: str, use: bool) -> None:
    """Remember the name servers of a cluster as NAME, or change them."""
    from rocketmq_client.name_servers import parse_addresses

    contexts = context_file.load()
    contexts.addresses[name] = ";".join(parse_addresses(namesrv.replace(",", ";")))
    if use:
        contexts.current = name
    contexts.save()
    note(f"{name} is {contexts.addresses[name]}{', now in use' if use else ''}")


@command.command("use", epilog="\b\nExample:\n  rocketmq context use prod")
@click.argument("name", shell_complete=_complete)
def use_context(name: str) -> None:
    """Let commands talk to NAME unless they are told otherwise."""
    contexts = context_file.load()
    contexts.find(name)
    contexts.current = name
    contexts.save()
    note(f"commands now talk to {name}, {contexts.current_address()}")


@command.command("ls", epilog="\b\nExample:\n  rocketmq context ls")
@output_option
@click.pass_obj
def list_contexts(settings: Globals) -> None:
    """List contexts."""
    contexts = context_file.load()
    data = [
        {"name": name, "namesrv": address, "current": name == contexts.current}
        for name, address in sorted(contexts.addresses.items())
    ]
    show(settings, data, ("NAME", "NAME SERVERS", "CURRENT"), [list(row.values()) for row in data])


@command.command("show", epilog="\b\nExample:\n  rocketmq context show")
@output_option
@click.pass_obj
def show_context(settings: Globals) -> None:
    """Show which name servers a command would ask now, and why."""
    contexts = context_file.load()
    if settings.namesrv:
        why = "-n"
    elif settings.context:
        why = f"context {settings.context}"
    elif settings.environment:
        why = "$NAMESRV_ADDR"
    else:
        why = f"context {contexts.current}" if contexts.current_address() else "the cluster that `up` runs here"
    data = {"namesrv": ";".join(settings.namesrv_addresses()), "because_of": why}
    show(settings, data, ("NAME SERVERS", "BECAUSE OF"), [list(data.values())])


@command.command("rm", epilog="\b\nExample:\n  rocketmq context rm prod")
@click.argument("name", shell_complete=_complete)
def remove(name: str) -> None:
    """Forget NAME."""
    contexts = context_file.load()
    contexts.find(name)
    del contexts.addresses[name]
    if contexts.current == name:
        contexts.current = ""
    contexts.save()
    note(f"{name} is forgotten")
