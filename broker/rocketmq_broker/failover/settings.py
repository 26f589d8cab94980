"""Failover's keys of ``broker.conf``. Apache has no such keys, except the one that is named as its."""

from __future__ import annotations

from enum import Enum

import msgspec

from rocketmq_common.settings import SettingsError


class FailoverMode(Enum):
    """Who decides on a new master. ``MANUAL``: only a replica that the lease's target names takes over."""

    DISABLED = "Disabled"
    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class ApiServerLoss(Enum):
    """What a master does that cannot renew its lease: go on while every in-sync replica follows it, or stop taking messages."""

    CONTINUE_IF_FOLLOWED = "ContinueIfFollowed"
    FENCE = "Fence"


class FailoverSettings(msgspec.Struct, kw_only=True, rename="camel"):
    """Times are ms. With a mode other than ``Disabled``, ``brokerId`` is the number of this replica in its group, from 0, and the
    lease decides who is master; a slave registers under its number, replica 0 under ``totalReplicas``.
    """

    failover_mode: FailoverMode = FailoverMode.DISABLED
    lease_duration: int = 8000
    lease_renew_deadline: int = 5000
    lease_retry_period: int = 1000
    # Extra patience of a candidate, on top of the lease's duration.
    failover_delay: int = 0
    on_api_server_loss: ApiServerLoss = ApiServerLoss.CONTINUE_IF_FOLLOWED
    # Where leases are files; empty for Leases of the Kubernetes cluster that this Pod runs in.
    lease_directory: str = ""
    lease_namespace: str = ""
    # Name of this replica, the same at each start (Pod name), and of this life of it (Pod UID).
    replica_name: str = ""
    replica_uid: str = ""
    # Apache's key: a replica that has not caught up for so long leaves the in-sync set.
    ha_max_time_slave_not_catchup: int = 15_000
    # What `brokerId` and `brokerRole` said; set when the settings are loaded.
    ordinal: int = msgspec.field(default=0, name="replicaOrdinal")
    is_sync: bool = msgspec.field(default=True, name="replicaIsSynchronous")
    # How long a planned switchover may hold up sends before it is given up.
    switchover_timeout: int = 3000

    @property
    def is_enabled(self) -> bool:
        """The lease decides on the role."""
        return self.failover_mode is not FailoverMode.DISABLED

    def check(self, source: str) -> None:
        """Raises SettingsError naming the first key out of range and what to write."""
        ranges = {
            "leaseDuration": (self.lease_duration, 100, 600_000),
            "leaseRenewDeadline": (self.lease_renew_deadline, 50, 600_000),
            "leaseRetryPeriod": (self.lease_retry_period, 10, 60_000),
            "failoverDelay": (self.failover_delay, 0, 3_600_000),
            "haMaxTimeSlaveNotCatchup": (self.ha_max_time_slave_not_catchup, 100, 3_600_000),
            "switchoverTimeout": (self.switchover_timeout, 100, 60_000),
        }
        for key, (value, low, high) in ranges.items():
            if not low <= value <= high:
                raise SettingsError(f"{source}: {key}={value}: write a number from {low} to {high}")
        if not self.lease_duration > self.lease_renew_deadline > 1.2 * self.lease_retry_period:
            raise SettingsError(
                f"{source}: leaseDuration={self.lease_duration} must be above leaseRenewDeadline="
                f"{self.lease_renew_deadline}, and that above 1.2 x leaseRetryPeriod={self.lease_retry_period}"
            )
        if self.is_enabled and (not self.replica_name or "/" in self.replica_name):
            raise SettingsError(
                f"{source}: replicaName={self.replica_name!r}: failoverMode={self.failover_mode.value} needs a name "
                "without '/' that this replica keeps"
            )
