"""Failures that a user of the command line sees: what, why, what to try, and the exit code."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_AUTHORISED = 4
    UNREACHABLE = 5
    TIMEOUT = 6
    UNHEALTHY = 7


class CommandError(Exception):
    """A command cannot do what it was asked.

    ``what`` is one line; ``why`` and ``remedy`` are one line each or empty. Raised anywhere below a command and printed in one
    place, `rocketmq_tools.cli.root`.
    """

    def __init__(
        self, what: str, *, why: str = "", remedy: str = "", exit_code: ExitCode = ExitCode.FAILED, details: str = ""
    ) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.remedy = remedy
        self.exit_code = exit_code
        self.details = details  # several lines shown after the three, for example the end of a log
