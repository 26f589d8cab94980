"""The key-value store and its file."""

from __future__ import annotations

import json

import pytest

from rocketmq_common.files import RealFiles
from rocketmq_namesrv import kv as kv_module
from rocketmq_namesrv.kv import KvConfig, KvConfigError


def store(tmp_path) -> KvConfig:
    kv = KvConfig(tmp_path / "deep" / "kvConfig.json", RealFiles())
    kv.load()
    return kv


def test_saved_values_are_there_after_a_restart(tmp_path):
    kv = store(tmp_path)
    kv.put("ns", "k", "v")
    kv.save(kv.document())
    assert json.loads(kv.path.read_text()) == {"configTable": {"ns": {"k": "v"}}}
    assert store(tmp_path).get("ns", "k") == "v"


def test_broken_file_falls_back_to_the_backup(tmp_path):
    kv = store(tmp_path)
    for value in ("1", "2"):
        kv.put("ns", "k", value)
        kv.save(kv.document())
    kv.path.write_text('{"configTable":{"ns":')
    assert store(tmp_path).get("ns", "k") == "1"
    kv.path.with_name("kvConfig.json.bak").write_text("nonsense")
    with pytest.raises(KvConfigError, match="repair it"):
        store(tmp_path)


def test_missing_file_is_an_empty_store(tmp_path):
    assert store(tmp_path).namespace("ns") is None


def test_namespace_outlives_its_last_key(tmp_path):
    kv = store(tmp_path)
    kv.put("ns", "k", "v")
    assert kv.delete("ns", "k")
    assert not kv.delete("ns", "k")
    assert kv.namespace("ns") == {}


def test_store_is_bounded_by_entries_and_by_value(tmp_path, monkeypatch):
    monkeypatch.setattr(kv_module, "ENTRIES_MAX", 1)
    kv = store(tmp_path)
    kv.put("ns", "k", "v")
    kv.put("ns", "k", "again")
    with pytest.raises(KvConfigError, match="delete some"):
        kv.put("ns", "other", "v")
    kv.delete("ns", "k")
    kv.put("ns", "other", "v")
    with pytest.raises(KvConfigError, match="characters"):
        kv.put("ns", "other", "v" * (kv_module.VALUE_LENGTH_MAX + 1))


def test_revision_grows_with_each_change(tmp_path):
    kv = store(tmp_path)
    kv.put("ns", "k", "v")
    first = kv.revision
    kv.delete("ns", "k")
    assert kv.revision > first
