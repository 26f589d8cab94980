"""Tag and SQL92 subscriptions (FilterAPI)."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rocketmq_client.errors import InvalidArgument
from rocketmq_common import names
from rocketmq_common.hashing import java_hash
from rocketmq_remoting.bodies import EXPRESSION_SQL92, EXPRESSION_TAG, SubscriptionData

ALL = "*"
TAG_SEPARATOR = "||"


@dataclass(frozen=True, slots=True)
class Tags:
    """Messages with one of these tags: ``TagA || TagB``, or ``*`` for all."""

    expression: str = ALL


@dataclass(frozen=True, slots=True)
class Sql:
    """Messages whose properties satisfy an SQL92 expression; the broker evaluates it (``enablePropertyFilter=true``)."""

    expression: str


Filter = str | Tags | Sql
"""A plain string is a tag expression."""


def subscription(topic: str, wanted: Filter = ALL) -> SubscriptionData:
    """The wire form of a subscription, versioned by the present time as Java does; raises InvalidArgument."""
    version = time.time_ns() // 1_000_000
    if isinstance(wanted, Sql):
        if not wanted.expression.strip():
            raise InvalidArgument("the SQL expression is empty", hint="write for example: a > 5 AND b = 'x'")
        return SubscriptionData(
            topic=topic, sub_string=wanted.expression, expression_type=EXPRESSION_SQL92, sub_version=version
        )
    expression = wanted if isinstance(wanted, str) else wanted.expression
    if expression.strip() in ("", ALL):
        return SubscriptionData(topic=topic, sub_string=ALL, expression_type=EXPRESSION_TAG, sub_version=version)
    tags = list(dict.fromkeys(tag for part in expression.split(TAG_SEPARATOR) if (tag := part.strip())))
    if not tags:
        raise InvalidArgument(f"the tag expression {expression!r} names no tag", hint="write TagA || TagB, or *")
    return SubscriptionData(
        topic=topic,
        sub_string=expression,
        expression_type=EXPRESSION_TAG,
        tags_set=tags,
        code_set=sorted({java_hash(tag) for tag in tags}),
        sub_version=version,
    )


def is_wanted(data: SubscriptionData, tag: str) -> bool:
    """The client's own check behind the broker's, which compares hashes only: two tags may share one."""
    if data.expression_type != EXPRESSION_TAG or not data.tags_set:
        return True
    return tag in data.tags_set


def checked_subscription(topic: str, wanted: Filter) -> SubscriptionData:
    """As `subscription`; raises InvalidArgument for what is no name of a topic, too."""
    problem = names.topic_name_problem(topic)
    if problem is not None:
        raise InvalidArgument(problem)
    return subscription(topic, wanted)
