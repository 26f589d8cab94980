"""The root of the command: global options, lazily loaded sub-commands, and the one place where failures become messages.

A sub-command is a row of `COMMANDS`; its module is imported when it runs, when its help is asked for or when its arguments are
completed, and never for the list of commands. Every sub-command module exports ``command``.
"""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from rocketmq_tools.cli.options import Globals, context_option, namesrv_option, output_option
from rocketmq_tools.cli.roles import role_of, run_role
from rocketmq_tools.errors import CommandError, ExitCode

INTERRUPTED = 130


class Row(NamedTuple):
    """Where a sub-command is, and its line in the list of commands."""

    target: str
    section: str
    summary: str


COMMANDS: dict[str, Row] = {
    "up": Row("rocketmq_tools.cli.up:command", "Run", "Run a RocketMQCluster document as processes on this machine."),
    "down": Row(
        "rocketmq_tools.cli.down:command", "Run", "Stop a cluster that `up` started; --purge also removes its data."
    ),
    "ps": Row("rocketmq_tools.cli.ps:command", "Run", "Show the processes of a cluster that `up` started."),
    "logs": Row("rocketmq_tools.cli.logs:command", "Run", "Show what the processes of a cluster wrote."),
    "namesrv": Row(
        "rocketmq_tools.cli.namesrv:command",
        "Run",
        "Run one name server: -c FILE; or show and configure them: ls, config, kv.",
    ),
    "operator": Row(
        "rocketmq_tools.cli.operator:command", "Run", "Run the operator of RocketMQClusters in Kubernetes."
    ),
    "produce": Row("rocketmq_tools.cli.produce:command", "Data", "Send messages to a topic."),
    "consume": Row("rocketmq_tools.cli.consume:command", "Data", "Receive messages of a topic."),
    "bench": Row("rocketmq_tools.cli.bench:command", "Data", "Measure sending and receiving."),
    "topic": Row("rocketmq_tools.cli.topic:command", "Manage", "List, create, change, delete and describe topics."),
    "group": Row(
        "rocketmq_tools.cli.group:command", "Manage", "List, create, change, delete and describe consumer groups."
    ),
    "dlq": Row("rocketmq_tools.cli.dlq:command", "Manage", "List, show, send again and export dead letters."),
    "delayed": Row("rocketmq_tools.cli.delayed:command", "Manage", "Show and take back delayed messages."),
    "top": Row("rocketmq_tools.cli.top:command", "Manage", "Show what goes in and out by topic and group."),
    "export": Row(
        "rocketmq_tools.cli.export:command", "Manage", "Write topics, groups and broker configuration as one document."
    ),
    "apply": Row("rocketmq_tools.cli.apply:command", "Manage", "Create and change the topics and groups of a file."),
    "message": Row("rocketmq_tools.cli.message:command", "Manage", "Get and find stored messages."),
    "cluster": Row("rocketmq_tools.cli.cluster:command", "Manage", "Show clusters and their health."),
    "broker": Row(
        "rocketmq_tools.cli.broker:command", "Manage", "List and configure brokers; with -c FILE run one broker."
    ),
    "kube": Row(
        "rocketmq_tools.cli.kube:command",
        "Manage",
        "Show RocketMQClusters in Kubernetes; switch masters, drain groups.",
    ),
    "context": Row("rocketmq_tools.cli.context:command", "Other", "Remember clusters by name and choose one."),
    "chaos": Row("rocketmq_tools.cli.chaos:command", "Run", "Do harm to a cluster on this machine: kill its master."),
    "store": Row("rocketmq_tools.cli.store:command", "Manage", "Verify, dump and describe a broker's store directory."),
    "completion": Row("rocketmq_tools.cli.completion:command", "Other", "Print the completion script of a shell."),
    "version": Row("rocketmq_tools.cli.version:command", "Other", "Print the version."),
}


class KnownFailure(NamedTuple):
    """What a user is told about a class of exceptions."""

    exit_code: ExitCode
    why: str = ""
    remedy: str = ""


_CHECK_ADDRESS = "check that the cluster runs (rocketmq ps) and the address given with -n or NAMESRV_ADDR"
_UNREACHABLE = KnownFailure(ExitCode.UNREACHABLE, "nothing answers there, or the connection broke", _CHECK_ADDRESS)

# Names of exception classes, of the client and of what is below it.
FAILURES = {
    "Unreachable": KnownFailure(ExitCode.UNREACHABLE, remedy=_CHECK_ADDRESS),
    "RemotingConnectError": _UNREACHABLE,
    "ConnectionError": _UNREACHABLE,
    "TimeoutError": KnownFailure(ExitCode.TIMEOUT, remedy="try again, or look at the broker's log"),
    "RemotingTimeout": KnownFailure(ExitCode.TIMEOUT, remedy="try again, or look at the broker's log"),
    "NotFound": KnownFailure(ExitCode.NOT_FOUND),
    "PermissionDenied": KnownFailure(ExitCode.NOT_AUTHORISED),
    "InvalidArgument": KnownFailure(ExitCode.USAGE),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        module, _, attribute = row.target.partition(":")
        try:
            loaded: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise CommandError(
                f"rocketmq {cmd_name} is not part of this installation", why=f"there is no module {module}"
            ) from error
        return loaded

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Let ``broker`` be a role or a noun by what follows it; suggest a name for a mistyped one."""
        role = role_of(args)
        if role is not None:
            return role, _role_command(role), args[1:]
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if close and error.message.startswith("No such command"):
                raise click.UsageError(f"{error.message} Did you mean {close[0]!r}?", ctx) from error
            raise

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Command names from the table alone: a shell waits for this at every press of the tab key."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(n, help=row.summary) for n, row in COMMANDS.items() if n.startswith(incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands by section, from the table alone."""
        for section in dict.fromkeys(row.section for row in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl([(n, row.summary) for n, row in COMMANDS.items() if row.section == section])


def _role_command(role: str) -> click.Command:
    # click would keep --help and unknown flags for itself; the role has its own parser.
    return click.Command(
        role,
        callback=lambda arguments: sys.exit(run_role(role, arguments)),
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        context_settings={"ignore_unknown_options": True, "help_option_names": []},
    )


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 not authorised, 5 unreachable, 6 timeout, 7 unhealthy.",
)
@namesrv_option
@context_option
@output_option
@click.option("--no-color", is_flag=True, envvar="NO_COLOR", help="No colours, whatever the terminal can do.")
@click.option("-v", "--verbose", is_flag=True, help="Show the trace of an unexpected failure.")
@click.pass_context
def command(ctx: click.Context, no_color: bool, verbose: bool) -> None:
    """RocketMQ on this machine and on Kubernetes.

    Data goes to standard output, progress and messages to standard error.
    """
    settings = ctx.ensure_object(Globals)
    settings.color = settings.color and not no_color
    settings.verbose = verbose
    if no_color:
        ctx.color = False


def run(words: Sequence[str]) -> int:
    """Run the command line and turn whatever goes wrong into one message and an exit code."""
    settings = Globals(color=sys.stdout.isatty())
    try:
        result = command.main(list(words), prog_name="rocketmq", standalone_mode=False, obj=settings)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE if isinstance(error, click.UsageError) else error.exit_code
    except BrokenPipeError:
        # The reader (head, less) is gone, which is no failure; keep Python from complaining when it flushes at exit.
        sys.stdout = None
        return ExitCode.OK
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else ExitCode.FAILED
    except Exception as error:  # noqa: BLE001 - the last place: everything becomes a message and an exit code here
        if settings.verbose:
            traceback.print_exc()
        return report(as_command_error(error), settings)
    return result if isinstance(result, int) and not isinstance(result, bool) else ExitCode.OK


def as_command_error(error: Exception) -> CommandError:
    """What a user is told about any exception."""
    if isinstance(error, CommandError):
        return error
    # By name: importing the client only to tell its errors apart would cost every command its start-up time.
    kinds = [cls.__name__ for cls in type(error).__mro__]
    # The client's errors carry the hint apart from the message, and inside str().
    text = getattr(error, "what", "") or _first_line(error) or kinds[0]
    hint = str(getattr(error, "hint", "") or "")
    for kind in kinds:
        if kind in FAILURES:
            failure = FAILURES[kind]
            return CommandError(text, why=failure.why, remedy=hint or failure.remedy, exit_code=failure.exit_code)
    if "RemotingError" in kinds or "RequestRefused" in kinds:
        return CommandError(text, remedy=hint, exit_code=_response_exit_code(getattr(error, "code", None)))
    if "ClientError" in kinds:
        return CommandError(text, remedy=hint)
    if isinstance(error, OSError) and error.filename is not None:
        return CommandError(f"{error.filename}: {error.strerror}")
    return CommandError(f"{kinds[0]}: {text}", remedy="run it again with -v before the command to see the trace")


def report(error: CommandError, settings: Globals) -> int:
    """Print a failure on standard error and return its exit code."""
    lines = [f"Error: {error.what}"]
    if error.why:
        lines.append(f"  why: {error.why}")
    if error.remedy:
        lines.append(f"  try: {error.remedy}")
    if settings.color and sys.stderr.isatty():
        lines[0] = click.style("Error:", fg="red", bold=True) + lines[0].removeprefix("Error:")
    if error.details:
        lines.append(error.details.rstrip("\n"))
    click.echo("\n".join(lines), err=True)
    return error.exit_code


def _first_line(error: Exception) -> str:
    lines: list[Any] = str(error).splitlines()
    return str(lines[0]) if lines else ""


def _response_exit_code(code: int | None) -> ExitCode:
    # Response codes of the remoting protocol: TOPIC_NOT_EXIST, QUERY_NOT_FOUND, SUBSCRIPTION_GROUP_NOT_EXIST; NO_PERMISSION.
    if code in (17, 22, 26):
        return ExitCode.NOT_FOUND
    return ExitCode.NOT_AUTHORISED if code == 16 else ExitCode.FAILED
