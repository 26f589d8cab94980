"""``rocketmq store`` on real directories: sound ones, and ones with a changed byte."""

from __future__ import annotations

import queue
from pathlib import Path

import msgspec
import pytest

from rocketmq_store.appending import NewMessage
from rocketmq_store.settings import StoreSettings
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore
from rocketmq_tools.cli import main
from rocketmq_tools.errors import ExitCode

SLOTS = ("--hash-slots", "97")
MESSAGE_COUNT = 30


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A closed store of 30 messages in two queues, over several segments."""
    root = tmp_path / "store"
    settings = StoreSettings(
        root=str(root), commit_log_segment_size=1 << 13, consume_queue_segment_size=400, index_slot_count=97,
        index_entry_count=400,
    )  # fmt: skip
    store = MessageStore(settings, post=queue.SimpleQueue[object]().put, fatal=lambda error: pytest.fail(str(error)))
    store.open()
    for number in range(MESSAGE_COUNT):
        properties = f"UNIQ_KEY\x01U{number}\x02KEYS\x01k{number}\x02".encode()
        result = store.append(NewMessage("Orders", number % 2, b"x" * 400, properties))
        assert result.status is PutStatus.PUT_OK
    store.close()
    return root


def verified(capsys: pytest.CaptureFixture[str], directory: Path) -> tuple[int, list[dict[str, object]]]:
    code = main(["store", "verify", str(directory), *SLOTS, "-o", "json"])
    return code, msgspec.json.decode(capsys.readouterr().out)


def change(path: Path, position: int, mask: int = 0x01) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(data)


def test_a_sound_store_is_said_to_be_sound(directory, capsys):
    assert main(["store", "verify", str(directory), *SLOTS]) == ExitCode.OK
    assert "in order" in capsys.readouterr().out


def test_a_changed_body_is_found_with_file_and_byte(directory, capsys):
    path = directory / "commitlog" / "00000000000000008192"
    change(path, 95)
    code, findings = verified(capsys, directory)
    assert code == ExitCode.UNHEALTHY
    assert [(f["file"], f["byte"]) for f in findings if "commitlog" in str(f["file"])] == [(str(path), 0)]


@pytest.mark.parametrize("position", [25, 31, 47])
def test_a_changed_queue_entry_is_found_with_file_and_byte(directory, capsys, position):
    path = directory / "consumequeue" / "Orders" / "1" / f"{0:020d}"
    change(path, position)
    code, findings = verified(capsys, directory)
    assert code == ExitCode.UNHEALTHY
    assert {(f["file"], f["byte"]) for f in findings} == {(str(path), position - position % 20)}


def test_a_changed_index_entry_and_a_broken_table_are_found(directory, capsys):
    path = next((directory / "index").iterdir())
    change(path, 40 + 4 * 97 + 20 * 5 + 11, 0x10)
    (directory / "config").mkdir()
    (directory / "config" / "topics.json").write_text("{")
    code, findings = verified(capsys, directory)
    assert code == ExitCode.UNHEALTHY
    assert {f["file"] for f in findings} == {str(path), str(directory / "config" / "topics.json")}


def test_missing_queues_are_told(directory, capsys):
    (directory / "consumequeue" / "Orders" / "0" / f"{0:020d}").unlink()
    code, findings = verified(capsys, directory)
    assert code == ExitCode.UNHEALTHY
    assert "the next start builds it anew" in str(findings[0]["finding"])


def test_records_are_listed_in_the_order_of_the_log(directory, capsys):
    assert main(["store", "dump", str(directory), "--topic", "Orders", "--queue", "1", "--max", "4", "-o", "json"]) == 0
    records = msgspec.json.decode(capsys.readouterr().out)
    assert [(r["queueOffset"], r["keys"]) for r in records] == [(0, "k1"), (1, "k3"), (2, "k5"), (3, "k7")]


def test_a_store_is_described(directory, capsys):
    assert main(["store", "stat", str(directory), "-o", "json"]) == 0
    summary = msgspec.json.decode(capsys.readouterr().out)
    assert summary["is_clean"] is True
    assert {(q["queue_id"], q["max_offset"]) for q in summary["queues"]} == {(0, 15), (1, 15)}
    assert summary["index_entry_count"] == 2 * MESSAGE_COUNT


def test_a_directory_without_a_store_is_named(tmp_path, capsys):
    assert main(["store", "verify", str(tmp_path)]) == ExitCode.NOT_FOUND
    assert str(tmp_path) in capsys.readouterr().err


def test_looking_changes_nothing(directory, capsys):
    before = {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    for verb in ("verify", "dump", "stat"):
        main(["store", verb, str(directory), *SLOTS])
    assert {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()} == before


def test_what_of_apaches_would_not_be_read_is_said_on_request_with_the_sizes_to_configure(directory, capsys):
    config = directory / "config"
    for name in ("rdb", "users"):
        (config / name).mkdir(parents=True)
        (config / name / "CURRENT").write_text("MANIFEST-000004\n")
    (directory / "consumequeue_ext" / "Orders").mkdir(parents=True)
    (config / "topicQueueMapping.json").write_text(
        '{"topicQueueMappingInfoMap":{"Static":{"currIdMap":{0:1},"totalQueues":1}}}'
    )
    (config / "topics.json").write_text(
        '{"topicConfigTable":{"Latest":{"attributes":{"cleanup.policy":"COMPACTION"}},"Orders":{"attributes":{}}}}'
    )
    assert verified(capsys, directory) == (ExitCode.OK, [])

    assert main(["store", "verify", str(directory), *SLOTS, "--from-apache", "-o", "json"]) == ExitCode.UNHEALTHY
    told = capsys.readouterr()
    findings = {(str(f["file"]), str(f["finding"]).split()[0]) for f in msgspec.json.decode(told.out)}
    assert findings == {
        (str(config / "rdb" / "CURRENT"), "a"),
        (str(config / "users" / "CURRENT"), "users"),
        (str(directory / "consumequeue_ext" / "Orders"), "queue"),
        (str(config / "topicQueueMapping.json"), "Static"),
        (str(config / "topics.json"), "Latest"),
    }
    assert "mappedFileSizeCommitLog=8192" in told.err
    assert "mappedFileSizeConsumeQueue=400" in told.err


def test_a_dledger_directory_is_told_from_one_without_a_store(tmp_path, capsys):
    (tmp_path / "dledger-n0" / "data").mkdir(parents=True)
    assert main(["store", "verify", str(tmp_path), "--from-apache"]) == ExitCode.UNHEALTHY
    assert "DLedger" in capsys.readouterr().out
    assert main(["store", "verify", str(tmp_path / "dledger-n0"), "--from-apache"]) == ExitCode.NOT_FOUND
