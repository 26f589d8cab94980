"""From a subscription to the filter that reading a queue applies.

A filter by tags decides on the entry of the consume queue alone; one by SQL92 needs the record. `MessageStore.get_messages` takes
both parts: ``get_messages(..., wanted.tags_codes, wanted.accept)``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, Protocol

from rocketmq_broker.filters.errors import ExpressionError
from rocketmq_broker.filters.expressions import Expression, compile_expression
from rocketmq_broker.filters.record_properties import PropertyReader, properties_bytes
from rocketmq_broker.filters.tags import is_tag_expression, tag_codes
from rocketmq_remoting.bodies import SubscriptionData

EXPRESSION_SQL92: Final = "SQL92"
TAG_FILTERS_MAX: Final = 4096

Accept = Callable[[int, memoryview], bool]


class MessageFilter(Protocol):
    """What a consumer wants of a queue."""

    @property
    def tags_codes(self) -> frozenset[int] | None:
        """Codes of queue entries that may be wanted; ``None`` for all."""

    @property
    def accept(self) -> Accept | None:
        """`accepts_record`, or ``None`` when the code decides."""

    def accepts_tags_code(self, tags_code: int) -> bool:
        """Whether a message with this code in its queue entry may be wanted."""

    def accepts_record(self, tags_code: int, record: memoryview) -> bool:
        """Whether the stored message is wanted, code included. The bytes are borrowed for the call."""


class TagFilter:
    """Wants tags by their Java hashes, or everything (``tags_codes`` None)."""

    __slots__ = ("tags_codes",)
    accept: Accept | None = None

    def __init__(self, tags_codes: frozenset[int] | None) -> None:
        self.tags_codes = tags_codes

    def accepts_tags_code(self, tags_code: int) -> bool:
        """See `MessageFilter`."""
        return self.tags_codes is None or tags_code in self.tags_codes

    def accepts_record(self, tags_code: int, record: memoryview) -> bool:
        """See `MessageFilter`."""
        return self.accepts_tags_code(tags_code)


class SqlFilter:
    """Wants messages whose properties make an expression true."""

    __slots__ = ("_matches", "_values", "accept", "expression")
    tags_codes: frozenset[int] | None = None

    def __init__(self, expression: Expression) -> None:
        self.expression = expression
        self._matches = expression.matches_values
        self._values = PropertyReader(expression.names).values
        self.accept: Accept | None = self.accepts_record

    def accepts_tags_code(self, tags_code: int) -> bool:
        """True: the code tells nothing about other properties."""
        return True

    def accepts_record(self, tags_code: int, record: memoryview) -> bool:
        """See `MessageFilter`."""
        return self._matches(self._values(properties_bytes(record)))


@lru_cache(maxsize=TAG_FILTERS_MAX)
def tag_filter(expression: str | None) -> TagFilter:
    """The filter of ``a || b``. Raises ExpressionError."""
    return TagFilter(tag_codes(expression))


def message_filter(expression: str | None, expression_type: str | None) -> MessageFilter:
    """The filter of an expression as pull requests and subscriptions give it. Raises ExpressionError.

    Filters by tags are shared; one by SQL92 is new, and keeps its expression when the cache of expressions loses it.
    """
    if is_tag_expression(expression_type):
        return tag_filter(expression)
    if expression_type != EXPRESSION_SQL92:
        raise ExpressionError(f"expression type {expression_type!r} is unknown: use TAG or {EXPRESSION_SQL92}")
    if not expression:
        raise ExpressionError(f"the {EXPRESSION_SQL92} expression is empty")
    return SqlFilter(compile_expression(expression))


def filter_for(subscription: SubscriptionData) -> MessageFilter:
    """The filter of a subscription. Raises ExpressionError."""
    return message_filter(subscription.sub_string, subscription.expression_type)
