"""What consumers subscribe to, decided on the broker: by tag on the queue entry, by SQL92 on the properties of the record.

``from rocketmq_broker.filters.tags import ...``: the names below are repeated here only until callers import them from there.
"""

from rocketmq_broker.filters.tags import (
    ALL,
    TAGS_MAX,
    ExpressionError,
    accept_codes,
    is_tag_expression,
    tag_codes,
)

__all__ = ["ALL", "TAGS_MAX", "ExpressionError", "accept_codes", "is_tag_expression", "tag_codes"]
