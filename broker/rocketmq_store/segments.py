"""Fixed-size files named by the offset of their first byte: the form of commit log and consume queues alike."""

from __future__ import annotations

from pathlib import Path

from rocketmq_common.files import FileSystem, Mapping
from rocketmq_store.errors import StoreCorrupt, StoreMisconfigured

NAME_DIGITS = 20


def segment_name(offset: int) -> str:
    """File name of the segment that starts at byte ``offset``."""
    return f"{offset:0{NAME_DIGITS}d}"


def list_segments(files: FileSystem, directory: Path, size: int, key: str) -> list[int]:
    """Start offsets of the segments in ``directory``, ascending and without gaps.

    A last file that a crash left half allocated is removed: it was never used. Raises StoreMisconfigured when a
    file has another length than ``size`` (the setting called ``key``), StoreCorrupt when one in the middle is missing or empty.
    """
    paths = [p for p in files.list(directory) if len(p.name) == NAME_DIGITS and p.name.isdecimal()]
    if paths and _is_unfinished(files, paths[-1], size):
        files.remove(paths.pop())
    offsets: list[int] = []
    for path in paths:
        found = files.size(path)
        if found == 0:
            raise StoreCorrupt(f"{path} is empty although later ones follow: restore it from a replica")
        if found != size:
            raise StoreMisconfigured(
                f"{path} has {found} bytes but {key} is {size}: set {key}={found} if the store was made so, "
                "or restore the file from a replica"
            )
        offset = int(path.name)
        if offsets and offset != offsets[-1] + size:
            raise StoreCorrupt(
                f"{directory / segment_name(offsets[-1] + size)} is missing between its neighbours: restore it from a "
                "replica, or move the older segments away to go on without them"
            )
        offsets.append(offset)
    return offsets


def _is_unfinished(files: FileSystem, path: Path, size: int) -> bool:
    found = files.size(path)
    if found == 0 or found >= size:
        return found == 0
    # Whatever was used begins with a record or an entry; a file that lost its end to something else does so too.
    mapping = files.map_file(path, found, create=False)
    is_empty = not any(mapping.buffer[:20])
    mapping.close()
    return is_empty


class Segment:
    """One file of the commit log, mapped on first use.

    Slices of `view` stay valid while they are referenced: unmapping and even unlinking the file wait for the last of them.
    """

    __slots__ = ("_files", "_mapping", "base", "path", "size", "zeroed_to")

    def __init__(self, files: FileSystem, directory: Path, base: int, size: int) -> None:
        self._files = files
        self._mapping: Mapping | None = None
        self.path = directory / segment_name(base)
        self.base = base
        self.size = size
        # Bytes before this position need no metadata commit when they are overwritten and synced.
        self.zeroed_to = 0

    @property
    def end(self) -> int:
        """Log offset after the segment."""
        return self.base + self.size

    @property
    def mapping(self) -> Mapping:
        """The mapping, made when it is first asked for. Raises OSError."""
        mapping = self._mapping
        if mapping is None:
            mapping = self._mapping = self._files.map_file(self.path, self.size, create=False)
        return mapping

    @property
    def view(self) -> memoryview:
        """All bytes of the segment."""
        return self.mapping.buffer

    def create(self) -> None:
        """Allocate and map the file; it and its directory entry are durable on return. Raises OSError."""
        self._mapping = self._files.map_file(self.path, self.size, create=True)

    def zero(self, start: int, length: int) -> None:
        """Write zeros over unused bytes ahead of the append. Raises OSError."""
        self.mapping.zero(start, length)
        self.zeroed_to = start + length

    def rewrite(self, start: int, length: int) -> None:
        """Have the next `sync` write a range again, even if an earlier one failed. Raises OSError."""
        self.mapping.rewrite(start, length)

    def sync(self) -> None:
        """Make everything written so far durable. Raises OSError."""
        if self._mapping is not None:
            self._mapping.sync()
        else:
            self._files.sync_file(self.path)

    def close(self) -> None:
        """Unmap; a later use maps again."""
        if self._mapping is not None:
            self._mapping.close()
            self._mapping = None

    def remove(self) -> None:
        """Unmap and unlink."""
        self.close()
        self._files.remove(self.path)
