"""From the tree of an SQL92 filter to one function over the values of its properties.

The function takes the list of values in the order of the expression's names (``None`` where the message has none) and returns
true, false or null (``None``), or raises EvaluationError where Java throws. A property beside a constant, which is nearly all of
what people write, becomes one closure without any test of types; everything else goes through `java_numbers.compare`.
Source: org.apache.rocketmq.filter.expression (5.5.0).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import cast

from rocketmq_broker.filters.java_numbers import (
    Value,
    compare,
    compare_doubles,
    is_integer,
    read_boolean,
    read_double,
    read_double_no_nan,
    read_integer,
    read_long,
)
from rocketmq_broker.filters.nodes import (
    And,
    Comparison,
    ComparisonOperator,
    Constant,
    Membership,
    Negation,
    Node,
    Not,
    Or,
    Property,
    TextOperator,
    TextSearch,
    Truth,
)

Values = Sequence[str | None]
Function = Callable[[Values], Value]
Condition = Callable[[Values], bool | None]
Number = int | float

_ORDERINGS: dict[ComparisonOperator, Callable[[Number, Number], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MIRRORED: dict[ComparisonOperator, ComparisonOperator] = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_SEARCHES: dict[TextOperator, Callable[[str, str], bool]] = {
    "CONTAINS": operator.contains,
    "STARTSWITH": str.startswith,
    "ENDSWITH": str.endswith,
}


def compile_tree(tree: Node, names: Sequence[str]) -> Condition:
    """The function of a condition; ``names`` gives each property its place in the list of values."""
    return cast(Condition, _compile(tree, {name: slot for slot, name in enumerate(names)}))


def _compile(node: Node, slots: dict[str, int]) -> Function:
    match node:
        case Constant(value):
            return lambda values: value
        case Property(name):
            return operator.itemgetter(slots[name])
        case Negation(operand):
            return _negation(operand, slots)
        case Comparison("=", left, right):
            return _equality(left, right, slots)
        case Comparison(operator=symbol, left=left, right=right):
            return _ordering(symbol, left, right, slots)
        case Membership(name, texts, is_negated):
            return _membership(slots[name], texts, is_negated)
        case TextSearch():
            return _search(node, slots)
        case Truth(Property(name)):
            return _truth(slots[name])
        case Not(operand):
            return _not(_condition(operand, slots))
        case And(operands):
            return _and([_condition(operand, slots) for operand in operands])
        case Or(operands):
            return _or([_condition(operand, slots) for operand in operands])


def _condition(node: Node, slots: dict[str, int]) -> Condition:
    # The parser lets only conditions stand where this is called.
    return cast(Condition, _compile(node, slots))


def _negation(operand: Node, slots: dict[str, int]) -> Function:
    inner = _compile(operand, slots)

    def negation(values: Values) -> Value:
        value = inner(values)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return -value
        return None

    return negation


def _fixed(node: Node) -> Value:
    """The value that a node has for every message; ``None`` when there is none, or null."""
    if isinstance(node, Constant):
        return node.value
    if isinstance(node, Negation):
        value = _fixed(node.operand)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return -value
    return None


def _reader(constant: Number) -> Callable[[str], Number]:
    if isinstance(constant, float):
        return read_double_no_nan
    return read_integer if is_integer(constant) else read_long


def _ordering(symbol: ComparisonOperator, left: Node, right: Node, slots: dict[str, int]) -> Condition:
    if isinstance(right, Property) and not isinstance(left, Property):
        fixed = _fixed(left)
        if isinstance(fixed, int | float) and not isinstance(fixed, bool):
            return _property_with_number(_MIRRORED[symbol], slots[right.name], fixed)
    if isinstance(left, Property):
        fixed = _fixed(right)
        if isinstance(fixed, int | float) and not isinstance(fixed, bool):
            return _property_with_number(symbol, slots[left.name], fixed)
    left_function, right_function = _compile(left, slots), _compile(right, slots)
    holds = _ORDERINGS[symbol]

    def ordering(values: Values) -> bool | None:
        first = left_function(values)
        if first is None:
            return None
        second = right_function(values)
        if second is None:
            return None
        if isinstance(first, str) and isinstance(second, str):
            return holds(compare_doubles(read_double(first), read_double(second)), 0)
        return holds(compare(first, second), 0)

    return ordering


def _property_with_number(symbol: ComparisonOperator, slot: int, constant: Number) -> Condition:
    read = _reader(constant)
    holds = _ORDERINGS[symbol]

    def property_with_number(values: Values) -> bool | None:
        text = values[slot]
        return None if text is None else holds(read(text), constant)

    return property_with_number


def _equality(left: Node, right: Node, slots: dict[str, int]) -> Condition:
    if isinstance(left, Property) and isinstance(right, Constant | Negation):
        slot = slots[left.name]
        fixed = _fixed(right)
        if right == Constant(None):
            return lambda values: values[slot] is None
        if isinstance(fixed, str):
            return _property_is_text(slot, fixed)
        if isinstance(fixed, bool):
            return _property_is_boolean(slot, fixed)
        if fixed is not None:
            return _property_with_number("=", slot, fixed)
    left_function, right_function = _compile(left, slots), _compile(right, slots)

    def equality(values: Values) -> bool | None:
        first, second = left_function(values), right_function(values)
        if first is None:
            # Not symmetric: a missing property is unknown on the left and different on the right.
            return True if second is None else None
        if second is None:
            return False
        if isinstance(first, str) and isinstance(second, str):
            return first == second
        return compare(first, second) == 0

    return equality


def _property_is_text(slot: int, wanted: str) -> Condition:
    def property_is_text(values: Values) -> bool | None:
        text = values[slot]
        return None if text is None else text == wanted

    return property_is_text


def _property_is_boolean(slot: int, wanted: bool) -> Condition:
    def property_is_boolean(values: Values) -> bool | None:
        text = values[slot]
        return None if text is None else read_boolean(text) is wanted

    return property_is_boolean


def _membership(slot: int, texts: frozenset[str], is_negated: bool) -> Condition:
    def membership(values: Values) -> bool | None:
        text = values[slot]
        return None if text is None else (text in texts) is not is_negated

    return membership


def _search(node: TextSearch, slots: dict[str, int]) -> Condition:
    search, is_negated = node.search, node.is_negated
    if not search:
        # False in both forms, and what stands on the left is not evaluated.
        return lambda values: False
    found_in = _SEARCHES[node.operator]
    if isinstance(node.operand, Property):
        slot = slots[node.operand.name]

        def property_search(values: Values) -> bool:
            text = values[slot]
            return text is not None and found_in(text, search) is not is_negated

        return property_search
    operand = _compile(node.operand, slots)

    def text_search(values: Values) -> bool:
        value = operand(values)
        return isinstance(value, str) and found_in(value, search) is not is_negated

    return text_search


def _truth(slot: int) -> Condition:
    return lambda values: None if values[slot] is None else False


def _not(operand: Condition) -> Condition:
    def negated(values: Values) -> bool | None:
        value = operand(values)
        return None if value is None else not value

    return negated


def _and(operands: list[Condition]) -> Condition:
    if len(operands) == 2:
        first, second = operands

        def both(values: Values) -> bool | None:
            left = first(values)
            if left is False:
                return False
            right = second(values)
            return left if right is True else right

        return both

    def every(values: Values) -> bool | None:
        result: bool | None = True
        for operand in operands:
            value = operand(values)
            if value is False:
                return False
            if value is None:
                result = None
        return result

    return every


def _or(operands: list[Condition]) -> Condition:
    def some(values: Values) -> bool | None:
        result: bool | None = False
        for operand in operands:
            value = operand(values)
            if value is True:
                return True
            if value is None:
                result = None
        return result

    return some
