"""Opening after clean and unclean ends, and with parts missing."""

from __future__ import annotations

import shutil

import pytest

from rocketmq_common.records import decode_message
from rocketmq_store.errors import StoreCorrupt, StoreError, StoreMisconfigured
from rocketmq_store.settings import CorruptLogPolicy
from rocketmq_store.tests.harness import Harness, properties


def copy_of(harness: Harness, target, **settings) -> Harness:
    """The directory as a kill -9 would leave it, opened by another store."""
    shutil.copytree(harness.root, target)
    return Harness(target, sync=harness.settings.is_sync_flush, **settings)


@pytest.fixture
def filled(tmp_path):
    harness = Harness(tmp_path / "store")
    harness.open()
    for number in range(1000):
        harness.put_ok(number, number % 4)
    while harness.store.build_index():
        pass
    yield harness
    harness.close()


def check(harness: Harness, count: int = 1000) -> None:
    for queue_id in range(4):
        assert harness.numbers(queue_id=queue_id) == list(range(queue_id, count, 4))
    assert harness.find(7) == [7]
    assert harness.find(count - 1) == [count - 1]


def test_clean_restart_scans_nothing_and_keeps_everything(filled):
    filled.close()
    report = filled.open()
    assert (report.mode, report.scanned_bytes, report.dispatched_count) == ("clean", 0, 0)
    check(filled)
    assert filled.put_ok(1000).queue_offset == 250


def test_killed_store_keeps_everything_that_was_written(filled, tmp_path):
    copy = copy_of(filled, tmp_path / "copy")
    report = copy.open()
    assert report.mode == "unclean"
    assert report.truncated_bytes == 0
    check(copy)
    assert copy.put_ok(1000).queue_offset == 250
    copy.close()


def test_start_after_a_kill_dispatches_only_what_is_younger_than_the_checkpoint(filled, tmp_path):
    filled.checkpoint()
    for number in range(1000, 1010):
        filled.put_ok(number, number % 4)
    copy = copy_of(filled, tmp_path / "copy")
    report = copy.open()
    assert report.dispatched_count == 10
    assert not report.rebuilt_queues
    assert not report.rebuilt_index
    check(copy, 1010)
    copy.close()


def test_recovery_after_a_kill_during_recovery_gives_the_same_store(filled, tmp_path):
    filled.checkpoint()
    filled.put_ok(1000, 0)
    copy = copy_of(filled, tmp_path / "copy")
    for _ in range(3):
        copy.open()
        check(copy, 1001)
        copy.abandon()
    copy.open()
    copy.close()


@pytest.mark.parametrize("unclean", [False, True])
@pytest.mark.parametrize(
    "missing",
    ["consumequeue", "consumequeue/T", "consumequeue/T/2", "consumequeue/T/1/00000000000000002000", "index"],
)
def test_missing_derived_files_are_rebuilt_whole(filled, missing, unclean):
    filled.checkpoint()
    filled.abandon() if unclean else filled.close()
    path = filled.root / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    report = filled.open()
    assert report.rebuilt_index is (missing == "index")
    assert report.rebuilt_queues is (missing != "index")
    check(filled)


def test_oldest_and_youngest_queue_segments_are_missed(filled):
    filled.close()
    for name in sorted(p.name for p in (filled.root / "consumequeue/T/0").iterdir())[:1]:
        (filled.root / "consumequeue/T/0" / name).unlink()
    for name in sorted(p.name for p in (filled.root / "consumequeue/T/3").iterdir())[-1:]:
        (filled.root / "consumequeue/T/3" / name).unlink()
    assert filled.open().rebuilt_queues
    check(filled)


def test_missing_index_file_rebuilds_the_index(filled):
    filled.close()
    next(iter(sorted((filled.root / "index").iterdir()))).unlink()
    assert filled.open().rebuilt_index
    check(filled)


def test_index_of_another_size_is_rebuilt(filled):
    filled.close()
    filled.settings.index_entry_count = 1000
    assert filled.open().rebuilt_index
    check(filled)


def test_missing_checkpoint_is_no_harm(filled):
    filled.abandon()
    (filled.root / "checkpoint").unlink()
    filled.open()
    check(filled)


def test_damaged_checkpoint_is_no_harm(filled):
    filled.checkpoint()
    filled.abandon()
    path = filled.root / "checkpoint"
    data = bytearray(path.read_bytes())
    data[70] ^= 0xFF
    path.write_bytes(data)
    filled.open()
    check(filled)


def test_short_checkpoint_is_no_harm(filled):
    filled.close()
    (filled.root / "checkpoint").write_bytes(b"\0" * 24)
    filled.open()
    check(filled)


def test_checkpoint_that_apache_wrote_to_afterwards_is_not_trusted(filled):
    filled.close()
    path = filled.root / "checkpoint"
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    assert filled.open().scanned_bytes > 0
    check(filled)


def make_like_apaches(harness: Harness) -> None:
    """Leave what Apache's broker leaves: a checkpoint of five fields, sparse files, the next segment there already."""
    path = harness.root / "checkpoint"
    path.write_bytes(path.read_bytes()[:40].ljust(4096, b"\0"))
    log = harness.root / "commitlog"
    for file in [*log.iterdir(), *(harness.root / "consumequeue").rglob("0000*")]:
        data = file.read_bytes()
        file.unlink()
        with file.open("wb") as sparse:
            sparse.write(data.rstrip(b"\0"))
            sparse.truncate(len(data))
    following = max(int(p.name) for p in log.iterdir()) + (1 << 16)
    with (log / f"{following:020d}").open("wb") as sparse:
        sparse.truncate(1 << 16)


def test_store_that_apache_closed_opens_without_rebuilding(filled):
    filled.close()
    make_like_apaches(filled)
    report = filled.open()
    assert (report.mode, report.rebuilt_queues, report.rebuilt_index, report.dispatched_count) == (
        "clean",
        False,
        False,
        0,
    )
    check(filled)
    assert filled.put_ok(1000).queue_offset == 250


@pytest.mark.parametrize("lost_units", [0, 1, 7])
def test_store_whose_apache_broker_was_killed_opens_with_everything(filled, lost_units):
    filled.close()
    make_like_apaches(filled)
    (filled.root / "abort").write_text("4711")
    for queue_id in range(4):
        last = max((filled.root / "consumequeue" / "T" / str(queue_id)).iterdir())
        data = last.read_bytes().rstrip(b"\0")
        kept = -(-len(data) // 20) - lost_units
        last.write_bytes(data[: 20 * kept].ljust(2000, b"\0"))
    report = filled.open()
    assert report.mode == "unclean"
    check(filled)


@pytest.mark.parametrize("unclean", [False, True])
def test_store_of_apache_without_its_derived_files_is_rebuilt_whole(filled, unclean):
    filled.close()
    make_like_apaches(filled)
    if unclean:
        (filled.root / "abort").touch()
    shutil.rmtree(filled.root / "consumequeue")
    shutil.rmtree(filled.root / "index")
    report = filled.open()
    assert report.rebuilt_queues
    assert report.rebuilt_index
    check(filled)


def test_stale_records_that_apache_left_behind_the_end_are_dropped(filled):
    filled.close()
    make_like_apaches(filled)
    log = filled.root / "commitlog"
    last = sorted(log.iterdir())[-2]
    data = last.read_bytes()
    used = len(data.rstrip(b"\0"))
    size = int.from_bytes(data[:4], "big")
    # A valid record at its own place, behind a gap that Apache left when it cut its log and wrote on.
    stale_at = used + 100
    stale = bytearray(data[:size])
    stale[28:36] = (int(last.name) + stale_at).to_bytes(8, "big")
    last.write_bytes(data[:used] + b"\x01" * 100 + bytes(stale) + bytes(len(data) - stale_at - size))
    report = filled.open()
    assert report.log_max_offset == int(last.name) + used
    check(filled)
    assert not any(last.read_bytes()[used:])


def test_missing_log_is_an_error_and_deletes_nothing(filled):
    filled.close()
    shutil.move(filled.root / "commitlog", filled.root.parent / "elsewhere")
    with pytest.raises(StoreCorrupt, match="bytes were durable"):
        filled.open()
    shutil.rmtree(filled.root / "commitlog")
    shutil.move(filled.root.parent / "elsewhere", filled.root / "commitlog")
    filled.open()
    check(filled)


def test_missing_middle_segment_is_an_error_that_names_it(filled):
    filled.close()
    (filled.root / "commitlog" / "00000000000000065536").rename(filled.root / "kept")
    with pytest.raises(StoreCorrupt, match="00000000000000065536 is missing"):
        filled.open()
    (filled.root / "kept").rename(filled.root / "commitlog" / "00000000000000065536")
    filled.open()


def test_segment_of_another_size_is_an_error_that_says_what_to_do(filled):
    filled.close()
    filled.settings.commit_log_segment_size = 1 << 17
    with pytest.raises(StoreMisconfigured, match=r"has 65536 bytes but mappedFileSizeCommitLog is 131072: set"):
        filled.open()
    filled.settings.commit_log_segment_size = 1 << 16
    filled.open()


def test_empty_last_segment_is_removed(filled):
    filled.close()
    last = max(int(p.name) for p in (filled.root / "commitlog").iterdir())
    (filled.root / "commitlog" / f"{last + 65536:020d}").touch()
    filled.open()
    check(filled)


def test_segment_that_a_crash_left_half_allocated_is_removed(filled):
    filled.close()
    last = max(int(p.name) for p in (filled.root / "commitlog").iterdir())
    (filled.root / "commitlog" / f"{last + 65536:020d}").write_bytes(bytes(4096))
    (filled.root / "index" / "20991231235959999").write_bytes(bytes(40))
    report = filled.open()
    assert not report.rebuilt_index
    check(filled)


def test_segment_that_lost_its_end_is_not_taken_for_unused(filled):
    filled.close()
    last = max((filled.root / "commitlog").iterdir())
    last.write_bytes(last.read_bytes()[:5000])
    with pytest.raises(StoreMisconfigured, match="has 5000 bytes"):
        filled.open()


def test_refusal_changes_nothing_so_that_the_next_start_refuses_too(filled):
    filled.close()
    damage(filled, 500)
    shutil.rmtree(filled.root / "consumequeue")
    for _ in range(3):
        with pytest.raises(StoreCorrupt, match="the log was complete up to"):
            filled.open()
    assert not (filled.root / "abort").exists()


def damage(harness: Harness, number: int) -> None:
    """Flip a bit in the body of a message."""
    offset = decode_message(filled_record(harness, number)).physical_offset
    path = harness.root / "commitlog" / f"{offset - offset % 65536:020d}"
    data = bytearray(path.read_bytes())
    data[offset % 65536 + 95] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"commit_log_segment_size": 100}, "mappedFileSizeCommitLog=100 is outside 4096"),
        ({"index_slot_count": 0}, "maxHashSlotNum=0 is outside 1"),
        ({"message_delay_level": "soon"}, "'soon' is no delay"),
    ],
)
def test_unusable_settings_are_named(tmp_path, setting, message):
    with pytest.raises(StoreMisconfigured, match=message):
        Harness(tmp_path, **setting)


def test_interrupted_truncation_is_completed(filled):
    filled.abandon()
    last = max((filled.root / "commitlog").iterdir())
    cut = int.from_bytes(last.read_bytes()[:4], "big")
    (filled.root / "truncation").write_text(f"{last.name} {cut}\n")
    with last.open("r+b") as file:
        file.truncate(cut)
    # The records behind the cut were being dropped anyhow.
    filled.open()
    assert last.stat().st_size == 1 << 16
    assert not (filled.root / "truncation").exists()


def test_deleted_topic_stays_deleted_and_begins_anew(filled):
    filled.checkpoint()
    assert filled.store.delete_topic("T") == 4
    assert not (filled.root / "consumequeue" / "T").exists()
    assert filled.store.queue_bounds("T", 0) is None
    filled.close()
    assert not filled.open().rebuilt_queues
    assert filled.store.queue_bounds("T", 0) is None
    assert filled.put_ok(5000).queue_offset == 0
    filled.put_ok(5001)
    filled.close()
    shutil.rmtree(filled.root / "consumequeue")
    assert filled.open().rebuilt_queues
    assert filled.numbers() == [5000, 5001]


def test_queue_whose_messages_all_expired_keeps_its_numbering(filled):
    for number in range(2000, 4000):
        filled.put_ok(number, 0, "Other")
    filled.flush()
    for _ in range(3):
        filled.store._log.remove_first()
    filled.store._queues.has_changed = True
    assert filled.store._log.min_offset > filled.store.queue("T", 3).unit(249)[0]
    filled.close()
    filled.open()
    bounds = filled.store.queue_bounds("T", 3)
    assert (bounds.min_offset, bounds.max_offset) == (250, 250)
    assert filled.put_ok(1, 3).queue_offset == 250


def test_report_and_statistics_agree(filled):
    filled.close()
    report = filled.open()
    statistics = filled.store.statistics()
    assert report.log_max_offset == statistics.written_offset == statistics.flushed_offset
    assert statistics.queue_count == 4


def test_torn_tail_at_every_byte_is_cut_and_written_over(tmp_path):
    harness = Harness(tmp_path / "store", commit_log_segment_size=8192, consume_queue_segment_size=400)
    harness.open()
    for number in range(5):
        harness.put_ok(number)
    kept = harness.store.positions.written
    harness.checkpoint()
    harness.put_ok(5)
    middle = harness.store.positions.written
    harness.put_ok(6)
    end = harness.store.positions.written
    for cut in range(kept, end):
        target = tmp_path / f"cut{cut}"
        copy = copy_of(harness, target, commit_log_segment_size=8192, consume_queue_segment_size=400)
        log = target / "commitlog" / "00000000000000000000"
        log.write_bytes(log.read_bytes()[:cut].ljust(8192, b"\0"))
        report = copy.open()
        assert report.log_max_offset == (middle if cut >= middle else kept)
        expected = [0, 1, 2, 3, 4, 5] if cut >= middle else [0, 1, 2, 3, 4]
        assert copy.numbers() == expected
        assert not any(log.read_bytes()[report.log_max_offset :])
        copy.put_ok(7)
        assert copy.numbers() == [*expected, 7]
        copy.close()
        shutil.rmtree(target)
    harness.close()


def test_damage_in_the_middle_is_refused_with_file_and_byte(filled, tmp_path):
    filled.abandon()
    offset = decode_message(filled_record(filled, 500)).physical_offset
    path = filled.root / "commitlog" / f"{offset - offset % 65536:020d}"
    data = bytearray(path.read_bytes())
    data[offset % 65536 + 95] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreCorrupt, match=f"{path} is damaged at byte {offset % 65536} .*recoverCorruptLog=truncate"):
        filled.open()
    filled.settings.recover_corrupt_log = CorruptLogPolicy.TRUNCATE
    report = filled.open()
    assert report.log_max_offset == offset
    assert any("dropped as recoverCorruptLog=truncate demands" in note for note in report.notes)
    check(filled, 500)


def filled_record(harness: Harness, number: int) -> bytes:
    """The bytes of message ``number``, found in the files."""
    data = b"".join(p.read_bytes() for p in sorted((harness.root / "commitlog").iterdir()))
    at = data.index(f"{number}:x".encode())
    start = data.rindex(bytes.fromhex("daa320a7"), 0, at) - 4
    size = int.from_bytes(data[start : start + 4], "big")
    return data[start : start + size]


def test_blocks_that_were_never_written_end_the_log_although_later_ones_were(tmp_path):
    harness = Harness(tmp_path / "store")
    harness.open()
    for number in range(10):
        harness.put_ok(number)
    harness.checkpoint()
    first = harness.put_ok(10, size=3000)
    harness.put_ok(11, size=3000)
    harness.abandon()
    path = harness.root / "commitlog" / "00000000000000000000"
    data = bytearray(path.read_bytes())
    hole = -(-(first.physical_offset + 200) // 512) * 512
    data[hole : hole + 512] = bytes(512)
    path.write_bytes(data)
    report = harness.open()
    assert report.log_max_offset == first.physical_offset
    assert any("never written" in note for note in report.notes)
    assert harness.numbers() == list(range(10))
    assert not any(path.read_bytes()[first.physical_offset :])
    harness.close()


def test_stale_blocks_are_unmasked_by_their_own_offset(tmp_path):
    harness = Harness(tmp_path / "store")
    harness.open()
    for number in range(10):
        harness.put_ok(number)
    harness.checkpoint()
    end = harness.store.positions.written
    harness.abandon()
    path = harness.root / "commitlog" / "00000000000000000000"
    data = bytearray(path.read_bytes())
    size = end // 10
    data[end : end + size] = data[:size]
    path.write_bytes(data)
    assert harness.open().log_max_offset == end
    harness.close()


def test_entries_beyond_the_end_of_the_log_are_cut(tmp_path):
    harness = Harness(tmp_path / "store")
    harness.open()
    for number in range(50):
        harness.put_ok(number)
    harness.checkpoint()
    kept = harness.store.positions.written
    for number in range(50, 80):
        harness.put_ok(number)
    harness.abandon()
    path = harness.root / "commitlog" / "00000000000000000000"
    path.write_bytes(path.read_bytes()[:kept].ljust(1 << 16, b"\0"))
    harness.open()
    assert harness.numbers() == list(range(50))
    queue = harness.root / "consumequeue" / "T" / "0" / "00000000000000000000"
    assert not any(queue.read_bytes()[50 * 20 :])
    assert harness.find(60) == []
    assert harness.put_ok(99).queue_offset == 50
    harness.close()


def test_sync_flush_store_recovers_alike(tmp_path):
    harness = Harness(tmp_path / "store", sync=True)
    harness.open()
    for number in range(300):
        harness.put_ok(number, number % 4)
    harness.flush()
    copy = copy_of(harness, tmp_path / "copy")
    copy.open()
    check(copy, 300)
    copy.close()
    harness.close()


def test_opening_twice_is_an_error(filled):
    with pytest.raises(StoreError, match="already open"):
        filled.store.open()


def test_properties_of_the_test_messages_carry_three_names():
    assert properties(1).count(b"\x01") == 3
