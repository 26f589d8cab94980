"""The real file system behind its seam."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rocketmq_common.files import RealFiles

files = RealFiles()


def test_replace_keeps_the_previous_content_as_backup(tmp_path: Path) -> None:
    path = tmp_path / "topics.json"
    files.replace(path, b"one")
    files.replace(path, b"two")
    assert (path.read_bytes(), (tmp_path / "topics.json.bak").read_bytes()) == (b"two", b"one")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["topics.json", "topics.json.bak"]


def test_a_failed_replace_leaves_the_old_content_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "topics.json"
    files.replace(path, b"one")

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="broken disk"):
        files.replace(path, b"two")
    assert [p.name for p in tmp_path.iterdir()] == ["topics.json"]
    assert path.read_bytes() == b"one"


def test_a_mapping_is_allocated_in_full_and_writes_reach_the_file(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    mapping = files.map_file(path, 8192, create=True)
    mapping.buffer[0:3] = b"abc"
    mapping.sync()
    assert path.read_bytes()[:4] == b"abc\0"
    assert path.stat().st_blocks * 512 >= 8192
    mapping.close()


def test_slices_outlive_the_close_of_their_mapping(tmp_path: Path) -> None:
    mapping = files.map_file(tmp_path / "segment", 4096, create=True)
    mapping.buffer[0:3] = b"abc"
    view = mapping.buffer[0:3]
    mapping.close()
    assert bytes(view) == b"abc"


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    path.write_bytes(b"x" * 100)
    with pytest.raises(OSError, match="is 100 bytes, configured are 4096"):
        files.map_file(path, 4096, create=False)


def test_a_truncated_tail_reads_as_zeros(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    path.write_bytes(b"x" * 4096)
    files.truncate_tail(path, 10, 4096)
    assert path.read_bytes() == b"x" * 10 + bytes(4086)


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    files.remove(tmp_path / "none")
    files.remove_directory(tmp_path / "none")
    assert files.list(tmp_path / "none") == []
