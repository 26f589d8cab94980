"""Printing data: JSON, YAML, or a table that stays plain text when nobody looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from rocketmq_tools.cli.options import Globals


def show(settings: Globals, data: Any, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print ``data`` as JSON, JSON lines or YAML, or ``rows`` under ``columns``, or their first cells, as the user asked.

    ``data`` is plain dicts and lists.
    """
    if settings.output == "json":
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(data), indent=2).decode())
    elif settings.output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)
    elif settings.output == "jsonl":
        import msgspec

        for item in data if isinstance(data, list) else [data]:
            click.echo(msgspec.json.encode(item).decode())
    elif settings.output == "name":
        for row in rows:
            click.echo(_text(row[0]))
    else:
        click.echo(table(columns, rows, bold=settings.color))


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, bold: bool = False) -> str:
    """Columns under their names, padded to the widest cell; numbers to the right."""
    cells = [[_text(value) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[i]) for row in cells)]) for i, name in enumerate(columns)]
    numeric = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(columns))]

    def line(values: Sequence[str]) -> str:
        padded = (v.rjust(w) if n else v.ljust(w) for v, w, n in zip(values, widths, numeric, strict=True))
        return "  ".join(padded).rstrip()

    head = line(columns)
    return "\n".join([click.style(head, bold=True) if bold else head, *(line(row) for row in cells)])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
