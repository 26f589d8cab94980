"""Which part of the index survives a restart, and from where the log must be indexed again."""

from __future__ import annotations

from rocketmq_store.checkpoint import ApacheCheckpoint, IndexHint
from rocketmq_store.index import Index


def restore_index(
    index: Index, hint: IndexHint | None, apache: ApacheCheckpoint, *, is_usable: bool, is_unclean: bool
) -> int | None:
    """Bring the index files to a state that is known to be durable.

    Returns the log offset from which messages must be indexed, or ``None`` after removing all files: then it is the log's
    beginning.
    """
    if is_usable and hint is not None:
        start = _restore_by_hint(index, hint, is_unclean=is_unclean)
    elif is_usable:
        start = _restore_by_apache(index, apache, is_unclean=is_unclean)
    else:
        start = None
    if start is None:
        index.clear()
    return start


def _restore_by_hint(index: Index, hint: IndexHint, *, is_unclean: bool) -> int | None:
    while len(index.files) > hint.file_total:
        index.remove_last()
    if not hint.file_total:
        return hint.built_offset
    if len(index.files) < hint.file_total:
        return None
    last = index.files[-1]
    older_total = sum(file.count - 1 for file in index.files[:-1])
    if (
        int(last.path.name) != hint.file_name
        or last.count < hint.count
        or older_total + hint.count - 1 != hint.entry_total
    ):
        return None
    # After a power loss slots may be younger than the header, so the header alone proves nothing.
    if is_unclean or last.count != hint.count or last.end_offset != hint.end_offset:
        last.rewind(hint.count, hint.used_slots, hint.end_offset, hint.end_ms)
    return hint.built_offset


def _restore_by_apache(index: Index, apache: ApacheCheckpoint, *, is_unclean: bool) -> int | None:
    if is_unclean and index.files:
        # The youngest is never trusted: a power loss may have kept slots and lost the entries that they name.
        index.remove_last()
        while index.files and index.files[-1].end_ms > apache.index_timestamp_ms:
            index.remove_last()
    if not index.files:
        return None
    # The record there is indexed once more: it begins a record, which the byte behind it need not.
    return int(index.files[-1].end_offset)
