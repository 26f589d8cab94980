"""The HA stream without sockets: any chunking means the same, and nothing impossible is believed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_broker.ha.frames import (
    BODY_SIZE_MAX,
    HaProtocolError,
    ReportReader,
    TransferReader,
    encode_head,
    encode_report,
)
from rocketmq_broker.ha.handshake import ApacheHandshake, LogBounds

SEGMENT_SIZE = 1000


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    position = turn = 0
    while position < len(data):
        size = cuts[turn % len(cuts)]
        yield data[position : position + size]
        position += size
        turn += 1


def bodies_of(sizes: list[int]) -> list[bytes]:
    """Bodies of these sizes, cut so that none crosses a segment."""
    bodies, offset = [], 0
    for number, size in enumerate(sizes):
        size = min(size, SEGMENT_SIZE - offset % SEGMENT_SIZE)
        bodies.append(bytes([number % 251]) * size)
        offset += size
    return bodies


@given(sizes=st.lists(st.integers(0, 400), max_size=30), cuts=st.lists(st.integers(1, 500), min_size=1, max_size=10))
def test_transfers_survive_any_chunking(sizes: list[int], cuts: list[int]) -> None:
    stream, log = b"", b""
    for body in bodies_of(sizes):
        stream += encode_head(len(log), len(body)) + body
        log += body
    reader = TransferReader(SEGMENT_SIZE, 0)
    received = bytearray()
    heartbeats = 0
    for piece in pieces(stream, cuts):
        for transferred in reader.feed(piece):
            assert transferred.offset == len(received)
            received += transferred.data
            heartbeats += not transferred.data
    assert bytes(received) == log
    assert heartbeats == sum(not body for body in bodies_of(sizes))
    assert reader.expected == len(log)


@given(steps=st.lists(st.integers(0, 1 << 40), min_size=1, max_size=40), cuts=st.lists(st.integers(1, 30), min_size=1))
def test_the_last_complete_report_counts_in_any_chunking(steps: list[int], cuts: list[int]) -> None:
    offsets = sorted(steps)
    reader = ReportReader()
    fed = 0
    for piece in pieces(b"".join(map(encode_report, offsets)), cuts):
        before = fed // 8
        fed += len(piece)
        newest = reader.feed(piece, 1 << 40)
        assert newest == (offsets[fed // 8 - 1] if fed // 8 > before else None)
    assert reader.acknowledged == offsets[-1]


@pytest.mark.parametrize(
    ("reports", "reason"),
    [
        ([101], "beyond 100"),
        ([50, 49], "never go back"),
        ([50, 101, 60], "beyond 100"),
        ([-1], "no offset"),
        ([(1 << 63) - 1], "beyond 100"),
    ],
)
def test_a_report_that_cannot_be_true_is_an_error_and_changes_nothing(reports: list[int], reason: str) -> None:
    reader = ReportReader()
    reader.feed(encode_report(10), 100)
    with pytest.raises(HaProtocolError, match=reason):
        reader.feed(b"".join(map(encode_report, reports)), 100)
    assert reader.acknowledged == 10


@given(st.binary(min_size=8, max_size=64))
def test_garbage_acknowledges_nothing(garbage: bytes) -> None:
    reader = ReportReader()
    reader.acknowledged = 10
    try:
        reader.feed(garbage, 20)
    except HaProtocolError:
        assert reader.acknowledged == 10
    else:
        assert 10 <= reader.acknowledged <= 20


def test_the_same_report_again_is_a_heartbeat() -> None:
    reader = ReportReader()
    assert reader.feed(encode_report(7) * 3, 7) == 7
    assert reader.feed(encode_report(7), 7) == 7


@pytest.mark.parametrize(
    ("offset", "size", "reason"),
    [
        (0, -1, "no transfer"),
        (-8, 10, "no transfer"),
        (0, BODY_SIZE_MAX + 1, "no transfer"),
        (10, 5, "this log ends at 0"),
        (10, 0, "this log ends at 0"),
    ],
)
def test_a_frame_that_does_not_continue_the_log_is_an_error(offset: int, size: int, reason: str) -> None:
    with pytest.raises(HaProtocolError, match=reason):
        list(TransferReader(1 << 30, 0).feed(encode_head(offset, size)))


def test_a_body_that_crosses_a_segment_is_an_error() -> None:
    with pytest.raises(HaProtocolError, match="cross a segment"):
        list(TransferReader(SEGMENT_SIZE, 990).feed(encode_head(990, 11)))
    assert list(TransferReader(SEGMENT_SIZE, 990).feed(encode_head(990, 10))) == []


def test_an_empty_slave_begins_where_the_master_says() -> None:
    reader = TransferReader(SEGMENT_SIZE, None)
    assert [t.offset for t in reader.feed(encode_head(0, 0))] == [0]
    first, second = reader.feed(encode_head(3000, 3) + b"abc" + encode_head(3003, 2) + b"de")
    assert (first.offset, bytes(first.data), second.offset, bytes(second.data)) == (3000, b"abc", 3003, b"de")
    with pytest.raises(HaProtocolError):
        list(reader.feed(encode_head(3000, 1)))


BOUNDS = LogBounds(min_offset=2000, end_offset=5500, segment_size=SEGMENT_SIZE)


@pytest.mark.parametrize("cuts", [[8], [1], [3]])
@pytest.mark.parametrize(
    ("report", "from_last", "acknowledged", "start"),
    [
        (0, False, 0, 2000),
        (0, True, 0, 5000),
        (2000, False, 2000, 2000),
        (5500, False, 5500, 5500),
        (3333, True, 3333, 3333),
    ],
)
def test_a_slave_gets_what_it_lacks(
    cuts: list[int], report: int, from_last: bool, acknowledged: int, start: int
) -> None:
    handshake = ApacheHandshake("10.0.0.1", sync_from_last_file=from_last)
    outcomes = [handshake.feed(piece, BOUNDS) for piece in pieces(encode_report(report), cuts)]
    assert outcomes[:-1] == [None] * (len(outcomes) - 1)
    accepted = outcomes[-1]
    assert accepted is not None
    assert (accepted.acknowledged, accepted.start_offset, accepted.identity) == (acknowledged, start, "10.0.0.1")


@pytest.mark.parametrize("report", [5501, 1 << 62, -1, 1, 1999])
def test_a_slave_whose_log_is_not_the_masters_is_refused(report: int) -> None:
    with pytest.raises(HaProtocolError):
        ApacheHandshake("h", sync_from_last_file=False).feed(encode_report(report), BOUNDS)


def test_a_browser_on_the_ha_port_is_refused() -> None:
    with pytest.raises(HaProtocolError):
        ApacheHandshake("h", sync_from_last_file=False).feed(b"GET / HTTP/1.1\r\n", BOUNDS)
