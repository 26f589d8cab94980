"""Metrics of replication and of elections; Apache has none of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rocketmq_broker.failover.succession import SuccessionStatus
from rocketmq_broker.ha.status import FollowingStatus, MasterStatus
from rocketmq_common.exposition import Family

MakeFamily = Callable[..., Family]


def replication_families(
    status: MasterStatus | FollowingStatus | None, gauge: MakeFamily, counter: MakeFamily
) -> Iterator[Family]:
    """What a master or a slave tells. The two functions make a family of a name, a help text and labels."""
    if isinstance(status, MasterStatus):
        lag_bytes = gauge("rocketmq_replication_lag_bytes", "Log that a slave has not acknowledged", "slave")
        lag_ms = gauge(
            "rocketmq_replication_lag_milliseconds", "Since when a slave has not acknowledged everything", "slave"
        )
        for slave in status.slaves:
            lag_bytes.add([slave.address], slave.lag_bytes)
            lag_ms.add([slave.address], slave.lag_ms)
        yield lag_bytes
        yield lag_ms
        yield from _filled(
            (gauge("rocketmq_replication_in_sync_replicas", "Replicas in sync, master included"), status.in_sync_count),
            (gauge("rocketmq_replication_needed_replicas", "Replicas a send waits for"), status.needed_count),
            (gauge("rocketmq_replication_waiting_sends", "Sends that wait for slaves"), status.waiting_count),
            (gauge("rocketmq_replication_confirmed_offset", "Log that enough replicas have"), status.replicated_offset),
            (counter("rocketmq_replication_timeouts", "Sends whose slaves were late"), status.timeout_count),
            (
                counter("rocketmq_replication_protocol_errors", "Slaves dropped for what they said"),
                status.protocol_error_count,
            ),
            (
                counter("rocketmq_replication_unauthenticated", "Links that ended without a proof of the secret"),
                status.unauthenticated_count,
            ),
            (
                counter("rocketmq_replication_refused_links", "Slaves refused because there were too many"),
                status.refused_link_count,
            ),
            (counter("rocketmq_replication_pushed_bytes", "Log bytes pushed to slaves"), status.pushed_bytes),
        )
    elif isinstance(status, FollowingStatus):
        yield from _filled(
            (gauge("rocketmq_replication_connected", "1 while the master is followed"), int(status.is_connected)),
            (gauge("rocketmq_replication_behind_bytes", "Log of the master not yet here"), status.lag_bytes),
            (counter("rocketmq_replication_connects", "Links made to a master"), status.connect_count),
            (
                counter("rocketmq_replication_unauthenticated", "Links that ended without a proof of the secret"),
                status.unproven_count,
            ),
        )


def election_families(status: SuccessionStatus | None, gauge: MakeFamily, counter: MakeFamily) -> Iterator[Family]:
    """What a replica that takes part in elections tells."""
    if status is None:
        return
    yield from _filled(
        (gauge("rocketmq_failover_epoch", "Epoch of the group's lease, as this replica saw it last"), status.epoch),
        (gauge("rocketmq_failover_is_master", "1 while this replica leads its group"), int(status.is_master)),
        (
            gauge("rocketmq_failover_may_write", "1 while the lease lets this replica take messages"),
            int(status.may_write),
        ),
        (gauge("rocketmq_failover_members", "Replicas in the in-sync set of the lease"), len(status.in_sync)),
        (gauge("rocketmq_failover_is_suspect", "1 while a power loss may have cut this log"), int(status.is_suspect)),
        (gauge("rocketmq_failover_lease_reachable", "1 while the lease can be read"), int(not status.problem)),
        (
            gauge(
                "rocketmq_failover_lease_age_seconds", "Since the master's renewal, or since this replica last saw one"
            ),
            status.lease_age_s,
        ),
        (counter("rocketmq_failover_lease_failures", "Rounds in which the lease was not reached"), status.failure_count),
        (counter("rocketmq_failover_elections", "Epochs that this process began as master"), status.election_count),
        (
            counter("rocketmq_failover_fenced", "Times that this master lost its right to write"),
            status.fenced_count,
        ),
    )  # fmt: skip


def _filled(*families: tuple[Family, float]) -> Iterator[Family]:
    for family, value in families:
        family.add([], value)
        yield family
