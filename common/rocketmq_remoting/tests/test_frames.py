"""Frames from any chunking, and lengths that cannot be right."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_remoting.errors import FrameError
from rocketmq_remoting.frames import Frame, FrameReader, frame_head

frames = st.lists(
    st.builds(Frame, st.sampled_from([0, 1]), st.binary(max_size=40), st.binary(max_size=200_000)), max_size=4
)


def encode(frame: Frame) -> bytes:
    return frame_head(len(frame.header), len(frame.body), frame.serialize_type) + frame.header + frame.body


@given(frames, st.data())
def test_frames_survive_any_chunking(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(map(encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader = FrameReader()
    received: list[Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += reader.feed(stream[start:end])
    assert received == sent
    assert reader.pending == 0


@given(frames.filter(bool))
def test_frames_arrive_byte_by_byte(sent: list[Frame]) -> None:
    sent = [frame._replace(body=frame.body[:50]) for frame in sent]
    reader = FrameReader()
    received: list[Frame] = []
    for byte in b"".join(map(encode, sent)):
        received += reader.feed(bytes((byte,)))
    assert received == sent


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (struct.pack(">iI", -1, 0), "frame of 3 bytes"),
        (struct.pack(">iI", 3, 0), "frame of 7 bytes"),
        (struct.pack(">iI", 2**31 - 1, 0), "frame of 2147483651 bytes"),
        (struct.pack(">iI", 16 * 1024 * 1024 - 3, 0), "frame of 16777217 bytes"),
        (struct.pack(">iI", 100, 97), "header of 97 bytes in a frame of 104"),
        (b"GET / HTTP/1.1\r\n", "frame of"),
        (struct.pack(">i", 2**31 - 1), "frame of"),
    ],
)
def test_impossible_lengths_are_refused_before_anything_is_allocated(head: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        FrameReader().feed(head)


def test_a_header_beyond_its_own_limit_is_refused() -> None:
    with pytest.raises(FrameError, match="2000 bytes; 1000 are allowed"):
        FrameReader(header_size_max=1000).feed(struct.pack(">iI", 5000, 2000))


def test_the_largest_frame_java_accepts_is_accepted() -> None:
    size = 16 * 1024 * 1024
    reader = FrameReader()
    assert reader.feed(struct.pack(">iI", size - 4, 0) + bytes(100)) == []
    (frame,) = reader.feed(bytes(size - 8 - 100))
    assert len(frame.body) == size - 8


def test_a_large_frame_in_small_reads_is_not_copied_again_and_again() -> None:
    size = 8 * 1024 * 1024
    reader = FrameReader()
    reader.feed(struct.pack(">iI", size + 4, 0) + bytes(70_000))
    held = reader._buffer
    for _ in range(10):
        assert reader.feed(bytes(65536)) == []
        assert reader._buffer is held
