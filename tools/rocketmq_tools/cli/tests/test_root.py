"""The command line starts fast, finds its commands, and turns failures into one message and an exit code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import msgspec
import pytest
import yaml

from rocketmq_client import errors as client_errors
from rocketmq_tools.cli import main
from rocketmq_tools.cli.options import Globals
from rocketmq_tools.cli.output import table
from rocketmq_tools.cli.roles import role_of
from rocketmq_tools.cli.root import COMMANDS, as_command_error
from rocketmq_tools.errors import CommandError, ExitCode

OWN = ("up", "down", "ps", "logs", "namesrv", "completion", "version")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROCKETMQ_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NAMESRV_ADDR", raising=False)


def test_help_names_every_command_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert re.search(rf"^  {name}  ", text, re.MULTILINE)


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from rocketmq_tools.cli import main; main(['--help'])\n"
        "heavy = {'asyncio', 'msgspec', 'yaml', 'rich', 'aiohttp', 'psutil', 'rocketmq_operator', 'rocketmq_client'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("name", OWN)
def test_every_command_of_ours_has_help_that_matches_its_summary_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "namesrv":  # the role's own parser answers
        assert main([name, "--help"]) == 0
        return
    assert main([name, "--help"]) == 0
    assert "Usage: rocketmq " + name in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "role"),
    [
        ([], None),
        (["broker"], "broker"),
        (["broker", "-c", "x"], "broker"),
        (["broker", "ls"], None),
        (["broker", "status", "-n", "x"], None),
        (["namesrv"], "namesrv"),
        (["namesrv", "-c", "x"], "namesrv"),
        (["namesrv", "kv", "ls", "x"], None),
        (["topic", "ls"], None),
    ],
)
def test_broker_is_a_role_or_a_noun_by_what_follows(words: list[str], role: str | None) -> None:
    assert role_of(words) == role


def test_the_role_runs_without_the_command_lines_libraries() -> None:
    script = (
        "import sys; from rocketmq_tools.cli import main\n"
        "code = main(['namesrv', '-c', '/nonexistent/namesrv.conf'])\n"
        "print(code, 'click' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] != "0"
    assert done.stdout.split()[1] == "False"


def test_a_mistyped_command_is_a_usage_error_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topik"]) == ExitCode.USAGE
    assert "Did you mean 'topic'?" in capsys.readouterr().err


def test_an_unknown_option_is_a_usage_error() -> None:
    assert main(["version", "--nope"]) == ExitCode.USAGE


def test_version_is_printed_as_table_json_and_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "-o", "json"]) == 0
    as_json = msgspec.json.decode(capsys.readouterr().out)
    assert main(["-o", "yaml", "version"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == as_json
    assert main(["version"]) == 0
    assert as_json["version"] in capsys.readouterr().out


def test_an_option_after_the_command_wins_over_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-o", "yaml", "version", "-o", "json"]) == 0
    assert capsys.readouterr().out.startswith("{")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "_ROCKETMQ_COMPLETE" in capsys.readouterr().out


def test_completion_offers_the_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_ROCKETMQ_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "rocketmq to")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert main([]) == 0
    assert "topic" in capsys.readouterr().out


class RemotingTimeout(Exception):
    """Looks like the remoting layer's."""


class RemotingError(Exception):
    code = 17


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandError("x", exit_code=ExitCode.UNHEALTHY), ExitCode.UNHEALTHY),
        (ConnectionRefusedError(111, "refused"), ExitCode.UNREACHABLE),
        (RemotingTimeout("late"), ExitCode.TIMEOUT),
        (TimeoutError(), ExitCode.TIMEOUT),
        (RemotingError("no topic"), ExitCode.NOT_FOUND),
        (client_errors.TopicNotFound(17, "no topic"), ExitCode.NOT_FOUND),
        (client_errors.NameServerUnavailable("gone"), ExitCode.UNREACHABLE),
        (client_errors.RequestTimeout("late"), ExitCode.TIMEOUT),
        (client_errors.InvalidArgument("bad"), ExitCode.USAGE),
        (PermissionError(13, "Permission denied", "/x"), ExitCode.FAILED),
        (KeyError("bug"), ExitCode.FAILED),
    ],
)
def test_every_failure_has_its_exit_code(error: Exception, code: ExitCode) -> None:
    assert as_command_error(error).exit_code == code


def test_a_failure_says_what_why_and_what_to_try(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import rocketmq_tools.cli.version as version_module

    @click.command()
    def failing() -> None:
        raise CommandError("it broke", why="it was old", remedy="a new one", exit_code=ExitCode.UNREACHABLE)

    monkeypatch.setattr(version_module, "command", failing)
    assert main(["version"]) == ExitCode.UNREACHABLE
    captured = capsys.readouterr()
    assert captured.err == "Error: it broke\n  why: it was old\n  try: a new one\n"
    assert captured.out == ""


def test_a_bug_is_one_line_and_a_trace_with_v(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import rocketmq_tools.cli.version as version_module

    @click.command()
    def failing() -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(version_module, "command", failing)
    assert main(["version"]) == ExitCode.FAILED
    assert "Traceback" not in capsys.readouterr().err
    assert main(["-v", "version"]) == ExitCode.FAILED
    assert "Traceback" in capsys.readouterr().err


def test_name_servers_come_from_flag_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Globals(namesrv="a:1; b:2,c:3").namesrv_addresses() == ["a:1", "b:2", "c:3"]
    with pytest.raises(CommandError, match="no name server is known"):
        Globals().namesrv_addresses()


def test_a_table_aligns_numbers_right_and_shows_missing_values() -> None:
    assert table(["NAME", "N", "OK"], [["a", 5, True], ["bcd", 12, None]]) == "NAME   N  OK\na      5  yes\nbcd   12  -"
    assert table(["NAME"], []) == "NAME"
