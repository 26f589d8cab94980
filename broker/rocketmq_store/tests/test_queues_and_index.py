"""Consume queues in large numbers, index files on their own, tags codes, the model of a queue."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketmq_common.clock import ManualClock
from rocketmq_common.files import RealFiles
from rocketmq_common.hashing import java_hash, java_hash_from
from rocketmq_store.consume_queues import ConsumeQueue, MappedSegments
from rocketmq_store.index import Index
from rocketmq_store.index_files import ENTRY, IndexFile
from rocketmq_store.index_keys import key_hash
from rocketmq_store.settings import StoreSettings
from rocketmq_store.tags import deliver_time_code, entry_code, find_value
from rocketmq_store.tests.harness import Harness, properties


@pytest.mark.slow
def test_twenty_thousand_queues_stay_lazily_mapped(tmp_path):
    harness = Harness(tmp_path / "store", commit_log_segment_size=1 << 24, index_enable=False)
    harness.open()
    held = harness.store._queues.held
    held.limit = 200
    for number in range(20_000):
        harness.put_ok(number, number % 4, topic=f"topic{number // 4}", properties=b"")
    assert len(held) <= 200
    for number in range(0, 20_000, 997):
        harness.put_ok(number, number % 4, topic=f"topic{number // 4}", properties=b"")
        assert harness.numbers(f"topic{number // 4}", number % 4) == [number, number]
    assert len(held) <= 200
    assert harness.store.statistics().queue_count == 20_000
    harness.close()


def test_busy_queues_keep_their_mapping(tmp_path):
    held = MappedSegments(4)
    queues = [ConsumeQueue(RealFiles(), held, tmp_path, f"t{n}", 0, 100) for n in range(10)]
    busy = queues[0]
    for queue in queues:
        for _ in range(2):
            busy.put(busy.next_offset, 0, 100, 0)
            busy.next_offset += 1
            busy.end = busy.next_offset
        queue.put(queue.next_offset, 0, 100, 0)
        queue.next_offset += 1
        queue.end = queue.next_offset
        assert len(held) <= 4
    assert len(busy.view) > 0
    for queue in queues:
        queue.unmap_all()
    assert len(held) == 0


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(1, 60)),
            st.tuples(st.just("cut"), st.integers(0, 100)),
            st.tuples(st.just("reload"), st.just(0)),
            st.tuples(st.just("unmap"), st.just(0)),
        ),
        max_size=30,
    ),
    st.integers(0, 45),
)
def test_queue_behaves_like_a_list(tmp_path_factory, steps, start):
    directory = tmp_path_factory.mktemp("queue")
    held = MappedSegments(2)

    def make() -> ConsumeQueue:
        return ConsumeQueue(RealFiles(), held, directory, "t", 3, 20)

    queue = make()
    queue.start_at(start)
    model: list[tuple[int, int, int]] = []
    physical = 0
    for step, amount in steps:
        if step == "put":
            for _ in range(amount):
                queue.put(queue.next_offset, physical, 91, amount)
                queue.next_offset += 1
                queue.end = queue.next_offset
                model.append((physical, 91, amount))
                physical += 91
        elif step == "cut" and model:
            end = start + len(model) * amount // 100
            if end > start:
                queue.cut(end)
                del model[end - start :]
        elif step == "reload" and model:
            queue.unmap_all()
            queue = make()
            queue.load()
        else:
            queue.unmap_all()
        assert queue.end == start + len(model)
        if model:
            assert [queue.unit(o) for o in range(start, queue.end)] == model
            middle = model[len(model) // 2][0]
            assert queue.first_at_or_after(middle) <= start + len(model) // 2
    queue.unmap_all()


def test_tags_code_is_found_wherever_the_property_stands():
    code = java_hash("TagA")
    assert entry_code(b"TAGS\x01TagA\x02") == code
    assert entry_code(b"TAGS\x01TagA") == code
    assert entry_code(b"a\x01b\x02TAGS\x01TagA\x02c\x01d\x02") == code
    assert entry_code(b"xTAGS\x01No\x02TAGS\x01TagA\x02") == code
    assert entry_code(b"xTAGS\x01No\x02") == 0
    assert entry_code(b"TAGS\x01\x02") == 0
    assert entry_code(b"") == 0
    assert entry_code("TAGS\x01订单\x02".encode()) == 1129459


def test_delivery_time_is_clamped_to_the_last_level():
    levels = StoreSettings(root="").delay_level_ms()
    assert deliver_time_code(b"DELAY\x011\x02", 1000, levels) == 2000
    assert deliver_time_code(b"DELAY\x0118\x02", 1000, levels) == 7_201_000
    assert deliver_time_code(b"DELAY\x0119\x02", 1000, levels) == 7_201_000
    assert deliver_time_code(b"DELAY\x010\x02TAGS\x01TagA\x02", 1000, levels) == java_hash("TagA")
    assert deliver_time_code(b"", 1000, levels) == 0


def test_delay_levels_that_are_none_are_named():
    with pytest.raises(ValueError, match="'5x' is no delay"):
        StoreSettings(root="", message_delay_level="1s 5x").delay_level_ms()


@settings(deadline=None)
@given(st.text(max_size=200), st.text(max_size=20))
def test_key_hash_is_javas_absolute_value(key, topic):
    expected = abs(java_hash(topic + "#" + key))
    assert key_hash(java_hash_from(0, topic + "#"), key.encode("utf-8", "replace")) in (
        expected if expected < 1 << 31 else 0,
        abs(java_hash(topic + "#" + key.encode("utf-8", "replace").decode())) % (1 << 31),
    )


def test_key_hash_of_the_reference_vectors():
    assert key_hash(java_hash_from(0, "TopicTest#"), b"k1") == 2746024
    # Its hash is Integer.MIN_VALUE, which has no absolute value.
    assert key_hash(0, b"polygenelubricants") == 0
    assert find_value(b"UNIQ_KEY\x01u\x02", b"UNIQ_KEY\x01") == b"u"


def make_index(directory, slots=7, entries=50) -> Index:
    index = Index(RealFiles(), directory, slots, entries, ManualClock())
    index.load()
    return index


def note(index: Index, number: int, when_ms: int = 1_700_000_000_000) -> None:
    index.pending.append((number * 100, when_ms, java_hash_from(0, "T#"), properties(number)))


def test_index_file_has_apaches_layout(tmp_path):
    index = make_index(tmp_path, slots=5_000, entries=10)
    index.pending.append((4096, 1_700_000_000_123, java_hash_from(0, "TopicTest#"), b"KEYS\x01k1\x02"))
    index.build_pending()
    index.mark_ends(1_700_000_000_123)
    path = index.files[0].path
    data = path.read_bytes()
    assert len(path.name) == 17
    assert len(data) == 40 + 4 * 5_000 + 20 * 10
    assert struct.unpack_from(">qqqqii", data) == (1_700_000_000_123, 1_700_000_000_123, 4096, 4096, 1, 2)
    assert struct.unpack_from(">i", data, 40 + 2746024 % 5_000 * 4) == (1,)
    assert ENTRY.unpack_from(data, 40 + 4 * 5_000 + 20) == (2746024, 4096, 0, 0)
    index.close()


def test_full_index_file_is_followed_by_another(tmp_path):
    index = make_index(tmp_path)
    for number in range(100):
        note(index, number, 1_700_000_000_000 + number * 1000)
    while index.pending:
        index.build_pending(7)
    assert len(index.files) == 5
    assert [file.count for file in index.files[:4]] == [50] * 4
    assert index.files[1].begin_offset >= index.files[0].begin_offset
    for number in range(100):
        assert list(index.offsets("T", f"k{number}", 0, 1 << 62)) == [number * 100]
    reopened = make_index(tmp_path)
    assert list(reopened.offsets("T", "k99", 0, 1 << 62)) == [9900]
    reopened.close()
    index.close()


def test_no_header_on_disk_ends_later_than_the_checkpoint_says(tmp_path):
    """Apache's broker, opening the store after a kill, removes every index file that does."""

    def ends_on_disk() -> list[int]:
        return [struct.unpack_from(">q", file.path.read_bytes(), 8)[0] for file in index.files]

    index = make_index(tmp_path)
    for number in range(120):
        note(index, number, 1000 + number)
    while index.pending:
        index.build_pending()
    assert ends_on_disk() == [0] * 5
    index.mark_ends(1060)
    last_of_each = [file.end_ms for file in index.files]
    assert ends_on_disk() == [min(end_ms, 1060) for end_ms in last_of_each]
    assert list(index.offsets("T", "k119", 1100, 1119)) == [11900]

    # Killed here: files that did not get their mark are still found by the times of their messages.
    reopened = make_index(tmp_path)
    assert list(reopened.offsets("T", "k70", 1061, 1070)) == [7000]
    reopened.close()

    index.mark_ends(1119)
    assert ends_on_disk() == last_of_each
    assert all(file.is_end_marked for file in index.files)
    index.close()


@pytest.mark.parametrize("loss", ["none", "entries", "slots", "header", "ends of chains", "ways back"])
def test_index_goes_back_to_a_durable_state_whatever_was_lost_since(tmp_path, loss):
    index = make_index(tmp_path, slots=5, entries=200)
    for number in range(30):
        note(index, number)
    while index.pending:
        index.build_pending()
    hint = index.hint(3000)
    file = index.files[0]
    before = bytes(file._view)
    for number in range(30, 60):
        note(index, number)
    while index.pending:
        index.build_pending()
    if loss == "entries":
        start = 40 + 4 * 5 + 20 * hint.count
        file._view[start:] = bytes(len(file._view) - start)
    elif loss in ("ends of chains", "ways back"):
        # The first younger entry of each chain: the sector with its last bytes is missing, or is one of an earlier life.
        for number in range(hint.count, file.count):
            start = 60 + 20 * number
            if ENTRY.unpack_from(file._view, start)[3] < hint.count:
                other = 0 if loss == "ends of chains" else ENTRY.unpack_from(file._view, start)[3] - 1
                file._view[start + 16 : start + 20] = other.to_bytes(4, "big")
    elif loss == "slots":
        file._view[40:60] = before[40:60]
    elif loss == "header":
        file._view[:40] = before[:40]
    file.rewind(hint.count, hint.used_slots, hint.end_offset, hint.end_ms)
    assert not any(file._view[60 + 20 * hint.count :])
    for number in range(30):
        assert list(index.offsets("T", f"k{number}", 0, 1 << 62)) == [number * 100]
    assert list(index.offsets("T", "k45", 0, 1 << 62)) == []
    for number in range(30, 60):
        note(index, number)
    while index.pending:
        index.build_pending()
    for number in range(60):
        assert list(index.offsets("T", f"k{number}", 0, 1 << 62)) == [number * 100]
    index.close()


def test_chain_that_runs_in_a_circle_ends(tmp_path):
    file = IndexFile(RealFiles(), tmp_path / "20250101000000000", 3, 10, create=True)
    assert file.reserve(2) == 2
    file.put_columns([3, 6], [100, 200], [5, 5])
    ENTRY.pack_into(file._view, 40 + 12 + 20, 3, 100, 0, 2)
    assert list(file.offsets(6, 0, 1 << 40)) == [200]
    file.close()
