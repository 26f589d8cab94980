"""One bit changes in one file of a closed or a killed store: never a wrong body, never a start that hangs, never in silence."""

from __future__ import annotations

import json
import logging
import random
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from e2e.chaos.outcomes import Outcome, Scale
from rocketmq_broker.durable import TableError, load_table
from rocketmq_common.batches import BatchEntry, encode_batch
from rocketmq_common.tables import encode_table
from rocketmq_store.appending import NewMessage
from rocketmq_store.errors import StoreError
from rocketmq_store.tests.harness import Harness, properties
from rocketmq_testkit.memory_files import Loss, MemoryFiles

TRIALS: Final = (2500, 60_000)
START_S_MAX: Final = 10.0
QUEUE_COUNT: Final = 3
MESSAGE_COUNT: Final = 64
TABLE: Final = "config/topics.json"
# Files by what they are for; the lock file is real, its content means nothing and is tried in the store's own tests.
KINDS: Final = ("commitlog", "consumequeue", "index", "checkpoint", "config", "abort")
SETTINGS: Final[dict[str, Any]] = {
    "commit_log_segment_size": 8192,
    "consume_queue_segment_size": 400,
    "index_slot_count": 23,
    "index_entry_count": 400,
}


class Base(NamedTuple):
    """A store to damage; ``bodies`` are those of (queue id, queue offset)."""

    name: str
    files: MemoryFiles
    bodies: dict[tuple[int, int], bytes]


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def _log_lines(name: str = "rocketmq_store") -> Iterator[list[str]]:
    """What the packages of this name report meanwhile; nothing is printed."""
    handler, logger, disabled = _Lines(), logging.getLogger(name), logging.root.manager.disable
    logging.disable(logging.NOTSET)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        logging.disable(disabled)


def run(directory: Path, scale: Scale) -> Outcome:
    """Flip bits in every kind of file, in stores that were closed in order and in killed ones."""
    outcome, chance = Outcome(), random.Random(scale.seed)
    (directory / "copy").mkdir()
    bases = [_base(directory, end) for end in ("closed", "killed", "killed after a checkpoint")]
    reported = delivered = 0
    for number in range(scale.of(*TRIALS)):
        base, kind = bases[number % len(bases)], KINDS[number // len(bases) % len(KINDS)]
        found = _trial(directory / "copy", base, kind, chance, outcome)
        reported += found is not None and found > 0
        delivered += found == 0
        if len(outcome.problems) > 5:
            break
    outcome.notes.append(f"{delivered} flips left every message readable, {reported} were reported")
    return outcome


def _base(directory: Path, end: str) -> Base:
    root = directory / end.replace(" ", "-")
    root.mkdir()
    files = MemoryFiles(root)
    harness = Harness(root, files=files, **SETTINGS)
    harness.open()
    bodies: dict[tuple[int, int], bytes] = {}
    for number in range(0, MESSAGE_COUNT, 4):
        queue_id = number % QUEUE_COUNT
        entries = [BatchEntry(0, _body(n), properties(n)) for n in range(number, number + 3)]
        batch = harness.store.append_batch(NewMessage("T", queue_id, encode_batch(entries)))
        bodies |= {(queue_id, batch.queue_offset + i): entry.body for i, entry in enumerate(entries)}
        single = harness.store.append(NewMessage("T", queue_id, _body(number + 3), properties(number + 3)))
        bodies[queue_id, single.queue_offset] = _body(number + 3)
    files.make_directory(root / "config")
    for generation in range(2):  # so that there is a backup
        files.replace(root / TABLE, encode_table(json.dumps(_table(generation)).encode(), generation))
    while harness.store.build_index():
        pass
    if "checkpoint" in end:
        harness.checkpoint()
    if end == "closed":
        harness.close()
    else:
        harness.pump()
    image = files.crash(directory / "copy", Loss.NONE, random.Random(0))
    if end != "closed":
        harness.abandon()
    return Base(end, image, bodies)


def _table(generation: int) -> dict[str, Any]:
    return {"topicConfigTable": {f"T{number}": {"perm": 6} for number in range(generation + 3)}}


def _body(number: int) -> bytes:
    return f"{number}:".encode().ljust(40 + number * 7 % 200, b"abcdefgh"[number % 8 : number % 8 + 1])


def _trial(root: Path, base: Base, kind: str, chance: random.Random, outcome: Outcome) -> int | None:
    """Flip one bit and use the store; how many messages are missing, ``None`` when there was nothing to flip."""
    files = base.files.crash(root, Loss.NONE, chance)
    paths = [p for p in files.paths() if kind in p.relative_to(root).parts and files.size(p)]
    if not paths:
        return None
    path = chance.choice(paths)
    content = files.read(path)
    # Mostly where something stands; a bit in unused space must be harmless too.
    used = len(content.rstrip(b"\0"))
    position = chance.randrange(used) if used and chance.random() < 0.9 else chance.randrange(len(content))
    mask = 1 << chance.randrange(8)
    files.flip(path, position, mask)
    outcome.runs += 1
    label = f"{base.name}: bit {mask:#04x} of byte {position} of {path.relative_to(root)}"
    with _log_lines() as lines:
        missing = _use(root, files, base, label, outcome)
    if kind == "config":
        missing += _use_table(root, files, label, outcome)
    if missing > 0 and kind != "config" and not any(str(root) in line for line in lines):
        outcome.errors.append(f"{label}: {missing} messages are missing and no line names a file")
    return abs(missing)


def _use(root: Path, files: MemoryFiles, base: Base, label: str, outcome: Outcome) -> int:
    """Open and read all; how many messages are not delivered; -1 when the start was refused with a reason."""
    harness = Harness(root, files=files, **SETTINGS)
    started = time.monotonic()
    try:
        harness.open()
    except StoreError as error:
        if str(root) not in str(error):
            outcome.errors.append(f"{label}: refused without naming a file: {error}")
        return -1
    finally:
        if time.monotonic() - started > START_S_MAX:
            outcome.errors.append(f"{label}: the start took {time.monotonic() - started:.1f} s")
    found: set[tuple[int, int]] = set()
    try:
        for queue_id in range(QUEUE_COUNT):
            for offset, body in _read(harness, queue_id):
                place = (queue_id, offset)
                if base.bodies.get(place) != body:
                    outcome.phantoms.append(f"{label}: {place} was delivered with another body")
                found.add(place)
    except AssertionError as error:
        outcome.errors.append(f"{label}: reading does not go on: {error}")
    finally:
        harness.abandon()
    return len(base.bodies.keys() - found)


def _read(harness: Harness, queue_id: int) -> Iterator[tuple[int, bytes]]:
    """Queue offset and body of everything that a consumer would get. Properties have no checksum and are not judged."""
    bounds = harness.store.queue_bounds("T", queue_id)
    offset = bounds.min_offset if bounds is not None else 0
    while bounds is not None and offset < bounds.max_offset:
        got = harness.store.get_messages("T", queue_id, offset, 32)
        for buffer in got.buffers:
            position = 0
            while position < len(buffer):
                size, _, _, _, _, queue_offset = struct.unpack_from(">iIiiiq", buffer, position)
                (body_size,) = struct.unpack_from(">i", buffer, position + 84)
                yield queue_offset, bytes(buffer[position + 88 : position + 88 + body_size])
                assert size > 0
                position += size
        assert got.next_offset > offset, got
        offset = got.next_offset


def _use_table(root: Path, files: MemoryFiles, label: str, outcome: Outcome) -> int:
    """The table is read as it was written, or the generation before it is and a line says so; 1 in the second case."""
    with _log_lines("rocketmq_broker") as lines:
        try:
            content, generation = load_table(files, root / TABLE)
        except TableError as error:
            outcome.errors.append(f"{label}: one generation is whole, but the start is refused: {error}")
            return 1
    # A bit of the checksum's name makes it an entry that nobody knows.
    found = {key: value for key, value in content.items() if key in _table(0)}
    if found not in (_table(1), _table(0)) or (generation and found != _table(generation)):
        outcome.phantoms.append(f"{label}: a table was read that nobody wrote: {content}")
    is_older = found == _table(0)
    if is_older and not any(str(root / TABLE) in line for line in lines):
        outcome.errors.append(f"{label}: the generation before is used in silence")
    return int(is_older)
