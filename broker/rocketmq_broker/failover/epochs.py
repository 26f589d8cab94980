"""The history of masters of one log: which epoch began at which offset. It tells where two replicas' logs part.

Text file ``epochFileCheckpoint`` as Apache's EpochFileCache writes it: number of entries, CRC-32 (31 bits) of the rest, then
``epoch-startOffset`` a line. An unreadable main file is replaced by its ``.bak``.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from rocketmq_common.files import FileSystem
from rocketmq_common.records import CRC_MASK
from rocketmq_store.errors import StoreError

FILE_NAME = "epochFileCheckpoint"
# The oldest go first: what is so old has left every log.
EPOCH_COUNT_MAX = 4096


class EpochFileDamaged(StoreError):
    """Neither the file nor its copy can be read: this replica must not lead before it followed a master again."""


class Epoch(NamedTuple):
    """``start`` is the log offset of the first byte that the master of ``number`` wrote."""

    number: int
    start: int


def encode_epochs(epochs: tuple[Epoch, ...]) -> bytes:
    """The file's content."""
    body = "".join(f"{epoch.number}-{epoch.start}\n" for epoch in epochs)
    return f"{len(epochs)}\n{crc32(body.encode()) & CRC_MASK}\n{body}".encode()


def decode_epochs(content: bytes) -> tuple[Epoch, ...]:
    """Raises ValueError for anything that `encode_epochs` or Apache would not write. A checksum of 0 is not checked."""
    count, checksum, *lines = content.decode("ascii").splitlines()
    body = "".join(f"{line}\n" for line in lines)
    if int(checksum) and int(checksum) != crc32(body.encode()) & CRC_MASK:
        raise ValueError("the checksum does not agree")
    epochs = tuple(Epoch(*map(int, line.split("-"))) for line in lines)
    if len(epochs) != int(count) or list(epochs) != sorted(epochs):
        raise ValueError(f"{count} ascending entries should follow")
    return epochs


def consistent_point(own: tuple[Epoch, ...], own_end: int, other: tuple[Epoch, ...], other_end: int) -> int | None:
    """Up to which offset two logs are the same for certain: the end of the newest epoch that both know; ``None`` without one."""
    common = set(own) & set(other)
    if not common:
        return None
    newest = max(common)
    # A history is adopted whole, so it may tell of epochs that this log has not reached yet.
    return min(_end_of(newest, own, own_end), _end_of(newest, other, other_end), own_end, other_end)


def _end_of(epoch: Epoch, history: tuple[Epoch, ...], log_end: int) -> int:
    return min((later.start for later in history if later.number > epoch.number), default=log_end)


class EpochHistory:
    """The history of this replica's log, kept on disk; blocking, but it changes only with a master."""

    def __init__(self, files: FileSystem, root: Path) -> None:
        self._files = files
        self._path = root / FILE_NAME
        self.epochs: tuple[Epoch, ...] = ()

    @property
    def newest(self) -> int:
        """The last epoch's number; 0 without any."""
        return self.epochs[-1].number if self.epochs else 0

    @property
    def start(self) -> int:
        """Where the last epoch began."""
        return self.epochs[-1].start if self.epochs else 0

    def load(self) -> None:
        """Read the file. Raises EpochFileDamaged."""
        problem = ""
        for path in (self._path, self._path.with_name(f"{FILE_NAME}.bak")):
            try:
                self.epochs = decode_epochs(self._files.read(path))
            except FileNotFoundError:
                continue
            except (ValueError, TypeError) as error:
                problem = problem or f"{path}: {error}"
            else:
                return
        if problem:
            raise EpochFileDamaged(f"{problem}: remove it to have this replica follow a master anew")

    def begin(self, number: int, log_end: int, log_min: int) -> None:
        """This replica is master of a new epoch from ``log_end`` on. Raises OSError."""
        kept = tuple(epoch for epoch in self.epochs if epoch.start < log_end)
        if not kept and log_end > log_min:
            # A log from before the first election; slaves that followed then hold a part of it.
            kept = (Epoch(0, 0),)
        self._save((*kept, Epoch(number, log_end)))

    def adopt(self, epochs: tuple[Epoch, ...]) -> None:
        """Take the history of a master whose log continues this one. Raises OSError."""
        if epochs != self.epochs:
            self._save(epochs)

    def _save(self, epochs: tuple[Epoch, ...]) -> None:
        epochs = epochs[-EPOCH_COUNT_MAX:]
        self._files.replace(self._path, encode_epochs(epochs))
        self.epochs = epochs
