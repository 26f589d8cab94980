"""From a subscription to the filter that reading a queue applies.

A filter by tags decides on the entry of the consume queue alone; one by SQL92 needs the record. `MessageStore.get_messages` takes
both parts: ``get_messages(..., wanted.tags_codes, wanted.accept)``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from time import perf_counter
from typing import Final, Protocol

from rocketmq_broker.filters.errors import ExpressionError
from rocketmq_broker.filters.expressions import Expression, compile_expression
from rocketmq_broker.filters.record_properties import PropertyReader, properties_bytes
from rocketmq_broker.filters.tags import is_tag_expression, tag_codes
from rocketmq_common.properties import PROPERTY_RETRY_TOPIC
from rocketmq_remoting.bodies import EXPRESSION_SQL92, SubscriptionData

TAG_FILTERS_MAX: Final = 4096
# The loop serves nobody else while a scan evaluates; a scan of ordinary messages needs a tenth of it.
SCAN_TIME_MAX_MS: Final = 20

# As the store takes it: True and False say whether a record is wanted, None says "no, and stop scanning here".
Accept = Callable[[int, memoryview], bool | None]


class MessageFilter(Protocol):
    """What a consumer wants of a queue."""

    @property
    def tags_codes(self) -> frozenset[int] | None:
        """Codes of queue entries that may be wanted; ``None`` for all."""

    @property
    def accept(self) -> Accept | None:
        """What to hand to one scan of a queue for records whose code passed; ``None`` when the code decides."""

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


def _timed(accepts: Callable[[int, memoryview], bool]) -> Accept:
    """A predicate for one scan, which ends it after `SCAN_TIME_MAX_MS`, at a message that is not wanted.

    Long properties and large expressions could otherwise stop the broker for seconds. The consumer goes on where it ended.
    """
    clock = perf_counter
    deadline = clock() + SCAN_TIME_MAX_MS / 1000

    def accept(tags_code: int, record: memoryview) -> bool | None:
        if accepts(tags_code, record):
            return True
        return None if clock() > deadline else False

    return accept


class SqlFilter:
    """Wants messages whose properties make an expression true."""

    __slots__ = ("_matches", "_values", "expression")
    tags_codes: frozenset[int] | None = None

    def __init__(self, expression: Expression) -> None:
        self.expression = expression
        self._matches = expression.matches_values
        self._values = PropertyReader(expression.names).values

    @property
    def accept(self) -> Accept:
        """See `MessageFilter`."""
        return _timed(self.accepts_record)

    def accepts_tags_code(self, tags_code: int) -> bool:
        """True: the code tells nothing about other properties."""
        return True

    def accepts_record(self, tags_code: int, record: memoryview) -> bool:
        """See `MessageFilter`."""
        return self._matches(self._values(properties_bytes(record)))


class RetryFilter:
    """Wants what failed before and is still wanted: messages of a retry topic by the SQL92 filter of the topic they came from.

    ``filter_of`` gives the group's filter of a topic, ``None`` when it has none. Apache does this with ``filterSupportRetry=true``.
    """

    __slots__ = ("_filter_of",)
    tags_codes: frozenset[int] | None = None
    _origin: Final = PropertyReader([PROPERTY_RETRY_TOPIC])

    def __init__(self, filter_of: Callable[[str], MessageFilter | None]) -> None:
        self._filter_of = filter_of

    @property
    def accept(self) -> Accept:
        """See `MessageFilter`."""
        return _timed(self.accepts_record)

    def accepts_tags_code(self, tags_code: int) -> bool:
        """True: the origin is not in the code."""
        return True

    def accepts_record(self, tags_code: int, record: memoryview) -> bool:
        """See `MessageFilter`. A filter by tags lets everything pass: what failed had passed it already."""
        (origin,) = self._origin.values(properties_bytes(record))
        wanted = None if origin is None else self._filter_of(origin)
        return not isinstance(wanted, SqlFilter) or wanted.accepts_record(tags_code, record)


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
