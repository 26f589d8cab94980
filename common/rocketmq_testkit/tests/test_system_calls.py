"""The order and completeness of the real file system's calls, seen from below."""

from __future__ import annotations

import errno

import pytest

from rocketmq_common.files import RealFiles
from rocketmq_testkit.system_calls import FailingCalls


def test_a_replaced_file_is_durable_before_it_has_its_name_and_the_name_after(tmp_path):
    path = tmp_path / "topics.json"
    path.write_bytes(b"old")
    with FailingCalls().installed() as calls:
        RealFiles().replace(path, b"new")
    names = [call.name for call in calls.trace]
    assert names == ["write", "fsync", "link", "replace", "replace", "fsync"]
    assert calls.trace[1].path.startswith(f"{path}.tmp.")
    assert calls.trace[-1].path == str(tmp_path)


def test_a_mapped_file_has_its_blocks_and_its_name_before_it_is_used(tmp_path):
    with FailingCalls().installed() as calls:
        RealFiles().map_file(tmp_path / "segment", 8192, create=True).close()
    assert [(call.name, call.path) for call in calls.trace] == [
        ("posix_fallocate", str(tmp_path / "segment")),
        ("fsync", str(tmp_path / "segment")),
        ("fsync", str(tmp_path)),
    ]


def test_a_removed_file_is_gone_for_good(tmp_path):
    (tmp_path / "old").write_bytes(b"x")
    with FailingCalls().installed() as calls:
        RealFiles().remove(tmp_path / "old")
    assert [call.name for call in calls.trace] == ["unlink", "fsync"]


def test_a_kernel_that_takes_only_part_of_a_write_gets_the_rest(tmp_path):
    files, data = RealFiles(), bytes(range(256)) * 20
    mapping = files.map_file(tmp_path / "segment", 8192, create=True)
    mapping.buffer[:] = b"\1" * 8192
    with FailingCalls().installed() as calls:
        calls.writes_short = True
        files.replace(tmp_path / "table", data)
        mapping.zero(0, 8192)
    assert (tmp_path / "table").read_bytes() == data
    assert bytes(mapping.buffer) == bytes(8192)
    assert calls.counts["write"] > 1
    assert calls.counts["pwrite"] > 1
    mapping.close()


@pytest.mark.parametrize("name", ["write", "fsync", "link", "replace"])
def test_a_table_keeps_its_old_content_whatever_call_fails(tmp_path, name):
    path = tmp_path / "topics.json"
    path.write_bytes(b"old")
    with FailingCalls().installed() as calls:
        calls.fail(name, 1, errno.ENOSPC)
        with pytest.raises(OSError, match="fails as planned"):
            RealFiles().replace(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir() if ".tmp." in p.name and not p.name.startswith("topics.json.bak")] == []
