"""SQL92 filter expressions: read once, then evaluated once per message, three-valued as in SQL.

``compile_expression`` keeps what it read last, failures too: consumers repeat their subscription in every heartbeat, and a
wrong one in every retry.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping

from rocketmq_broker.filters.compiling import Condition, Values, compile_tree
from rocketmq_broker.filters.errors import EvaluationError, ExpressionError
from rocketmq_broker.filters.parsing import LENGTH_MAX, parse

logger = logging.getLogger(__name__)

# As many as Apache keeps.
CACHE_ENTRIES_MAX = 100


class Expression:
    """A compiled expression, shared by all subscriptions with the same text. Only ``error_count`` changes."""

    __slots__ = ("error_count", "evaluate_values", "ignored", "names", "text")

    def __init__(self, text: str) -> None:
        syntax = parse(text)
        self.text = text
        self.names = syntax.names
        """Properties that the expression names, each once."""
        self.ignored = syntax.ignored
        """Text behind the end of the expression, which Apache's parser and so this one overlooks; normally empty."""
        self.evaluate_values: Condition = compile_tree(syntax.tree, syntax.names)
        """`evaluate` over the values of `names`, in that order."""
        self.error_count = 0
        """Messages that could not be compared as the expression asks, and so were no match."""

    def evaluate(self, properties: Mapping[str, str]) -> bool | None:
        """True, false, or ``None`` for unknown. Raises EvaluationError when a property cannot be compared as asked."""
        return self.evaluate_values(list(map(properties.get, self.names)))

    def matches(self, properties: Mapping[str, str]) -> bool:
        """Whether the message is wanted: unknown and errors count as no."""
        return self.matches_values(list(map(properties.get, self.names)))

    def matches_values(self, values: Values) -> bool:
        """`matches` over the values of `names`, in that order."""
        try:
            return self.evaluate_values(values) is True
        except EvaluationError as error:
            self._note(error)
            return False

    def _note(self, error: EvaluationError) -> None:
        """Count; log each doubling, for a filter that never matches because its numbers are too narrow puzzles people."""
        self.error_count += 1
        if not self.error_count & (self.error_count - 1):
            logger.warning(
                "filter %r could not be evaluated on %d messages, which so were not delivered; last: %s",
                self.text,
                self.error_count,
                error,
            )

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


class ExpressionCache:
    """The expressions used last, at most ``entries_max`` of them."""

    def __init__(self, entries_max: int = CACHE_ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._entries: OrderedDict[str, Expression | ExpressionError] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, text: str) -> Expression:
        """Compile ``text`` or return what came of it before; raises ExpressionError."""
        found = self._entries.get(text)
        if found is None:
            try:
                found = Expression(text)
                if found.ignored:
                    logger.warning(
                        "filter %r ends before %r: the rest is ignored, as by Apache's broker", text, found.ignored
                    )
            except ExpressionError as error:
                found = error
            if len(text) <= LENGTH_MAX:
                self._entries[text] = found
                if len(self._entries) > self._entries_max:
                    self._entries.popitem(last=False)
        else:
            self._entries.move_to_end(text)
        if isinstance(found, ExpressionError):
            # A new one each time: a raised exception collects the frames that it passed.
            raise type(found)(str(found), found.position)
        return found


_cache = ExpressionCache()


def compile_expression(text: str) -> Expression:
    """The expression of ``text``. Raises ExpressionError: what was expected, and at which character counted from 1."""
    return _cache.get(text)
