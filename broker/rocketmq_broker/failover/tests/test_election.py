"""Single decisions of an election, one rule a test; the simulation puts them together."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from rocketmq_broker.failover.election import Election, Facts
from rocketmq_broker.failover.lease import NO_LEASE, LeaseRecord, Observed
from rocketmq_broker.failover.membership import GONE_GRACE_MS, Follower, next_in_sync
from rocketmq_broker.failover.settings import ApiServerLoss, FailoverMode, FailoverSettings

HELD = LeaseRecord(holder="b-0/u/1", epoch=4, renewals=9, in_sync=("b-0", "b-1"), offsets={"b-0": 90, "b-1": 90})
DURATION_S = 8.0


def candidate(member: str = "b-1", now: float = 0.0, **settings: Any) -> Election:
    ordinal = int(member[-1])
    return Election(
        member, f"{member}/u/9", FailoverSettings(**settings), now, is_first=ordinal == 0, count_min=1, ordinal=ordinal
    )


def facts(**changes: Any) -> Facts:
    return Facts(**{"log_end": 100, "log_epoch": 4, **changes})


def master(record: LeaseRecord = HELD, sent_at: float = 0.0, **settings: Any) -> Election:
    election = candidate("b-0", **settings)
    election.observe(Observed(msgspec.structs.replace(record, holder=""), "1"), 0.0)
    election.propose(record)
    held = msgspec.structs.replace(record, holder=election.identity)
    election.confirm(Observed(held, "2"), sent_at, sent_at)
    return election


def test_a_new_group_is_led_by_its_first_replica_only() -> None:
    for member, leads in (("b-0", True), ("b-1", False)):
        election = candidate(member)
        election.observe(NO_LEASE, 0.0)
        wanted = election.decide(Facts(0, 0), 100.0)
        assert (wanted is not None) == leads
    assert candidate("b-0").decide(Facts(0, 0), 100.0) is None, "nothing was seen of the lease yet"


def test_a_held_lease_is_left_alone_until_it_was_not_renewed_for_its_duration() -> None:
    election = candidate()
    election.observe(Observed(HELD, "1"), 1.0)
    assert election.decide(facts(), 1.0 + DURATION_S - 0.1) is None
    election.observe(Observed(msgspec.structs.replace(HELD, renewals=10), "2"), 8.0)
    assert election.decide(facts(), 8.0 + DURATION_S - 0.1) is None
    wanted = election.decide(facts(), 8.0 + DURATION_S + 1)
    assert wanted is not None
    assert (wanted.holder, wanted.epoch, wanted.in_sync) == (election.identity, 5, ("b-1",))


def test_the_wait_begins_anew_with_each_acknowledgement_to_the_old_master() -> None:
    election = candidate()
    election.observe(Observed(HELD, "1"), 0.0)
    election.acknowledged(5.0)
    assert election.decide(facts(), 5.0 + DURATION_S - 0.1) is None
    assert election.decide(facts(), 5.0 + DURATION_S + 1) is not None


def test_who_still_hears_of_the_master_stays_with_it_unless_it_fences_itself() -> None:
    for loss, leads in ((ApiServerLoss.CONTINUE_IF_FOLLOWED, False), (ApiServerLoss.FENCE, True)):
        election = candidate(on_api_server_loss=loss)
        election.observe(Observed(HELD, "1"), 0.0)
        assert (election.decide(facts(is_following=True), 60.0) is not None) == leads


def test_a_released_lease_is_taken_at_once_but_by_its_target_first() -> None:
    released = msgspec.structs.replace(HELD, holder="")
    election = candidate()
    election.observe(Observed(released, "1"), 0.0)
    wanted = election.decide(facts(), 0.5)
    assert wanted is not None
    # The one that released it follows in a moment, so it stays a member.
    assert wanted.in_sync == ("b-0", "b-1")
    for target, leads in (("b-1", True), ("b-0", False)):
        election = candidate()
        election.observe(Observed(msgspec.structs.replace(released, target=target), "1"), 0.0)
        assert (election.decide(facts(), 0.5) is not None) == leads


@pytest.mark.parametrize(
    ("record", "known"),
    [
        (msgspec.structs.replace(HELD, in_sync=("b-0",)), facts()),  # not in sync
        (HELD, facts(log_epoch=0)),  # an empty volume under a known name (F74)
        (HELD, facts(log_end=80)),  # an old snapshot: less than the master knew of this very replica
        (HELD, facts(log_epoch=5)),  # the lease was set back
        (HELD, facts(is_suspect=True)),  # a power loss may have taken the end, and another has it (E14)
    ],
)
def test_who_may_lack_something_is_not_elected(record: LeaseRecord, known: Facts) -> None:
    election = candidate()
    election.observe(Observed(record, "1"), 0.0)
    wanted = election.decide(known, 100.0)
    assert wanted is None or wanted.holder == record.holder


def test_after_a_power_loss_of_all_the_one_that_kept_most_leads() -> None:
    lost = msgspec.structs.replace(HELD, suspects={"b-0": 95})
    election = candidate()
    election.observe(Observed(lost, "1"), 0.0)
    said = election.decide(facts(is_suspect=True, log_end=99), 100.0)
    assert said is not None
    assert said.suspects == {"b-0": 95, "b-1": 99}
    election.observe(Observed(said, "2"), 100.0)
    wanted = election.decide(facts(is_suspect=True, log_end=99), 102.0)
    assert wanted is not None
    assert wanted.holder == election.identity
    other = candidate("b-0")
    other.observe(Observed(said, "2"), 0.0)
    assert other.decide(facts(is_suspect=True, log_end=95), 100.0) is None


def test_an_unclean_election_needs_a_person_who_names_replica_and_epoch() -> None:
    alone = msgspec.structs.replace(HELD, in_sync=("b-0",))
    for unclean, leads in (("b-1@4", True), ("b-1@3", False), ("b-2@4", False)):
        election = candidate()
        election.observe(Observed(msgspec.structs.replace(alone, unclean=unclean), "1"), 0.0)
        wanted = election.decide(facts(), 100.0)
        assert (wanted is not None) == leads
        if wanted is not None:
            assert (wanted.in_sync, wanted.unclean) == (("b-1",), "")


def test_manual_mode_waits_for_a_person_to_name_the_next_master() -> None:
    election = candidate(failover_mode=FailoverMode.MANUAL)
    election.observe(Observed(HELD, "1"), 0.0)
    assert election.decide(facts(), 100.0) is None
    election.observe(Observed(msgspec.structs.replace(HELD, target="b-1"), "2"), 100.0)
    assert election.decide(facts(), 101.0) is not None


def test_the_right_to_write_ends_with_the_renew_deadline_unless_every_member_answers_pings() -> None:
    election = master()
    assert election.may_write(4.9, {})
    assert not election.may_write(5.1, {})
    assert election.may_write(10.0, {"b-1": 3.0})
    assert not election.may_write(11.1, {"b-1": 3.0})
    assert not master(on_api_server_loss=ApiServerLoss.FENCE).may_write(10.0, {"b-1": 9.0})
    assert master(msgspec.structs.replace(HELD, in_sync=("b-0",))).may_write(10_000.0, {}), "nobody else can be elected"


def test_while_a_change_of_the_set_is_unknown_old_and_new_members_are_waited_for() -> None:
    election = master()
    election.propose(msgspec.structs.replace(election.record, in_sync=("b-0", "b-2")))
    assert election.members == {"b-0", "b-1", "b-2"}
    # A read of the same version tells nothing: the write may still come.
    assert election.observed is not None
    election.observe(election.observed, 1.0)
    assert election.members == {"b-0", "b-1", "b-2"}
    election.refuse()
    assert election.members == {"b-0", "b-1"}


def test_a_master_whose_release_is_unknown_acknowledges_nothing() -> None:
    election = master()
    election.propose(msgspec.structs.replace(election.record, holder=""))
    assert not election.may_write(0.1, {"b-1": 0.1})
    election.refuse()
    assert election.may_write(0.1, {})


def test_a_deleted_lease_is_written_anew_by_the_master_that_still_is_one() -> None:
    election = master()
    election.observe(Observed(LeaseRecord(), ""), 1.0)
    assert not election.is_deposed
    assert not election.may_write(1.0, {})
    wanted = election.decide(facts(), 1.0)
    assert wanted is not None
    assert (wanted.epoch, wanted.in_sync) == (5, HELD.in_sync)


def test_a_switchover_that_does_not_come_to_an_end_is_taken_back() -> None:
    election = master(msgspec.structs.replace(HELD, target="b-1"))
    held = election.decide(facts(), 1.0)
    assert held is not None
    assert (held.holder, held.target, election.is_handing_over) == (election.identity, "b-1", True)
    assert election.decide(facts(is_drained=True), 2.0).holder == ""  # type: ignore[union-attr]
    late = election.decide(facts(), 4.1)
    assert late is not None
    assert (late.target, election.is_handing_over) == ("", False)


def test_members_leave_when_they_are_gone_or_late_and_enter_when_they_have_everything() -> None:
    def seen(
        now: float, acknowledged: int = 100, *, linked: bool = True, caught_up_at: float | None = None
    ) -> Follower:
        return Follower(
            acknowledged, linked, now if linked else 0.0, now if caught_up_at is None else caught_up_at, now
        )

    def wanted(
        followers: dict[str, Follower], current: tuple[str, ...] = ("a", "b"), count_min: int = 1
    ) -> tuple[str, ...]:
        return next_in_sync(
            current, "a", followers, 100.0, reign_started=0.0, confirmed=100, epoch_start=50, count_min=count_min,
            behind_max_ms=15_000,
        )  # fmt: skip

    assert wanted({"b": seen(100.0)}) == ("a", "b")
    assert wanted({"b": seen(100.0, linked=False)}) == ("a",)
    assert wanted({"b": seen(100.0, linked=False)._replace(linked_at=100.0 - GONE_GRACE_MS / 2000)}) == ("a", "b")
    assert wanted({"b": seen(100.0, caught_up_at=84.0)}) == ("a",)
    assert wanted({}) == ("a",)
    assert wanted({}, count_min=2) == ("a", "b"), "below the minimum nobody leaves"
    assert wanted({"b": seen(100.0), "c": seen(100.0)}) == ("a", "b", "c")
    assert wanted({"b": seen(100.0), "c": seen(100.0, 99)}) == ("a", "b")


def test_the_lease_is_looked_at_more_often_only_while_it_changes_hands() -> None:
    election = candidate()
    election.observe(Observed(HELD, "1"), 0.0)
    retry_s = FailoverSettings().lease_retry_period / 1000
    assert not election.is_changing(DURATION_S - retry_s - 0.1)
    assert election.is_changing(DURATION_S - retry_s + 0.1)
    assert election.is_changing(DURATION_S + 1)
    assert not election.is_changing(2 * DURATION_S), "where nobody can be elected nothing changes soon"
    assert not master().is_changing(100.0)
    assert master(msgspec.structs.replace(HELD, target="b-1")).is_changing(1.0)
