"""From the text of an SQL92 filter to its tree, with the limits that an expression of a stranger must keep.

Grammar, loosest first (keywords in any case)::

    or         = and {OR and}
    and        = equality {AND equality}
    equality   = comparison {("=" | "<>") comparison | IS [NOT] NULL}
    comparison = unary {("<" | "<=" | ">" | ">=") unary | [NOT] (CONTAINS | STARTSWITH | ENDSWITH) text
                        | [NOT] BETWEEN unary AND unary | [NOT] IN "(" text {"," text} ")"}
    unary      = "+" unary | "-" unary | NOT unary | literal | property | "(" or ")"

So ``NOT a = 1`` means ``(NOT a) = 1``. As in Apache's parser the expression ends where no rule goes on, and the rest of the text is
ignored: `Syntax.ignored` tells, for people. What operands an operator takes is checked here too, as Apache does.
Source: SelectorParser.jj and the create methods of org.apache.rocketmq.filter.expression (5.5.0).
"""

from __future__ import annotations

from math import isinf
from typing import NamedTuple, NoReturn, TypeGuard

from rocketmq_broker.filters.errors import ExpressionError, ExpressionLimitError
from rocketmq_broker.filters.java_numbers import LONG_MAX, compare
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
    is_condition,
)
from rocketmq_broker.filters.tokens import DECIMAL, END, FLOAT, NAME, TEXT, Token, Tokens

LENGTH_MAX = 4096
# Levels of parentheses and unary operators in the text, and levels of the tree: both are walked by recursion.
DEPTH_MAX = 32
# Literals and properties; members of IN lists cost nothing at evaluation and are bounded by the length alone.
OPERANDS_MAX = 256
PROPERTIES_MAX = 32

_ORDERINGS: dict[str, ComparisonOperator] = {"<": "<", "<=": "<=", ">": ">", ">=": ">="}
_SEARCHES: dict[str, TextOperator] = {"CONTAINS": "CONTAINS", "STARTSWITH": "STARTSWITH", "ENDSWITH": "ENDSWITH"}
_NULL = Constant(None)
_WORDS = {"TRUE": Constant(True), "FALSE": Constant(False), "NULL": _NULL}


class Syntax(NamedTuple):
    """A parsed expression: ``names`` are its properties in order of appearance, ``ignored`` is text behind its end."""

    tree: Node
    names: tuple[str, ...]
    ignored: str


def parse(text: str) -> Syntax:
    """Read one expression. Raises ExpressionError with what was expected and where."""
    if len(text) > LENGTH_MAX:
        raise ExpressionLimitError(f"the expression has {len(text)} characters, {LENGTH_MAX} are allowed")
    return _Parser(text).parse()


class _Parser:
    """One use. Every method reads one rule; ``at`` is the token where the node that it is about began."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = Tokens(text)
        self._names: dict[str, None] = {}
        self._operands = 0
        self._nesting = 0

    def parse(self) -> Syntax:
        first = self._tokens.next
        tree = self._as_condition(self._or(), first)
        rest = self._tokens.next
        return Syntax(tree, tuple(self._names), "" if rest.kind == END else self._text[rest.position :])

    def _or(self) -> Node:
        at = self._tokens.next
        operands = [self._and()]
        while self._tokens.next.kind == "OR":
            following = self._behind()
            operands[-1] = self._as_condition(operands[-1], at)
            operands.append(self._as_condition(self._and(), following))
        return operands[0] if len(operands) == 1 else Or(tuple(operands), self._above(*operands))

    def _and(self) -> Node:
        at = self._tokens.next
        operands = [self._equality()]
        while self._tokens.next.kind == "AND":
            following = self._behind()
            operands[-1] = self._as_condition(operands[-1], at)
            operands.append(self._as_condition(self._equality(), following))
        return operands[0] if len(operands) == 1 else And(tuple(operands), self._above(*operands))

    def _equality(self) -> Node:
        at = self._tokens.next
        left = self._comparison()
        while True:
            kind = self._tokens.next.kind
            if kind in ("=", "<>"):
                following = self._behind()
                right = self._comparison()
                self._check_equality(left, at, right, following)
                left = Comparison("=", left, right, self._above(left, right))
                if kind == "<>":
                    left = Not(left, self._above(left))
            elif kind == "IS":
                self._tokens.take()
                is_negated = self._take_if("NOT")
                self._expect("NULL", "NULL" if is_negated else "NULL or NOT NULL")
                left = Comparison("=", left, _NULL, self._above(left))
                if is_negated:
                    left = Not(left, self._above(left))
            else:
                return left

    def _comparison(self) -> Node:
        at = self._tokens.next
        left = self._unary()
        while True:
            kind = self._tokens.next.kind
            if kind in _ORDERINGS:
                following = self._behind()
                left = self._ordering(_ORDERINGS[kind], left, at, self._unary(), following)
                continue
            is_negated = self._take_if("NOT")
            kind = self._tokens.next.kind
            if kind in _SEARCHES:
                self._tokens.take()
                left = TextSearch(_SEARCHES[kind], left, self._text_literal(), is_negated, self._above(left))
            elif kind == "BETWEEN":
                left = self._between(left, at, is_negated)
            elif kind == "IN":
                left = self._in(left, at, is_negated)
            elif is_negated:
                self._fail("BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH after NOT")
            else:
                return left

    def _between(self, left: Node, at: Token, is_negated: bool) -> Node:
        low_at = self._behind()
        low = self._unary()
        self._expect("AND", "AND between the two ends of BETWEEN")
        high_at = self._tokens.next
        high = self._unary()
        # Only the plain form is checked for order: Apache lets NOT BETWEEN have its ends in any order.
        if not is_negated and _is_number(low) and _is_number(high) and compare(high.value, low.value) < 0:
            self._refuse(low_at, f"BETWEEN needs its lower end first, {low.value} is above {high.value}")
        first, second = ("<", ">") if is_negated else (">=", "<=")
        operands = (
            self._ordering(_ORDERINGS[first], left, at, low, low_at),
            self._ordering(_ORDERINGS[second], left, at, high, high_at),
        )
        return Or(operands, self._above(*operands)) if is_negated else And(operands, self._above(*operands))

    def _in(self, left: Node, at: Token, is_negated: bool) -> Node:
        self._tokens.take()
        self._expect("(", "( and a list of texts after IN")
        texts = {self._text_literal()}
        while self._take_if(","):
            texts.add(self._text_literal())
        self._expect(")", ", or ) in the list of IN")
        if not isinstance(left, Property):
            self._refuse(at, "IN needs a property on its left")
        return Membership(left.name, frozenset(texts), is_negated)

    def _unary(self) -> Node:
        token = self._tokens.next
        if token.kind == "(":
            self._enter(token)
            self._tokens.take()
            inner = self._or()
            self._expect(")", ")")
        elif token.kind in ("+", "-", "NOT"):
            self._enter(token)
            following = self._behind()
            inner = self._unary()
            if token.kind == "-":
                inner = Negation(inner, self._above(inner))
            elif token.kind == "NOT":
                inner = self._as_condition(inner, following)
                inner = Not(inner, self._above(inner))
        else:
            return self._operand()
        self._nesting -= 1
        return inner

    def _operand(self) -> Node:
        token = self._tokens.next
        if token.kind not in (NAME, TEXT, DECIMAL, FLOAT) and token.kind not in _WORDS:
            self._fail("a property, a literal or (")
        self._operands += 1
        if self._operands > OPERANDS_MAX:
            self._exceed(token, f"the expression has more than {OPERANDS_MAX} operands")
        if token.kind == TEXT:
            return Constant(self._text_literal())
        if token.kind == NAME:
            self._names[token.image] = None
            if len(self._names) > PROPERTIES_MAX:
                self._exceed(token, f"the expression names more than {PROPERTIES_MAX} properties")
        node = self._literal(token)
        self._tokens.take()
        return node

    def _literal(self, token: Token) -> Node:
        if token.kind == NAME:
            return Property(token.image)
        if token.kind == DECIMAL:
            whole = int(token.image.rstrip("lL")) if len(token.image) <= 20 else LONG_MAX + 1
            if whole > LONG_MAX:
                self._refuse(token, f"{token.described()} is above {LONG_MAX}, the largest integer")
            return Constant(whole)
        if token.kind == FLOAT:
            number = float(token.image)
            if isinf(number) or not number:
                # Apache's range check takes zero for too small.
                self._refuse(
                    token, f"{token.described()} is outside the range of a number with a point (write 0 for zero)"
                )
            return Constant(number)
        return _WORDS[token.kind]

    def _text_literal(self) -> str:
        if self._tokens.next.kind != TEXT:
            self._fail("a text in quotes")
        return self._tokens.take().image[1:-1].replace("''", "'")

    def _ordering(self, operator: ComparisonOperator, left: Node, at: Token, right: Node, right_at: Token) -> Node:
        for node, token in ((left, at), (right, right_at)):
            if not _is_number(node) and (isinstance(node, Constant) or is_condition(node)):
                self._refuse(token, f"{operator} compares properties and numbers, here stands {_kind(node)}")
        return Comparison(operator, left, right, self._above(left, right))

    def _check_equality(self, left: Node, at: Token, right: Node, right_at: Token) -> None:
        for node, token in ((left, at), (right, right_at)):
            if node == _NULL:
                self._refuse(token, "NULL cannot be compared: write IS NULL or IS NOT NULL")
        both_literal = isinstance(left, Constant) and isinstance(right, Constant)
        if both_literal and is_condition(left) and not is_condition(right):
            self._refuse(at, "TRUE or FALSE cannot be compared with another literal")

    def _as_condition(self, node: Node, at: Token) -> Node:
        if is_condition(node):
            return node
        if isinstance(node, Property):
            return Truth(node, self._above(node))
        return self._refuse(at, f"a condition is expected, here stands {_kind(node)}")

    def _above(self, *nodes: Node) -> int:
        depth = 1 + max(node.depth for node in nodes)
        if depth > DEPTH_MAX:
            self._exceed(self._tokens.next, f"the expression is nested deeper than {DEPTH_MAX} levels")
        return depth

    def _enter(self, token: Token) -> None:
        self._nesting += 1
        if self._nesting > DEPTH_MAX:
            self._exceed(token, f"the expression is nested deeper than {DEPTH_MAX} levels")

    def _behind(self) -> Token:
        """Take a token and return the one behind it, where the operand begins."""
        self._tokens.take()
        return self._tokens.next

    def _take_if(self, kind: str) -> bool:
        if self._tokens.next.kind != kind:
            return False
        self._tokens.take()
        return True

    def _expect(self, kind: str, wanted: str) -> None:
        if not self._take_if(kind):
            self._fail(wanted)

    def _fail(self, wanted: str) -> NoReturn:
        found = self._tokens.next
        self._refuse(found, f"expected {wanted}, found {found.described()}")

    def _exceed(self, token: Token, reason: str) -> NoReturn:
        raise ExpressionLimitError(f"position {token.position + 1}: {reason}", token.position + 1)

    def _refuse(self, token: Token, reason: str) -> NoReturn:
        raise ExpressionError(f"position {token.position + 1}: {reason}", token.position + 1)


def _is_number(node: Node) -> TypeGuard[Constant]:
    return isinstance(node, Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)


def _kind(node: Node) -> str:
    """For messages: what a node is."""
    if isinstance(node, Constant):
        if node.value is None:
            return "NULL"
        if isinstance(node.value, bool):
            return "TRUE" if node.value else "FALSE"
        return "a text" if isinstance(node.value, str) else "a number"
    if isinstance(node, Negation):
        return "a negated value"
    return "a condition" if is_condition(node) else "a property"
