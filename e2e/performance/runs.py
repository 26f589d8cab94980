"""Runs of the bench: what was measured, by which command, when; kept as JSON so that a page can be made from several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec

from e2e.clusters import Kind


@dataclass(frozen=True, slots=True)
class Result:
    """All rounds of one scenario for one contender."""

    scenario: str
    title: str
    kind: Kind
    rounds: Sequence[dict[str, float]]
    failures: Sequence[str] = ()

    def figure(self, name: str) -> float | None:
        """Median over the rounds; ``None`` where the scenario has no such figure."""
        values = [figures[name] for figures in self.rounds if name in figures]
        return median(values) if values else None


@dataclass(frozen=True, slots=True)
class Run:
    """One call of the bench. ``began`` is UTC, to the minute; ``extent`` says rounds and seconds."""

    command: str
    began: str
    extent: str
    results: Sequence[Result]


def write(run: Run, file: Path) -> None:
    """Keep ``run`` as JSON."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")


def read(file: Path) -> Run:
    """The run in ``file``; raises OSError, msgspec.DecodeError."""
    return msgspec.json.decode(file.read_bytes(), type=Run)


def united(done: Sequence[Run]) -> list[Result]:
    """The results of all runs, in the order of first appearance; of the same scenario and contender the last one's.

    Both contenders of a scenario are always taken from the same run: a ratio over two runs would compare two machines.
    """
    last = {result.scenario: run for run in done for result in run.results}
    order = dict.fromkeys(result.scenario for run in done for result in run.results)
    return [result for scenario in order for result in last[scenario].results if result.scenario == scenario]
