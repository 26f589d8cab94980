"""The history of a log's masters: its file as Apache writes it, and where two logs part."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_broker.failover.epochs import (
    FILE_NAME,
    Epoch,
    EpochFileDamaged,
    EpochHistory,
    consistent_point,
    decode_epochs,
    encode_epochs,
)
from rocketmq_common.files import RealFiles

FIRST, SECOND, THIRD = Epoch(1, 0), Epoch(2, 100), Epoch(3, 150)


def test_the_file_is_apaches_byte_for_byte() -> None:
    # The example in the comments of Apache's EpochFileCache: its checksum is 773307083.
    assert encode_epochs((Epoch(7, 7000), Epoch(8, 8000))) == b"2\n773307083\n7-7000\n8-8000\n"
    assert decode_epochs(b"2\n0\n7-7000\n8-8000\n") == (Epoch(7, 7000), Epoch(8, 8000))


@pytest.mark.parametrize(
    "content", [b"", b"x", b"1\n5\n7-7000\n", b"2\n0\n7-7000\n", b"1\n0\n7\n", b"2\n0\n8-1\n7-0\n", b"\xff\n0\n"]
)
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        decode_epochs(content)


@pytest.mark.parametrize(
    ("own", "own_end", "other", "other_end", "point"),
    [
        ((FIRST,), 80, (FIRST,), 100, 80),  # a slave that is behind
        ((FIRST,), 120, (FIRST, SECOND), 130, 100),  # an old master with a tail that nobody else has
        ((FIRST, SECOND), 130, (FIRST, SECOND), 130, 130),  # the same
        ((FIRST, SECOND), 140, (FIRST, THIRD), 160, 100),  # two that led after the same master
        ((FIRST, SECOND, THIRD), 120, (FIRST, SECOND, THIRD), 170, 120),  # adopted, but not reached yet
        ((FIRST, THIRD), 90, (FIRST, SECOND), 120, 90),
        ((Epoch(5, 0),), 90, (FIRST, SECOND), 120, None),  # strangers
    ],
)
def test_logs_agree_up_to_the_end_of_the_newest_epoch_that_both_know(
    own: tuple[Epoch, ...], own_end: int, other: tuple[Epoch, ...], other_end: int, point: int | None
) -> None:
    assert consistent_point(own, own_end, other, other_end) == point


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5), st.lists(st.integers(1, 40), max_size=4),
    st.lists(st.integers(1, 40), max_size=4), st.data(),
)  # fmt: skip
def test_the_point_is_never_beyond_what_two_logs_really_share(
    common: list[int], ours: list[int], theirs: list[int], data: st.DataObject
) -> None:
    """Two logs with a common beginning go on under masters of their own; each byte is named by the epoch that wrote it."""

    def grown(sizes: list[int], numbers: list[int]) -> tuple[list[int], list[Epoch]]:
        log: list[int] = []
        epochs = []
        for size, number in zip(sizes, numbers, strict=True):
            epochs.append(Epoch(number, len(log)))
            log += [number] * size
        return log, epochs

    shared, epochs = grown(common, list(range(1, len(common) + 1)))
    cut = data.draw(st.integers(1, len(shared)))
    base_epochs = [e for e in epochs if e.start < cut]

    def branch(sizes: list[int], parity: int) -> tuple[list[int], tuple[Epoch, ...]]:
        log, history = shared[:cut], list(base_epochs)
        for step, size in enumerate(sizes):
            number = 100 + 2 * step + parity
            history.append(Epoch(number, len(log)))
            log = log + [number] * size
        return log, tuple(history)

    mine, my_epochs = branch(ours, 0)
    other, other_epochs = branch(theirs, 1)
    point = consistent_point(my_epochs, len(mine), other_epochs, len(other))
    assert point is not None
    assert mine[:point] == other[:point]


def test_a_new_epoch_replaces_those_that_wrote_nothing_and_survives_a_restart(tmp_path: Path) -> None:
    history = EpochHistory(RealFiles(), tmp_path)
    history.load()
    assert history.epochs == ()
    history.begin(1, 0, 0)
    history.begin(2, 50, 0)
    history.begin(3, 50, 0)
    again = EpochHistory(RealFiles(), tmp_path)
    again.load()
    assert again.epochs == (Epoch(1, 0), Epoch(3, 50))
    assert (again.newest, again.start) == (3, 50)


def test_a_log_from_before_the_first_election_has_an_epoch_of_its_own(tmp_path: Path) -> None:
    history = EpochHistory(RealFiles(), tmp_path)
    history.begin(1, 500, 0)
    assert history.epochs == (Epoch(0, 0), Epoch(1, 500))


def test_a_damaged_file_is_replaced_by_its_copy_and_without_one_said_aloud(tmp_path: Path) -> None:
    history = EpochHistory(RealFiles(), tmp_path)
    history.begin(1, 0, 0)
    history.begin(2, 10, 0)
    (tmp_path / FILE_NAME).write_bytes(b"rot")
    history.load()
    assert history.newest == 1
    (tmp_path / f"{FILE_NAME}.bak").write_bytes(b"rot")
    with pytest.raises(EpochFileDamaged, match=FILE_NAME):
        history.load()
