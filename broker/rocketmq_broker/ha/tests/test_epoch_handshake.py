"""The greeting between our own nodes: who may follow whom, from where, and what must be cut first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rocketmq_broker.failover.epochs import Epoch, EpochHistory
from rocketmq_broker.ha.epoch_handshake import (
    Diverged,
    Greeting,
    MasterWelcome,
    SlaveGreeting,
    Welcome,
    decode,
    encode,
)
from rocketmq_broker.ha.handshake import ApacheHandshake, LogBounds
from rocketmq_broker.ha.origin import CannotFollow, OwnLog
from rocketmq_common.files import RealFiles

GROUP, SEGMENT_SIZE = "c/b", 1 << 20
EPOCHS = (Epoch(1, 0), Epoch(4, 500))


def history(directory: Path, epochs: tuple[Epoch, ...] = EPOCHS) -> EpochHistory:
    made = EpochHistory(RealFiles(), directory)
    made.adopt(epochs)
    return made


def slave(
    directory: Path,
    end: int,
    epochs: tuple[Epoch, ...] = EPOCHS,
    *,
    group: str = GROUP,
    may_follow: Callable[[int], bool] = lambda _: True,
) -> SlaveGreeting:
    directory.mkdir()
    return SlaveGreeting(group, "s", history(directory, epochs), OwnLog(end, end == 0, SEGMENT_SIZE), may_follow)


def welcome(directory: Path, greeting: bytes) -> bytes:
    """What a master of epoch 4, whose log ends at 900, says."""
    apache = ApacheHandshake("peer", sync_from_last_file=False)
    master = MasterWelcome(apache, GROUP, 4, history(directory))
    assert master.feed(greeting, LogBounds(0, 900, SEGMENT_SIZE, 800)) is None
    return master.take_reply()


def test_a_slave_whose_log_the_master_continues_begins_at_its_end_and_is_told_what_is_confirmed(tmp_path: Path) -> None:
    one = slave(tmp_path / "s", 700)
    found = one.feed(welcome(tmp_path, one.greeting))
    assert found is not None
    assert found[0].report == 700
    assert (one.epoch, one.master_end, one.confirmed) == (4, 900, 800)


def test_a_slave_of_another_group_is_refused(tmp_path: Path) -> None:
    one = slave(tmp_path / "s", 700, group="c/other")
    with pytest.raises(CannotFollow, match="this is group c/b"):
        one.feed(welcome(tmp_path, one.greeting))


def test_a_master_refuses_who_knows_a_newer_epoch(tmp_path: Path) -> None:
    known = encode(Greeting(group=GROUP, member="s", epochs=((1, 0), (5, 600))))
    said = decode(welcome(tmp_path, known), Welcome)
    assert said is not None
    assert "knows epoch 5" in said[0].problem


def test_a_slave_refuses_a_master_of_an_epoch_that_is_over(tmp_path: Path) -> None:
    old = encode(Welcome(epoch=4, log_end=900, segment_size=SEGMENT_SIZE, epochs=EPOCHS))
    # By its own history, whatever the lease says; and by the lease, whatever its history says.
    with pytest.raises(CannotFollow, match="is over"):
        slave(tmp_path / "a", 700, (*EPOCHS, Epoch(5, 600))).feed(old)
    with pytest.raises(CannotFollow, match="is over"):
        slave(tmp_path / "b", 700, may_follow=lambda epoch: epoch > 4).feed(old)


def test_what_only_the_slave_has_is_cut_where_the_histories_part(tmp_path: Path) -> None:
    one = slave(tmp_path / "s", 700, (Epoch(1, 0), Epoch(3, 400)))
    with pytest.raises(Diverged) as parting:
        one.feed(welcome(tmp_path, one.greeting))
    assert parting.value.offset == 400


def test_without_a_common_history_nothing_is_cut(tmp_path: Path) -> None:
    one = slave(tmp_path / "s", 700, (Epoch(2, 0),))
    with pytest.raises(CannotFollow, match="no history in common"):
        one.feed(welcome(tmp_path, one.greeting))


def test_an_empty_slave_begins_anew_whatever_history_its_file_tells(tmp_path: Path) -> None:
    one = slave(tmp_path / "s", 0, (Epoch(2, 0),))
    found = one.feed(welcome(tmp_path, one.greeting))
    assert found is not None
    assert found[0].begin_at == 0
