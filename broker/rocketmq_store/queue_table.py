"""All consume queues of a store: found on disk, made on demand, and known by what must be synced."""

from __future__ import annotations

from pathlib import Path

from rocketmq_common.files import FileSystem
from rocketmq_store.consume_queues import ConsumeQueue, MappedSegments
from rocketmq_store.errors import StoreCorrupt, StoreMisconfigured
from rocketmq_store.residency import Residency

DIRECTORY = "consumequeue"
TOPIC_SIZE_MAX = 255
_UNSAFE = frozenset("/\\\0")


class QueueTable:
    """All queues by (topic, queue id)."""

    def __init__(
        self, files: FileSystem, root: Path, segment_units: int, mapped_limit: int, residency: Residency
    ) -> None:
        self._files = files
        self._residency = residency
        self._root = root / DIRECTORY
        self._segment_units = segment_units
        self.held = MappedSegments(mapped_limit)
        self.by_key: dict[tuple[str, int], ConsumeQueue] = {}
        self.dirty: list[ConsumeQueue] = []
        # Why queues must be built anew from the log, found by `load`.
        self.problems: list[str] = []
        # Queues or segments were removed: the next checkpoint must say so soon.
        self.has_changed = False

    def load(self) -> None:
        """Find all queues on disk; those whose files do not fit together are removed and named in `problems`.

        Raises StoreMisconfigured when no file at all has the configured length.
        """
        refused: list[tuple[ConsumeQueue, StoreCorrupt | StoreMisconfigured]] = []
        self._files.make_directory(self._root)
        for topic_path in self._files.list(self._root):
            for queue_path in self._files.list(topic_path):
                if queue_path.name.isdecimal():
                    queue = self.create(topic_path.name, int(queue_path.name))
                    try:
                        queue.load()
                    except (StoreCorrupt, StoreMisconfigured) as finding:
                        refused.append((queue, finding))
        is_any_fit = any(queue.segment_firsts for queue in self.by_key.values())
        for queue, problem in refused:
            if isinstance(problem, StoreMisconfigured) and not is_any_fit:
                raise problem
            queue.discard_files()
            self.problems.append(str(problem))

    def get(self, topic: str, queue_id: int) -> ConsumeQueue | None:
        """The queue, or ``None`` when nothing was ever stored in it."""
        return self.by_key.get((topic, queue_id))

    @staticmethod
    def is_storable(topic: str) -> bool:
        """The topic fits a record and is safe as a directory name."""
        return (
            0 < len(topic.encode()) <= TOPIC_SIZE_MAX and topic not in (".", "..") and not _UNSAFE.intersection(topic)
        )

    def create(self, topic: str, queue_id: int) -> ConsumeQueue:
        """The queue, made in memory if need be; its files appear with its first message."""
        key = (topic, queue_id)
        queue = self.by_key.get(key)
        if queue is None:
            queue = ConsumeQueue(
                self._files, self.held, self._root, topic, queue_id, self._segment_units, self._residency
            )
            self.by_key[key] = queue
        return queue

    def delete_topic(self, topic: str) -> int:
        """Remove the queues of a topic with their files; return how many there were."""
        doomed = [key for key in self.by_key if key[0] == topic]
        for key in doomed:
            self.by_key.pop(key).destroy()
        if doomed:
            self._files.remove_directory(self._root / topic)
        return len(doomed)

    def mark_dirty(self, queue: ConsumeQueue) -> None:
        """The queue has entries that are not synced yet."""
        queue.is_dirty = True
        self.dirty.append(queue)

    def take_dirty_paths(self) -> list[Path]:
        """Files with entries that were not handed out yet; the caller syncs them before it relies on them."""
        paths: list[Path] = []
        for queue in self.dirty:
            queue.is_dirty = False
            paths += queue.take_unsynced(queue.flushed_end, queue.end)
            queue.flushed_end = queue.end
        self.dirty = []
        self.has_changed = False
        return paths

    def totals(self) -> tuple[int, int, int]:
        """(queues with entries on disk, sum of their ends, sum of their first entries on disk)."""
        count = units = firsts = 0
        for queue in self.by_key.values():
            if queue.segment_firsts and queue.end > queue.segment_firsts[0]:
                count += 1
                units += queue.end
                firsts += queue.segment_firsts[0]
        return count, units, firsts

    def close(self) -> None:
        """Unmap everything."""
        for queue in self.by_key.values():
            queue.unmap_all()
