"""Quantities mean what they mean in Kubernetes."""

from __future__ import annotations

from decimal import Decimal

import pytest

from rocketmq_operator.quantities import parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", "1"),
        (5, "5"),
        ("1Ki", "1024"),
        ("1.5Gi", "1610612736"),
        ("100Gi", "107374182400"),
        ("1G", "1000000000"),
        ("1k", "1000"),
        ("250m", "0.25"),
        ("1e3", "1000"),
        ("2E3", "2000"),
        ("1E", "1000000000000000000"),
        ("1Ei", "1152921504606846976"),
        (".5", "0.5"),
        ("-1", "-1"),
        ("3n", "0.000000003"),
    ],
)
def test_quantity_has_its_value(text: str | int, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "1GB", "Gi", "1 Gi", "one", "1e", "1K", "0x10", "1Gi\n"])
def test_text_that_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantities must match"):
        parse_quantity(text)
