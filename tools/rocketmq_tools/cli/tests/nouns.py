"""Running the command against a fake cluster and looking at what it prints."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from rocketmq_tools.cli import main


@dataclass(frozen=True, slots=True)
class Printed:
    """What one run of the command did."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Standard output as JSON."""
        return msgspec.json.decode(self.out)

    @property
    def lines(self) -> list[str]:
        """Standard output line by line."""
        return self.out.splitlines()


class Command:
    """``rocketmq`` with the environment of one test."""

    def __init__(self, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capture = capsysbinary
        self._monkeypatch = monkeypatch

    def __call__(self, *words: str, stdin: str = "") -> Printed:
        """Run it with ``words``."""
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        self._capture.readouterr()
        code = main(list(words))
        sys.stdout.flush()
        captured = self._capture.readouterr()
        return Printed(code, captured.out.decode(), captured.err.decode())
