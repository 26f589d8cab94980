"""Options of the store: Apache's keys, defaults and meaning (MessageStoreConfig, release 5.5).

The wire name of a field is the key in ``broker.conf``. Fields that may change at run time are read at each use.
"""

from __future__ import annotations

from enum import Enum

import msgspec

UNIT_SIZE = 20
SIZE_MAX = (1 << 31) - 1


class FlushDiskType(Enum):
    """When an append counts as durable."""

    ASYNC_FLUSH = "ASYNC_FLUSH"
    SYNC_FLUSH = "SYNC_FLUSH"


class CorruptLogPolicy(Enum):
    """What to do about damage with intact records behind it."""

    REFUSE = "refuse"
    TRUNCATE = "truncate"


class StoreSettings(msgspec.Struct, kw_only=True):
    """See the module. Sizes are bytes, intervals ms unless the name says otherwise."""

    root: str = msgspec.field(name="storePathRootDir")
    commit_log_segment_size: int = msgspec.field(default=1 << 30, name="mappedFileSizeCommitLog")
    consume_queue_segment_size: int = msgspec.field(default=6_000_000, name="mappedFileSizeConsumeQueue")
    flush_disk_type: FlushDiskType = msgspec.field(default=FlushDiskType.ASYNC_FLUSH, name="flushDiskType")
    flush_interval_ms: int = msgspec.field(default=500, name="flushIntervalCommitLog")
    flush_queue_interval_ms: int = msgspec.field(default=1000, name="flushIntervalConsumeQueue")
    sync_flush_timeout_ms: int = msgspec.field(default=5000, name="syncFlushTimeout")
    message_size_max: int = msgspec.field(default=4 << 20, name="maxMessageSize")
    filter_scan_bytes_max: int = msgspec.field(default=16_000, name="maxFilterMessageSize")
    transfer_bytes_in_memory_max: int = msgspec.field(default=262_144, name="maxTransferBytesOnMessageInMemory")
    transfer_count_in_memory_max: int = msgspec.field(default=32, name="maxTransferCountOnMessageInMemory")
    transfer_bytes_on_disk_max: int = msgspec.field(default=65_536, name="maxTransferBytesOnMessageInDisk")
    transfer_count_on_disk_max: int = msgspec.field(default=8, name="maxTransferCountOnMessageInDisk")
    in_memory_percent_max: int = msgspec.field(default=40, name="accessMessageInMemoryMaxRatio")
    check_crc_on_recover: bool = msgspec.field(default=True, name="checkCRCOnRecover")
    append_record_crc: bool = msgspec.field(default=False, name="enabledAppendPropCRC")
    index_enable: bool = msgspec.field(default=True, name="messageIndexEnable")
    index_slot_count: int = msgspec.field(default=5_000_000, name="maxHashSlotNum")
    index_entry_count: int = msgspec.field(default=20_000_000, name="maxIndexNum")
    query_count_max: int = msgspec.field(default=64, name="maxMsgsNumBatch")
    delete_when: str = msgspec.field(default="04", name="deleteWhen")
    file_reserved_hours: int = msgspec.field(default=72, name="fileReservedTime")
    delete_file_batch_max: int = msgspec.field(default=10, name="deleteFileBatchMax")
    clean_file_forcibly_enable: bool = msgspec.field(default=True, name="cleanFileForciblyEnable")
    disk_max_used_percent: int = msgspec.field(default=75, name="diskMaxUsedSpaceRatio")
    disk_clean_forcibly_percent: int = msgspec.field(default=85, name="diskSpaceCleanForciblyRatio")
    disk_warning_percent: int = msgspec.field(default=90, name="diskSpaceWarningLevelRatio")
    message_delay_level: str = msgspec.field(
        default="1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h", name="messageDelayLevel"
    )
    timer_log_segment_size: int = msgspec.field(default=104_857_600, name="mappedFileSizeTimerLog")
    light_queues_enable: bool = msgspec.field(default=False, name="enableLmq")
    multi_dispatch_enable: bool = msgspec.field(default=False, name="enableMultiDispatch")
    light_queue_count_max: int = msgspec.field(default=20_000, name="maxLmqConsumeQueueNum")
    # Ours: what Apache does not have.
    recover_corrupt_log: CorruptLogPolicy = msgspec.field(default=CorruptLogPolicy.REFUSE, name="recoverCorruptLog")

    @property
    def is_sync_flush(self) -> bool:
        """Messages become visible, and sends are answered, only after fdatasync."""
        return self.flush_disk_type is FlushDiskType.SYNC_FLUSH

    @property
    def has_light_queues(self) -> bool:
        """Messages go to the light queues that they name; Apache wants both keys too."""
        return self.light_queues_enable and self.multi_dispatch_enable

    @property
    def queue_segment_units(self) -> int:
        """Entries per consume queue segment; a size that is no multiple of 20 is rounded up, as in Java."""
        return -(-self.consume_queue_segment_size // UNIT_SIZE)

    @property
    def index_file_size(self) -> int:
        """Header, slots and entries of one index file."""
        return 40 + 4 * self.index_slot_count + 20 * self.index_entry_count

    def problem(self) -> str:
        """What makes these settings unusable, in one line; empty when nothing does."""
        sizes = {
            "mappedFileSizeCommitLog": (self.commit_log_segment_size, 4096),
            "mappedFileSizeConsumeQueue": (self.consume_queue_segment_size, UNIT_SIZE),
            "maxHashSlotNum": (self.index_slot_count, 1),
            "maxIndexNum": (self.index_entry_count, 2),
            "maxMessageSize": (self.message_size_max, 1),
            "mappedFileSizeTimerLog": (self.timer_log_segment_size, 4096),
            "flushIntervalCommitLog": (self.flush_interval_ms, 1),
            "flushIntervalConsumeQueue": (self.flush_queue_interval_ms, 1),
        }
        for key, (value, least) in sizes.items():
            if not least <= value <= SIZE_MAX:
                return f"{key}={value} is outside {least} to {SIZE_MAX}"
        if not self.root:
            return "storePathRootDir is empty: name the directory of the store"
        try:
            self.delay_level_ms()
        except ValueError as error:
            return str(error)
        return ""

    def delay_level_ms(self) -> list[int]:
        """Delay of level 1, 2, … in ms. Raises ValueError naming the word that is no delay."""
        units = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
        levels = []
        for word in self.message_delay_level.split():
            if word[-1] not in units or not word[:-1].isdecimal():
                raise ValueError(f"messageDelayLevel: {word!r} is no delay such as 10s, 5m, 2h or 1d")
            levels.append(int(word[:-1]) * units[word[-1]])
        return levels
