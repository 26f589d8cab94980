"""Attributes of topics and groups: ``+key=value`` sets, ``-key`` removes (AttributeParser and AttributeUtil in Java)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class AttributeProblem(ValueError):
    """Attributes that cannot be taken; the message names key and remedy."""


class Attribute(NamedTuple):
    """What may stand behind a key: one of ``values`` (any text when empty), or a number.

    ``refused`` are values that Apache knows and this broker does not support; a fixed attribute cannot change once set.
    """

    values: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    is_number: bool = False
    is_fixed: bool = False


def parse(text: str | None) -> dict[str, str]:
    """``+a=b,-c`` as a map of signed keys; raises AttributeProblem."""
    result: dict[str, str] = {}
    for part in (text or "").split(","):
        part = part.strip()
        if not part:
            continue
        key, separator, value = part.partition("=")
        if key[:1] not in ("+", "-") or len(key) < 2 or (key[0] == "+" and not separator):
            raise AttributeProblem(f"attribute {part!r}: write +key=value or -key")
        if key in result:
            raise AttributeProblem(f"attribute {key[1:]} is given twice")
        result[key] = value
    return result


def altered(
    allowed: Mapping[str, Attribute], current: Mapping[str, str] | None, wanted: Mapping[str, str]
) -> dict[str, str]:
    """``current`` (``None`` for something new) with ``wanted`` applied; a key without sign sets. Raises AttributeProblem."""
    result = dict(current or {})
    for signed, value in wanted.items():
        key = signed[1:] if signed[:1] in ("+", "-") else signed
        attribute = allowed.get(key)
        if attribute is None:
            raise AttributeProblem(f"attribute {key} is unknown: {', '.join(sorted(allowed))} are known")
        if signed.startswith("-"):
            if current is None:
                raise AttributeProblem(f"attribute {key}: nothing is there to remove")
            if attribute.is_fixed and key in result:
                raise AttributeProblem(f"attribute {key} cannot change")
            result.pop(key, None)
            continue
        if value in attribute.refused:
            raise AttributeProblem(f"attribute {key}={value} is not supported by this broker")
        if attribute.values and value not in attribute.values:
            raise AttributeProblem(f"attribute {key}={value}: write one of {', '.join(attribute.values)}")
        if attribute.is_number and not value.lstrip("-").isdecimal():
            raise AttributeProblem(f"attribute {key}={value}: write a whole number")
        if attribute.is_fixed and current is not None and result.get(key, value) != value:
            raise AttributeProblem(f"attribute {key} cannot change")
        result[key] = value
    return result
