"""Logs are bounded and can be followed across a cut."""

from __future__ import annotations

from pathlib import Path

from rocketmq_tools.embedded.log_files import Reader, cut_if_large, tail


def test_a_large_log_moves_aside_and_the_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with open(path, "ab", buffering=0) as writer:
        writer.write(b"x" * 100 + b"\n")
        assert not cut_if_large(path, size_max=200)
        writer.write(b"y" * 150 + b"\n")
        assert cut_if_large(path, size_max=200)
        writer.write(b"after\n")
    assert path.read_bytes() == b"after\n"
    assert (tmp_path / "a.log.1").read_bytes() == b"x" * 100 + b"\n" + b"y" * 150 + b"\n"


def test_a_missing_log_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "none.log"
    assert not cut_if_large(path)
    assert tail(path, 5) == ""
    assert Reader(path).last(5) == []
    assert Reader(path).new() == []


def test_tail_gives_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("".join(f"{n}\n" for n in range(100)))
    assert tail(path, 3) == "97\n98\n99"


def test_a_reader_gives_whole_lines_once(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("old\n")
    reader = Reader(path)
    assert reader.last(10) == ["old"]
    with open(path, "a") as writer:
        writer.write("one\ntw")
        writer.flush()
        assert reader.new() == ["one"]
        writer.write("o\n")
    assert reader.new() == ["two"]
    assert reader.new() == []


def test_a_reader_notices_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("a long first line\n")
    reader = Reader(path)
    reader.last(1)
    path.write_text("new\n")
    assert reader.new() == ["new"]
