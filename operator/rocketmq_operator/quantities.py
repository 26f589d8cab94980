"""Kubernetes quantities: ``100Gi``, ``250m``, ``1e3``."""

from __future__ import annotations

import re
from decimal import Decimal

_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[+-]?[0-9]{1,3}))?"
)
_SUFFIXES: dict[str | None, Decimal] = {
    None: Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{letter: Decimal(1000) ** (power + 1) for power, letter in enumerate("kMGTPE")},
    **{letter + "i": Decimal(1024) ** (power + 1) for power, letter in enumerate("KMGTPE")},
}


def parse_quantity(text: str | int) -> Decimal:
    """The number that a quantity stands for (bytes, cores); raises ValueError with the words of Kubernetes."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        )
    number: Decimal = Decimal(match["number"])
    if match["exponent"] is not None:
        return number.scaleb(int(match["exponent"]))
    scale: Decimal = _SUFFIXES[match["suffix"]]
    return number * scale
