"""How far each consumer group has come: ``config/consumerOffset.json``, written every few seconds.

With light queues the file is ``config/lmqConsumerOffset.json``, as Apache's; their groups stand there in a table of their own.

Offsets are queue offsets: the next message to read. A commit lower than the stored one is taken, as in Apache. Two more tables live
in memory only: where a group last pulled, and server-side resets that the next pull must be told about.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import msgspec

from rocketmq_broker.durable import DurableTable, TableError, load_table
from rocketmq_common import names
from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_common.light_queues import LIGHT_QUEUE_ID
from rocketmq_common.topics import DataVersion
from rocketmq_remoting.codes import ResponseCode
from rocketmq_remoting.errors import RemotingError

logger = logging.getLogger(__name__)

SEPARATOR = "@"
FILE_NAME = "consumerOffset.json"
LIGHT_FILE_NAME = "lmqConsumerOffset.json"
# Readers of light queues are not configured, so that only this bounds them; further ones keep their positions themselves.
LIGHT_OFFSETS_MAX = 200_000
_KNOWN_TOP = frozenset({"dataVersion", "offsetTable", "groupTopicMap"})
_KNOWN_LIGHT_TOP = _KNOWN_TOP | {"lmqOffsetTable"}

Key = tuple[str, str]


class ConsumerOffsets:
    """See the module. Keys are (group, topic) in memory, ``topic@group`` in the file."""

    def __init__(
        self,
        files: FileSystem,
        directory: Path,
        clock: Clock,
        executor: Executor,
        *,
        version_step: int = 500,
        has_light_queues: bool = False,
    ) -> None:
        self._files = files
        self._clock = clock
        self._version_step = version_step
        self._commits = 0
        self._unknown_top: dict[str, Any] = {}
        self._has_lights = has_light_queues
        self._known_top = _KNOWN_LIGHT_TOP if has_light_queues else _KNOWN_TOP
        file_name = LIGHT_FILE_NAME if has_light_queues else FILE_NAME
        self._table = DurableTable(files, directory / file_name, self.encode, executor)
        self.offsets: dict[Key, dict[int, int]] = {}
        self.pulled: dict[Key, dict[int, int]] = {}
        self._resets: dict[tuple[str, str, int], int] = {}
        # Told of a group that was moved from this side, when its moves are kept.
        self.on_reset: list[Callable[[str], None]] = []
        self.data_version = DataVersion()

    def load(self) -> None:
        """Read the file; blocking. Raises TableError."""
        path = self._table.path
        raw = self._table.load()
        if not raw and self._has_lights:
            # Light queues were switched on: Apache would let every group begin anew.
            path = path.with_name(FILE_NAME)
            raw = load_table(self._files, path).content
        self._unknown_top = {key: value for key, value in raw.items() if key not in self._known_top}
        try:
            self.data_version, offsets = self._parse(raw)
        except msgspec.ValidationError as error:
            raise TableError(f"{path}: {error}: repair the file, or restore its .bak") from error
        self.offsets.update(offsets)

    def merge(self, raw: dict[str, Any]) -> None:
        """Take the offsets that this broker's master has; what it lacks is kept, as in Apache.

        ``raw`` is the parsed answer to GET_ALL_CONSUMER_OFFSET. Raises msgspec.ValidationError; nothing is changed then.
        """
        version, table = self._parse(raw)
        is_new = version != self.data_version
        for key, offsets in table.items():
            if self.offsets.get(key) != offsets:
                self.offsets[key] = offsets
                is_new = True
        if is_new:
            self.data_version = version
            self._table.touch()

    def clamp(self, bounds: Callable[[str, int], tuple[int, int]]) -> int:
        """Move offsets beyond the end of their queue back to it; return how many there were.

        After a crash the log may be shorter than what consumers had seen; a group left beyond the end would skip new messages that
        reuse those offsets. Offsets below the first message are left alone: the next pull is told the right one.
        """
        moved = 0
        for (group, topic), offsets in self.offsets.items():
            for queue_id, offset in offsets.items():
                end = bounds(topic, queue_id)[1]
                if offset > end:
                    logger.warning(
                        "group %s, topic %s, queue %d: offset %d is beyond the end %d of the queue and was moved there",
                        group, topic, queue_id, offset, end,
                    )  # fmt: skip
                    offsets[queue_id] = end
                    moved += 1
        if moved:
            self._changed()
        return moved

    def commit(self, group: str, topic: str, queue_id: int, offset: int) -> None:
        """Take ``offset`` as the group's position, lower or not; without effect while a reset is pending."""
        if self._resets and (group, topic, queue_id) in self._resets:
            return
        key = (group, topic)
        offsets = self.offsets.get(key)
        if offsets is None:
            if self._is_light_beyond_limit(group, self.offsets):
                raise RemotingError(ResponseCode.SYSTEM_ERROR, f"{LIGHT_OFFSETS_MAX} positions are kept, no more")
            offsets = self.offsets[key] = {}
        if offsets.get(queue_id) == offset:
            return
        offsets[queue_id] = offset
        self._commits += 1
        if self._commits % self._version_step == 0:
            self.data_version = self.data_version.next(self._clock.now_ms())
        self._table.touch()

    def query(self, group: str, topic: str, queue_id: int) -> int:
        """The group's position, a pending reset first; -1 when it has none."""
        if self._resets:
            reset = self._resets.get((group, topic, queue_id))
            if reset is not None:
                return reset
        offsets = self.offsets.get((group, topic))
        return -1 if offsets is None else offsets.get(queue_id, -1)

    def note_pull(self, group: str, topic: str, queue_id: int, offset: int) -> None:
        """The group pulled from ``offset``; shown by tools as the pull offset."""
        key = (group, topic)
        offsets = self.pulled.get(key)
        if offsets is None:
            if self._is_light_beyond_limit(group, self.pulled):
                return
            offsets = self.pulled[key] = {}
        offsets[queue_id] = offset

    def pull_offset(self, group: str, topic: str, queue_id: int) -> int:
        """Where the group last pulled; -1 when it did not since the start."""
        offsets = self.pulled.get((group, topic))
        return -1 if offsets is None else offsets.get(queue_id, -1)

    def reset(self, group: str, topic: str, queue_id: int, offset: int) -> None:
        """Set the position from this side; commits are ignored until the next pull was told."""
        self._resets[group, topic, queue_id] = offset
        self.offsets.setdefault((group, topic), {})[queue_id] = offset
        self._changed()

    @property
    def has_resets(self) -> bool:
        """Whether any reset waits for a pull; spares the hot path the look-up."""
        return bool(self._resets)

    def is_reset_pending(self, group: str, topic: str, queue_id: int) -> bool:
        """Whether a reset of this queue waits for a pull."""
        return (group, topic, queue_id) in self._resets

    def take_reset(self, group: str, topic: str, queue_id: int) -> int | None:
        """The pending reset, which is done with this; ``None`` without one."""
        return self._resets.pop((group, topic, queue_id), None)

    def of(self, group: str, topic: str) -> dict[int, int]:
        """A copy of queue id → offset."""
        return dict(self.offsets.get((group, topic), {}))

    def topics_of(self, group: str) -> Iterator[str]:
        """Topics on which the group has offsets."""
        return (topic for owner, topic in self.offsets if owner == group)

    def groups_of(self, topic: str) -> Iterator[str]:
        """Groups that have offsets on the topic."""
        return (group for group, of_topic in self.offsets if of_topic == topic)

    def clone(self, source: str, target: str, topic: str) -> None:
        """Give ``target`` the positions of ``source`` on ``topic``."""
        offsets = self.offsets.get((source, topic))
        if offsets:
            self.offsets[target, topic] = dict(offsets)
            self._changed()

    def forget_group(self, group: str) -> None:
        """The group was deleted with its offsets."""
        self._forget(lambda owner, topic: owner == group)

    def forget_topic(self, topic: str) -> None:
        """The topic was deleted."""
        self._forget(lambda owner, of_topic: of_topic == topic)

    def encode(self) -> bytes:
        """Content of the file."""
        top: dict[str, Any] = {**self._unknown_top, "dataVersion": self.data_version}
        table = {f"{topic}{SEPARATOR}{group}": offsets for (group, topic), offsets in self.offsets.items()}
        if self._has_lights:
            lights = {key for key in table if names.is_light_queue(key.partition(SEPARATOR)[2])}
            top["lmqOffsetTable"] = {key: table[key].get(LIGHT_QUEUE_ID, 0) for key in lights}
            table = {key: offsets for key, offsets in table.items() if key not in lights}
        return msgspec.json.encode({**top, "offsetTable": table})

    async def save_if_dirty(self) -> None:
        """Write when something was committed since the last time. Raises OSError."""
        await self._table.save_if_dirty()

    def save_now(self) -> None:
        """Write on the calling thread."""
        self._table.save_now()

    def _is_light_beyond_limit(self, group: str, table: dict[Key, dict[int, int]]) -> bool:
        return self._has_lights and len(table) >= LIGHT_OFFSETS_MAX and names.is_light_queue(group)

    def _parse(self, raw: dict[str, Any]) -> tuple[DataVersion, dict[Key, dict[int, int]]]:
        """Raises msgspec.ValidationError."""
        version = msgspec.convert(raw.get("dataVersion") or {}, DataVersion, strict=False)
        table = msgspec.convert(raw.get("offsetTable") or {}, dict[str, dict[int, int]], strict=False)
        if self._has_lights:
            lights = msgspec.convert(raw.get("lmqOffsetTable") or {}, dict[str, int], strict=False)
            table.update({key: {LIGHT_QUEUE_ID: offset} for key, offset in lights.items()})
        offsets: dict[Key, dict[int, int]] = {}
        for key, of_queues in table.items():
            # A group may hold a second '@' (<group>@broadcast), a topic none.
            topic, _, group = key.partition(SEPARATOR)
            offsets[group, topic] = of_queues
        return version, offsets

    def _forget(self, matches: Callable[[str, str], bool]) -> None:
        for table in (self.offsets, self.pulled):
            for key in [key for key in table if matches(*key)]:
                del table[key]
        for reset_key in [key for key in self._resets if matches(key[0], key[1])]:
            del self._resets[reset_key]
        self._changed()

    def _changed(self) -> None:
        self.data_version = self.data_version.next(self._clock.now_ms())
        self._table.touch()
