"""Directories that Apache's broker 5.5 wrote (see golden/README.md) open here, and nothing of them is lost."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from rocketmq_common.records import StoredMessage, decode_message, decode_messages
from rocketmq_store.tests.harness import Harness

GOLDEN = Path(__file__).parent / "golden"


class ApacheStore:
    """A copy of one recorded directory, with what was sent and received when it was made."""

    def __init__(self, name: str, root: Path) -> None:
        self.facts: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
        with tarfile.open(GOLDEN / f"{name}.tar.gz") as archive:
            archive.extractall(root, filter="data")
        wanted = self.facts["settings"]
        self.harness = Harness(
            root,
            commit_log_segment_size=int(wanted["mappedFileSizeCommitLog"]),
            consume_queue_segment_size=int(wanted["mappedFileSizeConsumeQueue"]),
            index_slot_count=int(wanted["maxHashSlotNum"]),
            index_entry_count=int(wanted["maxIndexNum"]),
            message_delay_level=wanted["messageDelayLevel"],
        )
        self.topic: str = self.facts["topic"]

    def check(self) -> None:
        """Bounds, every message and every hit by key are as Apache's own consumer saw them."""
        store = self.harness.store
        for queue_id, expected in self.facts["queue_offsets"].items():
            bounds = store.queue_bounds(self.topic, int(queue_id))
            assert bounds is not None
            assert (bounds.min_offset, bounds.max_offset) == (expected["min"], expected["max"])
            assert store.earliest_store_time(self.topic, int(queue_id)) == expected["earliest_ms"]
        received = self.facts["received"]
        assert received
        for fact in received:
            record = store.message_at(fact["physical_offset"])
            assert record is not None
            message = decode_message(record, check_crc=True)
            assert message.queue_id == fact["queue_id"]
            assert message.queue_offset == fact["queue_offset"]
            assert message.store_timestamp == fact["store_timestamp"]
            assert message.size == fact["store_size"]
            assert message.property_map().get("UNIQ_KEY") == fact["message_id"]
            found = store.query(self.topic, fact["message_id"], 4).records
            assert [decode_message(record).physical_offset for record in found] == [fact["physical_offset"]]
        for key, count in self.facts["found_by_key"].items():
            hits = store.query(self.topic, key, 32).records
            assert len(hits) == count, key

    def consumed(self) -> list[StoredMessage]:
        return [m for queue_id in self.facts["queue_offsets"] for m in self.harness.messages(self.topic, int(queue_id))]


@pytest.fixture(params=["apache-5.5-clean", "apache-5.5-killed"])
def apache(request, tmp_path):
    store = ApacheStore(request.param, tmp_path / "store")
    yield store
    store.harness.close()


def test_everything_that_apache_stored_is_read_as_apache_read_it(apache):
    report = apache.harness.open()
    assert report.mode == ("clean" if apache.facts["ended_by"] == "SIGTERM" else "unclean")
    assert not report.rebuilt_queues, report.notes
    apache.check()
    assert len(apache.consumed()) == sum(q["max"] - q["min"] for q in apache.facts["queue_offsets"].values())


def test_what_we_add_follows_and_survives(apache):
    apache.harness.open()
    before = apache.harness.store.queue_bounds(apache.topic, 0).max_offset
    assert apache.harness.put_ok(1, 0, apache.topic).queue_offset == before
    apache.harness.close()
    apache.harness.open()
    assert apache.harness.store.queue_bounds(apache.topic, 0).max_offset == before + 1
    apache.facts["queue_offsets"]["0"]["max"] += 1
    apache.check()


@pytest.mark.parametrize("missing", ["consumequeue", "index"])
def test_derived_files_rebuilt_by_us_hold_the_same(apache, missing):
    original = {
        path.relative_to(apache.harness.root): path.read_bytes()
        for path in (apache.harness.root / "consumequeue").rglob("0*")
        if path.is_file()
    }
    shutil.rmtree(apache.harness.root / missing)
    apache.harness.open()
    apache.check()
    if missing == "consumequeue":
        for path, data in original.items():
            assert (apache.harness.root / path).read_bytes() == data, path


def test_filters_by_tag_agree_with_the_tags_apache_delivered(apache):
    apache.harness.open()
    expected = sorted(fact["physical_offset"] for fact in apache.facts["received"] if fact.get("tags") == "TagB")
    found = []
    for queue_id, bounds in apache.facts["queue_offsets"].items():
        offset = bounds["min"]
        while offset < bounds["max"]:
            got = apache.harness.store.get_messages(apache.topic, int(queue_id), offset, 32, tags_codes={2598920})
            found += [m.physical_offset for buffer in got.buffers for m in decode_messages(buffer)]
            offset = got.next_offset
    assert sorted(found) == expected
