"""Records of a log whose queue offset does not fit: damaged in that field, or of a queue that really goes on elsewhere?

No checksum of Apache's format covers the queue offset of a record, nor its topic and queue number. Within a log, offsets of a
queue are dense, or begin anew at 0 with a topic that was deleted. So a record that does not follow the one before it is kept until
the next record of its queue tells: if that one goes on as though the odd one had stood where it should, the odd one is damaged, and
is left out of its queue rather than delivered as another message. Otherwise the queue did go on elsewhere, and both are taken as
they say.
"""

from __future__ import annotations

from collections.abc import Callable

from rocketmq_store.consume_queues import ConsumeQueue
from rocketmq_store.scanning import Scanned


class QueueOrder:
    """One pass over a log. ``dispatch`` puts a record into its queue at an offset; ``note`` tells of what was left out."""

    def __init__(
        self,
        dispatch: Callable[[ConsumeQueue, int, Scanned], None],
        leave_blank: Callable[[ConsumeQueue, int], None],
        note: Callable[[str], None],
        *,
        is_rebuild: bool,
    ) -> None:
        self._dispatch = dispatch
        self._leave_blank = leave_blank
        self._note = note
        self._is_rebuild = is_rebuild
        self._expected: dict[int, int] = {}
        self._odd: dict[int, tuple[ConsumeQueue, Scanned]] = {}

    def place(self, queue: ConsumeQueue, record: Scanned) -> None:
        """Dispatch ``record``, or keep it until the next record of its queue comes. Raises what ``dispatch`` raises."""
        key, offset = id(queue), record.queue_offset
        expected = self._expected.get(key)
        if self._odd and expected is not None:
            expected = self._judge(key, expected, offset)
        if expected is None:
            known = None if self._is_rebuild else _entry_of(queue, record)
            if known is not None and known != offset:
                self._leave_out(queue, record, known)
                self._expected[key] = known + 1
                return
        elif offset != expected:
            self._odd[key] = queue, record
            self._expected[key] = expected
            return
        self._dispatch(queue, offset, record)
        self._expected[key] = offset + 1

    def finish(self) -> None:
        """The end of the log: an odd record that is the last of its queue is left out, unless a topic may begin anew with it."""
        for key, (queue, record) in self._odd.items():
            if record.queue_offset == 0:
                self._dispatch(queue, 0, record)
            else:
                self._leave_out(queue, record, self._expected[key])
        self._odd.clear()

    def _judge(self, key: int, expected: int, offset: int) -> int:
        """What is expected now, after the next offset of the queue told about the record that is kept, if there is one."""
        queue, record = self._odd.pop(key, (None, None))
        if queue is None or record is None:
            return expected
        if offset == expected + 1:
            self._leave_out(queue, record, expected)
            return offset
        if offset == expected:
            # It came from another queue: here nothing is missing.
            self._note(
                f"record at {record.physical_offset} is of no queue: {_told(queue, record)}; it stays in the log only"
            )
            return expected
        self._dispatch(queue, record.queue_offset, record)
        return record.queue_offset + 1

    def _leave_out(self, queue: ConsumeQueue, record: Scanned, place: int) -> None:
        self._note(
            f"record at {record.physical_offset} is damaged: {_told(queue, record)}, where {place} follows; it stays in the log "
            "only"
        )
        if queue.end == place:
            self._leave_blank(queue, place + 1)


def _told(queue: ConsumeQueue, record: Scanned) -> str:
    return f"it says {queue.topic} queue {queue.queue_id} offset {record.queue_offset}"


def _entry_of(queue: ConsumeQueue, record: Scanned) -> int | None:
    """The entry on disk that names ``record``."""
    if not queue.segment_firsts or queue.log_end <= record.physical_offset:
        return None
    offset = queue.first_at_or_after(record.physical_offset)
    return offset if offset < queue.end and queue.unit(offset)[0] == record.physical_offset else None
