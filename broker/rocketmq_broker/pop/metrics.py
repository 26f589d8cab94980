"""Metrics of POP: Apache's names where the meaning is the same, and what Apache does not count."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rocketmq_broker.pop.service import Pop
from rocketmq_common.exposition import Family

MakeFamily = Callable[..., Family]


def pop_families(pop: Pop, gauge: MakeFamily, counter: MakeFamily) -> Iterator[Family]:
    """Everything about POP. The two functions make a family of a name and a help text."""
    counters, queues = pop.counters, pop.queues
    for family, value in (
        (counter("rocketmq_pop_messages", "Messages handed out by pops"), counters.popped_nums),
        (counter("rocketmq_pop_acks", "Popped messages that were acknowledged"), counters.acked_nums),
        (
            counter(
                "rocketmq_pop_revive_retry_messages", "Popped messages given again because nobody acknowledged them"
            ),
            counters.revived_nums,
        ),
        (
            counter("rocketmq_pop_invisible_time_changes", "Popped messages whose invisible time was changed"),
            counters.prolonged_nums,
        ),
        (
            counter("rocketmq_pop_handles_expired", "Receipt handles that came too late, or twice"),
            counters.handle_expired_nums,
        ),
        (gauge("rocketmq_pop_checkpoint_buffer_size", "Popped messages in flight"), queues.in_flight_count),
        (gauge("rocketmq_pop_offset_buffer_size", "Queues with pop state in memory"), len(queues.by_key)),
        (gauge("rocketmq_pop_revive_latency_milliseconds", "How late the next message is given again"), pop.late_ms()),
        (gauge("rocketmq_pop_held_requests", "Pops and notifications that wait for a message"), pop.held.count),
    ):
        family.add([], value)
        yield family
