"""Snapshots of replication: for GET_BROKER_HA_STATUS (907), metrics, admin pages and tests."""

from __future__ import annotations

from typing import Any

import msgspec


class SlaveStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One slave as its master sees it. Offsets and lag are log bytes; ``acknowledged_offset`` is -1 before the first report."""

    address: str
    identity: str
    acknowledged_offset: int
    lag_bytes: int
    # Since when it has not had everything that was written; 0 while it has.
    lag_ms: int
    transfer_from: int
    bytes_per_second: int
    is_in_sync: bool


class MasterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Replication as a master sees it. Replica counts include the master itself; ``waiting_count`` sends wait for slaves now."""

    log_end_offset: int
    replicated_offset: int
    in_sync_count: int
    needed_count: int
    waiting_count: int
    timeout_count: int
    refused_link_count: int
    protocol_error_count: int
    # Of those: slaves that did not prove that they have the group's secret.
    unauthenticated_count: int
    pushed_bytes: int
    slaves: tuple[SlaveStatus, ...] = ()

    def to_runtime_info(self) -> dict[str, Any]:
        """Body of GET_BROKER_HA_STATUS at a master (Java: HARuntimeInfo)."""
        return {
            "master": True,
            "masterCommitLogMaxOffset": self.log_end_offset,
            "inSyncSlaveNums": sum(slave.is_in_sync for slave in self.slaves),
            "haConnectionInfo": [
                {
                    "addr": slave.address,
                    "slaveAckOffset": slave.acknowledged_offset,
                    "diff": slave.lag_bytes,
                    "inSync": slave.is_in_sync,
                    "transferredByteInSecond": slave.bytes_per_second,
                    "transferFromWhere": slave.transfer_from,
                }
                for slave in self.slaves
            ],
            "haClientRuntimeInfo": _client_info(),
        }


class FollowingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Replication as a slave sees it. Times are wall clock ms, 0 before the first; ``problem`` is empty when all is well."""

    log_end_offset: int
    acknowledged_offset: int
    master_address: str
    ha_address: str
    is_connected: bool
    bytes_per_second: int
    last_read_ms: int
    last_write_ms: int
    connect_count: int
    # The master's log end as it last said, -1 when it never did.
    master_end_offset: int
    last_metadata_sync_ms: int
    # Links whose master did not prove that it has the group's secret.
    unproven_count: int
    problem: str = ""

    @property
    def lag_bytes(self) -> int:
        """How far this slave is behind, as far as it knows; 0 when it knows nothing."""
        return max(0, self.master_end_offset - self.log_end_offset)

    def to_runtime_info(self) -> dict[str, Any]:
        """Body of GET_BROKER_HA_STATUS at a slave."""
        return {
            "master": False,
            "masterCommitLogMaxOffset": 0,
            "inSyncSlaveNums": 0,
            "haConnectionInfo": [],
            "haClientRuntimeInfo": _client_info(
                masterAddr=self.ha_address,
                transferredByteInSecond=self.bytes_per_second,
                maxOffset=self.log_end_offset,
                lastReadTimestamp=self.last_read_ms,
                lastWriteTimestamp=self.last_write_ms,
                masterFlushOffset=max(self.master_end_offset, 0),
                isActivated=self.is_connected,
            ),
        }


def _client_info(**values: Any) -> dict[str, Any]:
    return {
        "masterAddr": "",
        "transferredByteInSecond": 0,
        "maxOffset": 0,
        "lastReadTimestamp": 0,
        "lastWriteTimestamp": 0,
        "masterFlushOffset": 0,
        "isActivated": False,
        **values,
    }
