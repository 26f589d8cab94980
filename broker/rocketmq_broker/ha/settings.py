"""Replication's keys of ``broker.conf``: Apache's names, defaults and meaning."""

from __future__ import annotations

import msgspec

from rocketmq_broker.ha.frames import BODY_SIZE_MAX
from rocketmq_common.settings import SettingsError

REPLICAS_MAX = 16


class ReplicationSettings(msgspec.Struct, kw_only=True, rename="camel"):
    """Times are ms, sizes bytes. Replica counts include the master itself."""

    # Needed copies of a message before its send is answered with success by a SYNC_MASTER; 1 waits for no slave.
    in_sync_replicas: int = 1
    # Fewer replicas in sync, and a SYNC_MASTER refuses to store.
    min_in_sync_replicas: int = 1
    # Wait for as many of `in_sync_replicas` as are in sync, but `min_in_sync_replicas` at least.
    enable_auto_in_sync_replicas: bool = False
    total_replicas: int = 1
    slave_timeout: int = 3000
    ha_send_heartbeat_interval: int = 5000
    ha_housekeeping_interval: int = 20_000
    ha_transfer_batch_size: int = 32 * 1024
    ha_max_gap_not_in_sync: int = 256 << 20
    ha_flow_control_enable: bool = False
    max_ha_transfer_byte_in_second: int = 100 << 20
    # Where a slave finds its master while no name server tells it.
    ha_master_address: str = ""
    # An empty slave gets only the newest segment instead of the whole log.
    sync_from_last_file: bool = False

    # Ours: how long a slave pauses at most between attempts to reach its master, and between two metadata rounds.
    ha_reconnect_interval: int = 5000
    slave_sync_interval: int = 3000
    # Ours: a file with the group's secrets, one a line, which each side of a replication link must prove to have; empty for none.
    ha_secret_file: str = ""
    # Without: whoever cannot prove it is served and followed all the same. For the time in which replicas get their secret.
    ha_authentication_required: bool = True

    def check(self, source: str) -> None:
        """Raises SettingsError naming the first key out of range and what to write."""
        ranges = {
            "inSyncReplicas": (self.in_sync_replicas, 1, REPLICAS_MAX),
            "minInSyncReplicas": (self.min_in_sync_replicas, 1, REPLICAS_MAX),
            "totalReplicas": (self.total_replicas, 1, REPLICAS_MAX),
            "slaveTimeout": (self.slave_timeout, 1, 600_000),
            "haSendHeartbeatInterval": (self.ha_send_heartbeat_interval, 10, 600_000),
            "haHousekeepingInterval": (self.ha_housekeeping_interval, 20, 3_600_000),
            "haTransferBatchSize": (self.ha_transfer_batch_size, 1024, BODY_SIZE_MAX),
            "haMaxGapNotInSync": (self.ha_max_gap_not_in_sync, 0, 1 << 40),
            "maxHaTransferByteInSecond": (self.max_ha_transfer_byte_in_second, 1024, 1 << 40),
            "haReconnectInterval": (self.ha_reconnect_interval, 10, 600_000),
            "slaveSyncInterval": (self.slave_sync_interval, 100, 600_000),
        }
        for key, (value, low, high) in ranges.items():
            if not low <= value <= high:
                raise SettingsError(f"{source}: {key}={value}: write a number from {low} to {high}")
        if self.min_in_sync_replicas > self.in_sync_replicas:
            raise SettingsError(
                f"{source}: minInSyncReplicas={self.min_in_sync_replicas}: write at most inSyncReplicas, "
                f"which is {self.in_sync_replicas}"
            )
        if self.ha_housekeeping_interval <= self.ha_send_heartbeat_interval:
            raise SettingsError(
                f"{source}: haHousekeepingInterval={self.ha_housekeeping_interval}: write more than "
                f"haSendHeartbeatInterval, which is {self.ha_send_heartbeat_interval}: idle links would be closed"
            )
