"""What an experiment comes to, and the table of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

COLUMNS = ("experiment", "runs", "lost", "phantoms", "errors", "seconds")
PROBLEMS_SHOWN_MAX = 20


@dataclass
class Outcome:
    """``lost``, ``phantoms`` and ``errors`` hold a line per violation; ``skipped`` says why nothing was tried."""

    runs: int = 0
    lost: list[str] = field(default_factory=list)
    phantoms: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: str = ""
    seconds: float = 0.0

    @property
    def problems(self) -> list[str]:
        return self.lost + self.phantoms + self.errors


class Scale(NamedTuple):
    """How much is tried: the short form is for every change, the long one on demand."""

    is_long: bool
    seed: int

    def of(self, short: int, long: int) -> int:
        """The number for this form."""
        return long if self.is_long else short


# Works in an empty directory of its own.
Experiment = Callable[[Path, Scale], Outcome]


def table(outcomes: Iterable[tuple[str, Outcome]]) -> str:
    """One line an experiment, columns aligned."""
    rows = [COLUMNS]
    for name, outcome in outcomes:
        if outcome.skipped:
            rows.append((name, "-", "-", "-", "-", f"skipped: {outcome.skipped}"))
            continue
        counts = (outcome.runs, len(outcome.lost), len(outcome.phantoms), len(outcome.errors))
        rows.append((name, *map(str, counts), f"{outcome.seconds:.1f}"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS) - 1)]
    lines = []
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:], strict=True)),
        ]
        lines.append("  ".join([*cells, row[-1]]))
    return "\n".join(lines)
