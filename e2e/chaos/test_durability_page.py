"""docs/durability.md names only what there is."""

from __future__ import annotations

import re
from pathlib import Path

from e2e.chaos.__main__ import EXPERIMENTS

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "durability.md").read_text()
SOURCES = ("common", "client", "namesrv", "broker", "operator", "tools", "e2e")


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    defined = {
        name
        for source in SOURCES
        for path in (REPOSITORY / source).rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text())
    }
    assert named - defined == set()
    assert len(named) > 40


def test_every_experiment_is_described() -> None:
    text = PAGE.replace("`, `-sync`", "`, `crash-states-sync`, `power-cut-sync`")
    assert {name for name in EXPERIMENTS if f"`{name}`" not in text} == set()


def test_every_design_rule_has_its_row() -> None:
    assert [int(n) for n in re.findall(r"^\| E(\d+) \|", PAGE, re.M)] == list(range(1, 36))
