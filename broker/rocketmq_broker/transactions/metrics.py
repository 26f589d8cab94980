"""Metrics of transactions under Apache's names, and of what Apache does not count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from rocketmq_broker.transactions.counters import FINISH_BOUNDS_MS
from rocketmq_broker.transactions.service import Transactions
from rocketmq_common.exposition import Family

# Series between two breaths of the event loop.
SLICE: Final = 250

MakeFamily = Callable[..., Family]


def transaction_families(
    transactions: Transactions, gauge: MakeFamily, counter: MakeFamily, histogram: MakeFamily
) -> Iterator[Family | None]:
    """Everything about transactions; ``None`` is a good moment to let the event loop do something else.

    The three functions make a family of a name, a help text and labels.
    """
    counters = transactions.counters
    for family, values in (
        (gauge("rocketmq_half_messages", "Undecided transactions", "topic"), transactions.halves.counts),
        (counter("rocketmq_commit_messages", "Committed transactions", "topic"), counters.commits),
        (counter("rocketmq_rollback_messages", "Rolled back transactions", "topic"), counters.rollbacks),
    ):
        for number, (topic, value) in enumerate(list(values.items())):
            if number % SLICE == SLICE - 1:
                yield None
            family.add([topic], value)
        yield family
    latency = histogram("rocketmq_finish_message_latency_milliseconds", "Time from a half message to its commit")
    latency.add_histogram([], FINISH_BOUNDS_MS, counters.finish_counts, counters.finish_ms_sum)
    yield latency
    for name, text, value in (
        ("rocketmq_transaction_checks", "Questions sent to producers", counters.check_nums),
        (
            "rocketmq_transaction_checks_unanswerable",
            "Questions for which no producer was connected",
            counters.unanswerable_nums,
        ),
        ("rocketmq_transaction_given_up", "Transactions given up after the last question", counters.given_up_nums),
        ("rocketmq_transaction_ends_refused", "Ends of transactions that were refused", counters.refused_nums),
    ):
        family = counter(name, text)
        family.add([], value)
        yield family
