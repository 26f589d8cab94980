"""What can go wrong with a store: every error names the file, the finding and the remedy in one line."""

from __future__ import annotations


class StoreError(Exception):
    """A store that cannot be opened or used."""


class StoreLocked(StoreError):
    """Another process (or another store of this process) holds the directory."""


class StoreMisconfigured(StoreError):
    """Files on disk do not fit the configuration, for instance their size."""


class StoreCorrupt(StoreError):
    """Damage that recovery must not repair by dropping data without being told to."""


class StorePoisoned(StoreError):
    """A sync failed: what reached the disk is unknown, so the process must end and recover."""


class StoreClosed(StoreError):
    """The store was closed, or was not opened yet."""
