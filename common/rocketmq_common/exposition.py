"""Prometheus' text format (version 0.0.4), written at two microseconds a line.

A broker with thousands of topics has tens of thousands of series; the general client library takes a second and a half to print
them, on the thread that serves messages. Here a family collects finished lines, and whoever fills it can stop between any two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

COUNTER: Final = "counter"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"

_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def escape(value: str) -> str:
    """A label value as it stands between quotes."""
    return value.translate(_ESCAPES) if '"' in value or "\\" in value or "\n" in value else value


class Family:
    """One metric with its series. A counter's ``name`` ends in ``_total``; ``common`` labels stand on every series."""

    __slots__ = ("_labels", "_lines", "_prefix", "kind", "name")

    def __init__(self, kind: str, name: str, text: str, common: Mapping[str, str], labels: Sequence[str] = ()) -> None:
        self.kind = kind
        self.name = name
        self._labels = labels
        self._prefix = ",".join(f'{label}="{escape(value)}"' for label, value in common.items())
        help_text = text.replace("\\", r"\\").replace("\n", r"\n")
        self._lines = [f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n"]

    def add(self, values: Sequence[str], value: float) -> None:
        """Add the series whose own labels have these values; there must be as many as labels."""
        self._lines.append(f"{self.name}{{{self._joined(values)}}} {_number(value)}\n")

    def add_histogram(
        self, values: Sequence[str], bounds: Sequence[float], counts: Sequence[int], total: float
    ) -> None:
        """Add a histogram: ``counts`` per bucket, one more than ``bounds`` for everything above, and the sum of all values."""
        if len(counts) != len(bounds) + 1:
            raise ValueError(f"{self.name}: {len(counts)} counts for {len(bounds)} bounds")
        name, labels = self.name, self._joined(values)
        start = f"{name}_bucket{{{labels}{',' if labels else ''}le="
        seen = 0
        for bound, count in zip((*map(float, bounds), "+Inf"), counts, strict=True):
            seen += count
            self._lines.append(f'{start}"{bound}"}} {seen}\n')
        self._lines.append(f"{name}_count{{{labels}}} {seen}\n{name}_sum{{{labels}}} {_number(total)}\n")

    def encode(self) -> bytes:
        """The family's part of the page; empty without any series."""
        return "".join(self._lines).encode() if len(self._lines) > 1 else b""

    def _joined(self, values: Sequence[str]) -> str:
        labels = self._labels
        if len(values) != len(labels):
            raise ValueError(f"{self.name}: {len(values)} values for labels {list(labels)}")
        own = ",".join([f'{label}="{escape(value)}"' for label, value in zip(labels, values, strict=True)])
        return f"{self._prefix},{own}" if own and self._prefix else own or self._prefix


def _number(value: float) -> str:
    # Integers stay exact beyond 2**53, which byte counters reach.
    return str(value) if isinstance(value, int) else repr(float(value))
