"""``rocketmq completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from rocketmq_tools.errors import CommandError

SHELLS = ("bash", "zsh", "fish")
INSTALL = {
    "bash": 'eval "$(rocketmq completion bash)"  in ~/.bashrc',
    "zsh": 'eval "$(rocketmq completion zsh)"  in ~/.zshrc',
    "fish": "rocketmq completion fish | source  in ~/.config/fish/config.fish",
}


@click.command(epilog="\b\n" + "\n".join(INSTALL.values()))
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL; put the line below into the shell's start file."""
    completion_class = get_completion_class(shell)
    if completion_class is None:
        raise CommandError(f"no completion for {shell}")
    root = ctx.find_root().command
    script = completion_class(root, {}, "rocketmq", "_ROCKETMQ_COMPLETE")
    # source() of bash would run bash to check its version; the script is the same either way.
    click.echo(script.source_template % script.source_vars())
