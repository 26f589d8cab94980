"""The tree of an SQL92 filter expression, as the parser hands it to the compiler.

``depth`` counts levels below and including a node; the parser bounds it, so that code may recurse over a tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rocketmq_broker.filters.java_numbers import Value

ComparisonOperator = Literal["=", "<", "<=", ">", ">="]
TextOperator = Literal["CONTAINS", "STARTSWITH", "ENDSWITH"]


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal. TRUE, FALSE and NULL count as boolean expressions too."""

    value: Value
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Property:
    """A property of the message, by its name in exact case."""

    name: str
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Negation:
    """Unary minus: null of everything that is no number, and property values are texts, never numbers."""

    operand: Node
    depth: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """``left operator right``; IS NULL is ``= NULL``, which the text itself may not say."""

    operator: ComparisonOperator
    left: Node
    right: Node
    depth: int


@dataclass(frozen=True, slots=True)
class Membership:
    """``property [NOT] IN (texts)``."""

    name: str
    texts: frozenset[str]
    is_negated: bool
    depth: int = 1


@dataclass(frozen=True, slots=True)
class TextSearch:
    """``operand [NOT] CONTAINS|STARTSWITH|ENDSWITH 'search'``."""

    operator: TextOperator
    operand: Node
    search: str
    is_negated: bool
    depth: int


@dataclass(frozen=True, slots=True)
class Truth:
    """A property where a condition is wanted: null when missing, else false, for a text is no Boolean."""

    operand: Property
    depth: int


@dataclass(frozen=True, slots=True)
class Not:
    """``NOT operand``: null stays null."""

    operand: Node
    depth: int


@dataclass(frozen=True, slots=True)
class And:
    """A run of AND, evaluated from the left up to the first false."""

    operands: tuple[Node, ...]
    depth: int


@dataclass(frozen=True, slots=True)
class Or:
    """A run of OR, evaluated from the left up to the first true."""

    operands: tuple[Node, ...]
    depth: int


Node = Constant | Property | Negation | Comparison | Membership | TextSearch | Truth | Not | And | Or
CONDITIONS = (Comparison, Membership, TextSearch, Truth, Not, And, Or)


def is_condition(node: Node) -> bool:
    """Whether the node yields true, false or null by its kind (BooleanExpression of Apache's classes)."""
    if isinstance(node, Constant):
        return node.value is None or isinstance(node.value, bool)
    return isinstance(node, CONDITIONS)
