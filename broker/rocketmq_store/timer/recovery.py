"""Opening the timer files so that nothing that waits is lost, whoever wrote them and however that ended.

The timer topic's queue in the commit log is the truth; wheel and log are derived from it. A checkpoint of ours is one
moment's state, and everything in it was durable: later units are cut off, the chains that led to them are put back, and
the queue is read again from that moment on. Of files that Apache's broker left, the log is taken as far as it is whole,
and the queue offset follows from its last unit. Whatever does not fit together is thrown away and built anew from the
queue.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from rocketmq_common.files import FileSystem
from rocketmq_store.errors import StoreCorrupt
from rocketmq_store.timer.checkpoint import TimerCheckpoint
from rocketmq_store.timer.log import DIRECTORY, UNIT_SIZE, TimerLog, Unit
from rocketmq_store.timer.wheel import EMPTY, FILE_NAME, FILE_SIZE, NONE, Slot, TimerWheel


class TimerStart(msgspec.Struct, kw_only=True):
    """Where a timer service goes on.

    ``read``: the first slot number not delivered. ``queue_offset``: the next message of the timer topic to be read. Messages below
    ``doubtful_to`` may have younger copies in the queue, and what was due before ``doubtful_ms`` may have been delivered: the run
    before ended badly, or the wheel is built anew (``is_rebuilt``). ``known_to``: queue offset up to which all slots before
    ``read`` were delivered. ``last``: the youngest unit of the log, whose message was read.
    """

    read: int
    queue_offset: int
    doubtful_to: int = 0
    is_rebuilt: bool = False
    known_to: int = 0
    doubtful_ms: int = 0
    last: Unit | None = None
    note: str = ""


def files_exist(files: FileSystem, root: Path) -> bool:
    """Whether there is a wheel or a timer log in the store."""
    return bool(files.list(root / DIRECTORY)) or any(path.name == FILE_NAME for path in files.list(root))


def discard_files(files: FileSystem, root: Path) -> None:
    """Remove wheel and log; they are built anew when this broker next serves timers. Blocking. Raises OSError."""
    files.remove(root / FILE_NAME)
    for path in files.list(root / DIRECTORY):
        files.remove(path)


def recover(
    files: FileSystem,
    root: Path,
    segment_size: int,
    checkpoint: TimerCheckpoint | None,
    *,
    queue_span: tuple[int, int],
    precision_ms: int,
    log_end: int,
    store_timestamp_ms: int,
    is_unclean: bool,
) -> tuple[TimerWheel, TimerLog, TimerStart]:
    """Open wheel and log, made if need be. Blocking, on any thread.

    ``queue_span`` is the first and the end offset of the timer topic's queue, ``log_end`` the end of the commit log,
    ``store_timestamp_ms`` the store time of its last record.
    Raises OSError, StoreMisconfigured (another segment size).
    """
    queue_first, queue_end = queue_span
    is_complete = (
        checkpoint is not None and any(path.name == FILE_NAME for path in files.list(root))
        and files.size(root / FILE_NAME) == FILE_SIZE
    )  # fmt: skip
    if not is_complete:
        discard_files(files, root)
    try:
        log = TimerLog(files, root, segment_size)
    except StoreCorrupt:
        discard_files(files, root)
        log, is_complete = TimerLog(files, root, segment_size), False
    wheel = TimerWheel(files, root)
    read = 0 if checkpoint is None else max(checkpoint.read_ms, 0) // precision_ms
    start: TimerStart | None = None
    if is_complete and checkpoint is not None:
        if checkpoint.is_own:
            start = _from_own(wheel, log, checkpoint, read, precision_ms, log_end, is_unclean=is_unclean)
        else:
            start = _from_foreign(
                wheel, log, checkpoint, queue_span, read, precision_ms, log_end, is_unclean=is_unclean
            )
    if start is None:
        wheel.clear()
        log.clear()
        known_to = 0 if checkpoint is None else max(checkpoint.queue_offset, checkpoint.master_queue_offset)
        start = TimerStart(
            read=read, queue_offset=queue_first, is_rebuilt=True, known_to=known_to,
            note="" if queue_end == queue_first else f"built anew from {queue_end - queue_first} messages",
        )  # fmt: skip
    for number in [number for number in wheel.numbers(1) if number < start.read]:
        # Worked off. A message that comes late for it must not be chained to units that are gone, or others by now.
        wheel.put(number, EMPTY)
    if is_unclean or start.is_rebuilt:
        start.doubtful_ms, start.doubtful_to = store_timestamp_ms, queue_end
    start.queue_offset = min(max(start.queue_offset, queue_first), queue_end)
    return wheel, log, start


def _from_own(
    wheel: TimerWheel,
    log: TimerLog,
    checkpoint: TimerCheckpoint,
    read: int,
    precision_ms: int,
    log_end: int,
    *,
    is_unclean: bool,
) -> TimerStart | None:
    end = checkpoint.log_position
    if checkpoint.precision_ms != precision_ms or not log.begin <= end <= log.capacity:
        return None
    last = _before(log, end)
    if last is not None and last.offset + last.record_size > log_end:
        # The commit log was cut behind our back: it goes another way from somewhere on.
        return None
    if is_unclean and not _mend(wheel, log, end, read, precision_ms):
        return None
    log.cut(end)
    return TimerStart(read=read, queue_offset=checkpoint.queue_offset, last=last)


def _from_foreign(
    wheel: TimerWheel,
    log: TimerLog,
    checkpoint: TimerCheckpoint,
    queue_span: tuple[int, int],
    read: int,
    precision_ms: int,
    log_end: int,
    *,
    is_unclean: bool,
) -> TimerStart | None:
    if not log.begin <= checkpoint.log_position <= log.capacity:
        return None
    end, last = _whole_end(log, checkpoint.log_position, log_end)
    if not _mend(wheel, log, end, read, precision_ms):
        return None
    log.cut(end)
    # Messages that were due when they were read have no unit: only an orderly end says that there were some behind the last.
    if last is not None:
        offset = 0 if is_unclean else checkpoint.queue_offset
        return TimerStart(read=read, queue_offset=offset, last=last)
    if is_unclean and checkpoint.queue_offset > queue_span[0]:
        return None
    return TimerStart(read=read, queue_offset=checkpoint.queue_offset)


def _whole_end(log: TimerLog, position: int, log_end: int) -> tuple[int, Unit | None]:
    """(position after the last whole unit whose record is in the commit log, that unit), from ``position`` on."""
    end, last = position, _before(log, position)
    for found, unit in log.units_from(position):
        if unit.offset + unit.record_size > log_end:
            return end, last
        end, last = found + UNIT_SIZE, unit
    while last is not None and last.offset + last.record_size > log_end:
        end = log.position_before(end)
        last = _before(log, end)
    return end, last


def _before(log: TimerLog, position: int) -> Unit | None:
    unit = log.unit(log.position_before(position))
    return unit if unit is not None and unit.is_whole else None


def _mend(wheel: TimerWheel, log: TimerLog, end: int, read: int, precision_ms: int) -> bool:
    """Lead every chain back to units before ``end``; False when one is broken."""
    for number in wheel.numbers(read):
        slot = wheel.slot(number)
        position, count = slot.last, slot.waiting
        while position >= log.begin:
            unit = log.unit(position)
            if unit is None or not unit.is_whole or unit.slot_ms // precision_ms != number:
                return False
            if position < end:
                break
            position = unit.previous
            count -= 1
        if position != slot.last:
            wheel.put(number, Slot(slot.first if position != NONE else NONE, position, max(count, 0)))
    return True
