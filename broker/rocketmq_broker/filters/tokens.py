"""Words of an SQL92 filter expression.

Tokens are read one at a time, because Apache's parser stops after the first complete expression and never looks at what follows
behind the next token. Where two kinds of token fit, the longer wins: ``5.`` is a number with a point, ``--`` up to a line end is
a comment, but without a line end two minus signs. Source: SelectorParser.jj of org.apache.rocketmq.filter (5.5.0).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rocketmq_broker.filters.errors import ExpressionError

FOUND_SIZE_MAX = 24

# In any case; each is a kind of its own.
KEYWORDS = frozenset(
    ("NOT", "AND", "OR", "BETWEEN", "IN", "TRUE", "FALSE", "NULL", "IS", "CONTAINS", "STARTSWITH", "ENDSWITH")
)
DECIMAL = "DECIMAL"
FLOAT = "FLOAT"
TEXT = "TEXT"
NAME = "NAME"
END = "END"

_SKIPPED = re.compile(r"(?:[ \t\n\r\f]++|--[^\n\r]*+[\n\r]|/\*[^*]*+\*(?:\*|[^*/][^*]*+\*)*+/)*+")
_TOKEN = re.compile(
    r"(?P<FLOAT>[0-9]++\.[0-9]*+(?:[eE][+-]?[0-9]++)?|\.[0-9]++(?:[eE][+-]?[0-9]++)?|[0-9]++[eE][+-]?[0-9]++)"
    r"|(?P<DECIMAL>0|[1-9][0-9]*+[lL]?)"
    r"|(?P<TEXT>'(?:''|[^'])*+')"
    r"|(?P<NAME>[A-Za-z_$][A-Za-z0-9_$]*+)"
    r"|(?P<OPERATOR><>|<=|>=|[<>=(),+-])"
)
# A quote may stand at the end of a text or begin the escape of one: when the escape leaves the text open, it was the end. That is
# an error inside an expression, but not in the one token behind it, which decides where the expression ends.
_TEXT_ENDED = re.compile(r"'(?:''|[^'])*'")


class Token(NamedTuple):
    """``kind`` is a keyword, an operator or one of the constants above; ``position`` counts characters from 0."""

    kind: str
    image: str
    position: int

    def described(self) -> str:
        """For messages: what stands in the text."""
        if self.kind == END:
            return "the end"
        return self.image if len(self.image) <= FOUND_SIZE_MAX else self.image[: FOUND_SIZE_MAX - 1] + "…"


class Tokens:
    """The tokens of ``text``, with one token of look-ahead in ``next``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._end = 0
        self.next = self._read()

    def take(self) -> Token:
        """Return the next token and read the one behind it; raises ExpressionError for characters that start none."""
        token = self.next
        self.next = self._read()
        return token

    def _read(self) -> Token:
        skipped = _SKIPPED.match(self.text, self._end)
        start = skipped.end() if skipped is not None else self._end
        if start == len(self.text):
            self._end = start
            return Token(END, "", start)
        match = _TOKEN.match(self.text, start) or _TEXT_ENDED.match(self.text, start)
        if match is None:
            raise ExpressionError(self._complaint(start), start + 1)
        self._end = match.end()
        image = match.group()
        kind = match.lastgroup or TEXT
        if kind == NAME:
            keyword = image.upper()
            kind = keyword if keyword in KEYWORDS else NAME
        elif kind == "OPERATOR":
            kind = image
        return Token(kind, image, start)

    def _complaint(self, start: int) -> str:
        if self.text[start] == "'":
            return f"position {start + 1}: the text that begins here has no closing quote"
        if self.text.startswith("/*", start):
            return f"position {start + 1}: the comment that begins here has no */"
        return f"position {start + 1}: unexpected character {self.text[start]!r}"
