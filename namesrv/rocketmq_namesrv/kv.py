"""The key-value store of a name server: small, in memory, durable in one JSON file of Apache's form (kvConfig.json)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from rocketmq_common import javajson
from rocketmq_common.files import FileSystem

ENTRIES_MAX: Final = 100_000
VALUE_LENGTH_MAX: Final = 64 * 1024  # characters


class KvConfigError(ValueError):
    """The file cannot be used, or the store is full; the message says what to do."""


class _Document(msgspec.Struct, rename="camel"):
    config_table: dict[str, dict[str, str]] = {}


class KvConfig:
    """Namespaces of keys. Changes are made in memory by `put` and `delete`; `document` is what `save` writes.

    The two steps are apart so that the event loop changes and an I/O thread writes.
    """

    def __init__(self, path: Path, files: FileSystem) -> None:
        self._path = path
        self._files = files
        self._table: dict[str, dict[str, str]] = {}
        self._entry_count = 0
        self.revision = 0

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def load(self) -> None:
        """Read the file, or its ``.bak`` when it is broken; a missing one is an empty store. Raises KvConfigError, OSError."""
        backup = self._path.with_name(self._path.name + ".bak")
        problem: Exception | None = None
        for path in (self._path, backup):
            try:
                raw = javajson.loads(self._files.read(path))
                table = msgspec.convert(raw, _Document, strict=False).config_table
            except FileNotFoundError:
                continue
            except (javajson.JavaJsonError, msgspec.ValidationError) as error:
                problem = problem or error
                continue
            self._table = table
            self._entry_count = sum(map(len, table.values()))
            return
        if problem is not None:
            raise KvConfigError(f"{self._path}: {problem}: repair it, or move it away to start with an empty one")

    def get(self, namespace: str, key: str) -> str | None:
        """The value, or ``None``."""
        return self._table.get(namespace, {}).get(key)

    def namespace(self, namespace: str) -> Mapping[str, str] | None:
        """All of a namespace, or ``None`` when it was never used."""
        return self._table.get(namespace)

    def put(self, namespace: str, key: str, value: str) -> None:
        """Set a value; raises KvConfigError when a bound is reached."""
        if len(value) > VALUE_LENGTH_MAX:
            raise KvConfigError(
                f"the value of {namespace}/{key} has {len(value)} characters, {VALUE_LENGTH_MAX} are allowed"
            )
        table = self._table.get(namespace)
        if table is None or key not in table:
            if self._entry_count >= ENTRIES_MAX:
                raise KvConfigError(f"{ENTRIES_MAX} keys are stored already; delete some")
            self._entry_count += 1
        self._table.setdefault(namespace, {})[key] = value
        self.revision += 1

    def delete(self, namespace: str, key: str) -> bool:
        """Remove a key; whether it was there. The namespace stays, as with Apache."""
        if self._table.get(namespace, {}).pop(key, None) is None:
            return False
        self._entry_count -= 1
        self.revision += 1
        return True

    def document(self) -> bytes:
        """The file's content now."""
        return javajson.dumps(_Document(self._table))

    def save(self, document: bytes) -> None:
        """Make ``document`` the file's content, durably; blocks. Raises OSError."""
        self._files.make_directory(self._path.parent)
        self._files.replace(self._path, document)
