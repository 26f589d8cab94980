"""What a directory of Apache's broker holds that this broker does not read: found before it is opened, not missed afterwards.

For `rocketmq store verify --from-apache`. Names are those of Apache RocketMQ 4.9 to 5.5 under ``storePathRootDir``. The commit log
and what is derived from it need no such look: `inspection` checks them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rocketmq_common import javajson
from rocketmq_store.inspection import Finding
from rocketmq_store.settings import StoreSettings

TABLES_TO_JSON = (
    "a RocksDB table, which is not read: have Apache's `mqadmin rocksDBConfigToJson` write the JSON files from it"
)
REBUILT = "remove it while no broker runs, and the next start builds the queues anew from the log"
# Pattern below the root → what it means. RocksDB directories are known by their file CURRENT.
PARTS = {
    "dledger-*": "a DLedger log, which is not read: replicate to a group without DLedger by consuming and sending again",
    "consumequeue/CURRENT": f"queues in RocksDB, which are not read: {REBUILT}",
    "config/rdb/CURRENT": TABLES_TO_JSON,
    "config/topics/CURRENT": TABLES_TO_JSON,
    "config/subscriptionGroups/CURRENT": TABLES_TO_JSON,
    "config/consumerOffsets/CURRENT": TABLES_TO_JSON,
    "config/users/CURRENT": "users in RocksDB, which are not read: make them anew",
    "config/acls/CURRENT": "rights in RocksDB, which are not read: make them anew",
    "config/tieredStoreMetadata.json": "tiered storage: only what the commit log still has is served",
    "consumequeue_ext/*": f"queue entries with bit maps; tag filters would find nothing. With consumequeue, {REBUILT}",
    "kvStore/CURRENT": "pops in flight in RocksDB, which are not read: stop what pops, wait the invisible time, then stop Apache's",
    "compaction/compactionLog/*": "a compacted topic: only what the commit log still has is served, and nothing is compacted",
    "brokerIdentity": "led by a controller: write brokerId and brokerRole into broker.conf, remove this and epochFileCheckpoint*",
    "batchconsumequeue/*": "a topic of batch queues, which are not read: send its messages to a topic of plain queues first",
}
BATCH_QUEUES, COMPACTED = ("queue.type", "BatchCQ"), ("cleanup.policy", "COMPACTION")


def foreign_parts(root: Path) -> Iterator[Finding]:
    """Everything below ``root`` that would be missed, with what to do about it; nothing is written."""
    for pattern, text in PARTS.items():
        for path in sorted(root.glob(pattern)):
            yield Finding(path, 0, text)
    path = root / "config" / "topicQueueMapping.json"
    for topic in _table(path, "topicQueueMappingInfoMap"):
        yield Finding(path, 0, f"{topic} is a static topic: its queues are served by their numbers at this broker only")
    path = root / "config" / "topics.json"
    for topic, values in _table(path, "topicConfigTable").items():
        attributes = values.get("attributes") or {}
        for key, value in (BATCH_QUEUES, COMPACTED):
            if attributes.get(key) == value:
                yield Finding(path, 0, f"{topic} has {key}={value}, which this broker does not have")


def demanded_settings(root: Path) -> dict[str, int]:
    """Keys of ``broker.conf`` that the sizes of the files demand, where the default does not fit."""
    defaults = StoreSettings(root=str(root))
    found = {
        "mappedFileSizeCommitLog": (_file_size(root / "commitlog", "*"), defaults.commit_log_segment_size),
        "mappedFileSizeConsumeQueue": (
            _file_size(root / "consumequeue", "*/*/*"),
            defaults.consume_queue_segment_size,
        ),
        "mappedFileSizeTimerLog": (_file_size(root / "timerlog", "*"), defaults.timer_log_segment_size),
    }
    return {key: size for key, (size, default) in found.items() if size not in (0, default)}


def _file_size(directory: Path, pattern: str) -> int:
    return next((path.stat().st_size for path in directory.glob(pattern) if path.name.isdecimal()), 0)


def _table(path: Path, field: str) -> dict[str, dict[str, dict[str, str]]]:
    """An object of a table file; empty when the file is absent or broken, which `inspection` tells."""
    try:
        table = javajson.loads(path.read_bytes())
    except (FileNotFoundError, javajson.JavaJsonError):
        return {}
    return (table.get(field) if isinstance(table, dict) else None) or {}
