"""Which messages a subscription wants, decided on the tags code of the queue entry alone.

Codes are Java hashes: two tags may share one, so consumers compare the text again, and a broker never filters too much.
"""

from __future__ import annotations

from rocketmq_broker.filters.errors import ExpressionError
from rocketmq_common.hashing import java_hash
from rocketmq_remoting.bodies import EXPRESSION_TAG

ALL = "*"
TAGS_MAX = 4096
_SPLIT = "||"
# What Java's trim() cuts off: control characters too, but no blank beyond ASCII.
_BLANKS = "".join(map(chr, range(0x21)))


def is_tag_expression(expression_type: str | None) -> bool:
    """Whether the type is TAG, which is also what no type means."""
    return not expression_type or expression_type == EXPRESSION_TAG


def tag_codes(expression: str | None) -> frozenset[int] | None:
    """The codes that ``a || b`` wants; ``None`` means all. Raises ExpressionError for an expression without any tag."""
    if not expression or expression == ALL:
        return None
    tags = [tag.strip(_BLANKS) for tag in expression.split(_SPLIT)]
    tags = [tag for tag in tags if tag]
    if not tags:
        raise ExpressionError(f"subscription {expression!r} names no tag: write *, or tags separated by ||")
    if len(tags) > TAGS_MAX:
        raise ExpressionError(f"subscription names {len(tags)} tags, {TAGS_MAX} are allowed")
    return frozenset(map(java_hash, tags))
