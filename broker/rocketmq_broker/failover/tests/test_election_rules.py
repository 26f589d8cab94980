"""Each rule of an election at its edges: turned round or left out, one of these fails."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from rocketmq_broker.failover.election import ORDINAL_STAGGER_S, RANK_STAGGER_S, Election
from rocketmq_broker.failover.lease import NO_LEASE, LeaseRecord, Observed
from rocketmq_broker.failover.membership import Follower, next_in_sync
from rocketmq_broker.failover.settings import FailoverMode, FailoverSettings
from rocketmq_broker.failover.tests.test_election import DURATION_S, HELD, candidate, facts, master

changed = msgspec.structs.replace
RELEASED = changed(HELD, holder="")


def seeing(record: LeaseRecord, member: str = "b-1", **settings: Any) -> Election:
    election = candidate(member, **settings)
    election.observe(Observed(record, "1"), 0.0)
    return election


# Whom a replica follows.


def test_only_the_master_of_the_newest_epoch_that_was_seen_is_followed() -> None:
    election = seeing(HELD)
    assert [election.may_follow(epoch) for epoch in (3, 4, 5)] == [False, True, True]
    election.observe(Observed(changed(HELD, epoch=7, holder="b-2/u/1"), "2"), 1.0)
    assert [election.may_follow(epoch) for epoch in (4, 6, 7)] == [False, False, True]


def test_who_stands_for_election_follows_no_older_master_until_it_knows_that_it_lost() -> None:
    election = seeing(HELD)
    wanted = election.decide(facts(), 100.0)
    assert wanted is not None
    election.propose(wanted)
    # Its write may be taken at any moment: nothing may be acknowledged to the master that it would replace.
    assert [election.may_follow(epoch) for epoch in (4, wanted.epoch)] == [False, True]
    assert election.observed is not None
    election.observe(election.observed, 101.0)
    assert not election.may_follow(4)
    # Another version: what was proposed for the old one can never be taken.
    election.observe(Observed(changed(HELD, renewals=10), "2"), 102.0)
    assert election.may_follow(4)


# Since when the lease is vacant.


def test_a_replica_that_has_just_started_waits_as_if_it_had_acknowledged_until_now() -> None:
    election = candidate(now=50.0)
    election.observe(Observed(HELD, "1"), 50.0)
    assert election.decide(facts(), 50.0 + DURATION_S - 0.1) is None
    late = candidate(now=50.0)
    late.observe(Observed(HELD, "1"), 45.0)
    assert late.decide(facts(), 50.0 + DURATION_S - 0.1) is None
    assert late.decide(facts(), 50.0 + DURATION_S + 1) is not None


def test_the_extra_patience_of_a_candidate_is_added() -> None:
    election = seeing(HELD, failover_delay=5000)
    assert election.decide(facts(), DURATION_S + 4.9) is None
    assert election.decide(facts(), DURATION_S + 6) is not None


def test_what_others_write_into_the_lease_is_no_sign_of_life_of_its_holder() -> None:
    election = seeing(HELD)
    election.observe(Observed(changed(HELD, target="b-9", suspects={"b-7": 1}), "2"), 7.0)
    assert election.decide(facts(), DURATION_S + 1) is not None


def test_a_lease_that_nobody_holds_is_taken_by_a_follower_too() -> None:
    assert seeing(RELEASED).decide(facts(is_following=True), 1.0) is not None


def test_candidates_stand_one_after_the_other_those_with_more_of_the_log_first() -> None:
    record = changed(HELD, in_sync=("b-0", "b-1", "b-2"), offsets={"b-0": 90, "b-1": 90, "b-2": 120})

    def stands_at(member: str, log_end: int) -> float:
        election = seeing(record, member)
        return next(n / 100 for n in range(2000) if election.decide(facts(log_end=log_end), n / 100) is not None)

    own_turn = DURATION_S + ORDINAL_STAGGER_S
    assert stands_at("b-1", 130) == pytest.approx(own_turn, abs=0.011)
    assert stands_at("b-1", 100) == pytest.approx(own_turn + RANK_STAGGER_S, abs=0.011)
    assert stands_at("b-2", 120) == pytest.approx(DURATION_S + 2 * ORDINAL_STAGGER_S, abs=0.011)
    # The one that was named waits for nobody.
    named = seeing(changed(record, holder="", target="b-2"), "b-2")
    assert named.decide(facts(log_end=120), 0.0) is not None


# Who is elected, and with whom.


def test_a_store_with_a_history_does_not_begin_a_group_anew() -> None:
    election = candidate("b-0")
    election.observe(NO_LEASE, 0.0)
    assert election.decide(facts(log_epoch=3), 100.0) is None


def test_the_first_election_needs_no_person_in_manual_mode_either() -> None:
    election = candidate("b-0", failover_mode=FailoverMode.MANUAL)
    election.observe(NO_LEASE, 0.0)
    wanted = election.decide(facts(log_end=0, log_epoch=0), 100.0)
    assert wanted is not None
    assert wanted.in_sync == ("b-0",)


def test_a_new_epoch_is_above_everything_that_lease_or_log_know() -> None:
    wanted = seeing(changed(HELD, unclean="b-1@4")).decide(facts(log_epoch=9), 100.0)
    assert wanted is not None
    assert wanted.epoch == 10


def test_the_only_member_leads_although_the_lease_told_of_more_than_it_has() -> None:
    alone = changed(HELD, in_sync=("b-1",), offsets={"b-1": 500})
    assert seeing(alone).decide(facts(log_end=100), 100.0) is not None
    # It has nobody to compare itself with after a power loss, so it says nothing and leads.
    wanted = seeing(alone).decide(facts(log_end=100, is_suspect=True), 100.0)
    assert wanted is not None
    assert wanted.holder == "b-1/u/9"


def test_a_holder_that_died_leaves_the_set_only_while_enough_are_left() -> None:
    three = changed(HELD, in_sync=("b-0", "b-1", "b-2"))
    wanted = seeing(three).decide(facts(), 100.0)
    assert wanted is not None
    assert wanted.in_sync == ("b-1", "b-2")
    careful = Election("b-1", "b-1/u/9", FailoverSettings(), 0.0, is_first=False, count_min=3, ordinal=1)
    careful.observe(Observed(three, "1"), 0.0)
    wanted = careful.decide(facts(), 100.0)
    assert wanted is not None
    assert wanted.in_sync == three.in_sync
    # A replica that led before and starts again stays in its own set.
    again = seeing(three, "b-0").decide(facts(), 100.0)
    assert again is not None
    assert again.in_sync == three.in_sync


def test_suspects_say_anew_where_their_log_ends_and_equal_ones_are_told_apart_by_name() -> None:
    outdated = changed(HELD, suspects={"b-0": 95, "b-1": 60})
    said = seeing(outdated).decide(facts(is_suspect=True, log_end=99), 100.0)
    assert said is not None
    assert said.suspects == {"b-0": 95, "b-1": 99}
    # One member has not spoken: it may have kept everything.
    three = changed(HELD, in_sync=("b-0", "b-1", "b-2"), suspects={"b-0": 95, "b-1": 99})
    assert seeing(three).decide(facts(is_suspect=True, log_end=99), 100.0) is None
    equal = changed(HELD, suspects={"b-0": 99, "b-1": 99})
    assert [
        seeing(equal, member).decide(facts(is_suspect=True, log_end=99), 100.0) is not None for member in ("b-0", "b-1")
    ] == [False, True]
    # It lost less than the lease knew of it; among suspects that does not matter.
    kept = changed(HELD, suspects={"b-0": 70, "b-1": 80})
    assert seeing(kept).decide(facts(is_suspect=True, log_end=80), 100.0) is not None


# What a master may do.


def test_another_life_of_the_same_replica_is_not_its_holder() -> None:
    election = candidate("b-0")
    election.observe(Observed(HELD, "1"), 0.0)
    assert not election.is_holder
    election.observe(Observed(changed(HELD, epoch=5, holder="b-1/u/1"), "2"), 1.0)
    assert not election.is_deposed, "it never led, so there is nothing to lose"


def test_the_right_to_write_counts_from_when_the_renewal_was_sent() -> None:
    election = candidate("b-0")
    election.observe(Observed(RELEASED, "1"), 0.0)
    held = changed(HELD, holder=election.identity)
    election.propose(held)
    election.confirm(Observed(held, "2"), 10.0, 14.0)
    assert election.may_write(14.9, {})
    assert not election.may_write(15.1, {})


def test_a_write_of_somebody_who_leads_no_more_gives_no_right() -> None:
    election = master()
    # Its own write was taken, and what came back names another holder.
    election.confirm(Observed(changed(HELD, epoch=5, holder="b-1/u/1"), "3"), 100.0, 100.0)
    election.observe(Observed(changed(HELD, epoch=6, holder=election.identity), "4"), 100.0)
    assert not election.may_write(100.1, {})


def test_pings_of_those_who_may_be_members_are_asked_for_as_well() -> None:
    election = master()
    election.propose(changed(election.record, in_sync=("b-0", "b-1", "b-2")))
    assert not election.may_write(10.0, {"b-1": 9.0})
    assert election.may_write(10.0, {"b-1": 9.0, "b-2": 9.0})


def test_a_release_that_may_have_been_taken_is_not_forgotten_by_a_later_proposal() -> None:
    election = master()
    election.propose(changed(election.record, holder=""))
    election.propose(election.record)
    assert not election.may_write(0.1, {"b-1": 0.1})


def test_a_release_ends_a_reign_and_a_deleted_lease_does_not() -> None:
    election = master()
    election.observe(Observed(changed(election.record, holder=""), "3"), 1.0)
    assert election.is_deposed
    assert election.decide(facts(), 100.0) is None
    usurped = master()
    usurped.observe(Observed(changed(HELD, epoch=3, holder="b-1/u/1"), "3"), 1.0)
    assert usurped.decide(facts(), 100.0) is None, "somebody holds it, whatever its epoch"


def test_the_master_is_a_member_whatever_the_lease_says() -> None:
    assert master(changed(HELD, in_sync=("b-1",))).members == {"b-0", "b-1"}


def test_each_renewal_differs_from_the_one_before_and_keeps_the_set_unless_told() -> None:
    election = master()
    wanted = election.decide(facts(), 1.0)
    assert wanted is not None
    assert (wanted.renewals, wanted.in_sync, wanted.holder) == (HELD.renewals + 1, HELD.in_sync, election.identity)


@pytest.mark.parametrize("target", ["b-0", "b-9"], ids=["itself", "nobody in sync"])
def test_a_switchover_to_whom_cannot_take_over_is_not_begun(target: str) -> None:
    election = master(changed(HELD, target=target))
    wanted = election.decide(facts(is_drained=True), 1.0)
    assert wanted is not None
    assert (wanted.holder, wanted.target, election.is_handing_over) == (election.identity, "", False)


def test_who_ends_gives_the_lease_back_once_another_has_everything() -> None:
    for is_drained in (False, True):
        election = master()
        wanted = election.decide(facts(is_resigning=True, is_drained=is_drained), 1.0)
        assert wanted is not None
        assert (wanted.holder == "") == is_drained


# Who is in the set.


def test_the_set_changes_by_what_is_known_since_the_reign_began() -> None:
    def wanted(
        followers: dict[str, Follower], current: tuple[str, ...], *, started: float = 0.0, count_min: int = 1
    ) -> tuple[str, ...]:
        return next_in_sync(
            current, "a", followers, 100.0, reign_started=started, confirmed=100, epoch_start=120, count_min=count_min,
            behind_max_ms=15_000,
        )  # fmt: skip

    def follower(acknowledged: int, *, is_linked: bool = True, caught_up_at: float = 100.0) -> Follower:
        return Follower(acknowledged, is_linked, 100.0 if is_linked else 0.0, caught_up_at, 100.0)

    # The master belongs to it; whoever enters has everything up to where this epoch began, and is there.
    assert wanted({}, ()) == ("a",)
    assert wanted({"b": follower(110)}, ("a",)) == ("a",)
    assert wanted({"b": follower(120)}, ("a",)) == ("a", "b")
    assert wanted({"b": follower(120, is_linked=False)._replace(linked_at=100.0)}, ("a",)) == ("a",)
    # A new master gives the members that it found their time.
    assert wanted({}, ("a", "b"), started=99.9) == ("a", "b")
    assert wanted({"b": follower(50, caught_up_at=0.0)}, ("a", "b"), started=95.0) == ("a", "b")
    # Of those that are late the latest leaves first.
    late = {"b": follower(120, caught_up_at=50.0), "c": follower(120, caught_up_at=20.0)}
    assert wanted(late, ("a", "b", "c"), count_min=2) == ("a", "b")
