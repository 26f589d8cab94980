"""The judge finds each kind of violation, and nothing where there is none."""

from __future__ import annotations

from rocketmq_testkit.history import History


def history(*numbers: int) -> History:
    made = History(attempted=set(numbers))
    for offset, number in enumerate(numbers):
        made.acknowledge(number, 0, offset, at=float(number))
    return made


def test_what_is_where_it_should_be_is_no_problem():
    assert history(1, 2, 3).problems({0: [1, 2, 3]}) == []


def test_a_message_that_is_not_there_is_lost_and_one_elsewhere_too():
    assert len(history(1, 2, 3).judge({0: [1, 2]}).lost) == 1
    assert len(history(1, 2).judge({0: [], 1: [1, 2]}).lost) == 2


def test_a_message_that_was_never_sent_is_a_phantom():
    assert history(1).judge({0: [1, 9]}).phantoms == ["phantom: 9 at 0:1 was never sent"]


def test_order_and_doubles_are_told_where_one_sender_wrote_once():
    made = history(1, 2)
    made.attempted.add(3)
    assert made.judge({0: [1, 2, 2]}).disorder
    assert made.judge({0: [1, 2], 1: [3, 2]}).disorder
    assert made.judge({0: [1, 2], 1: [3, 2]}, ordered=False).all() == []


def test_expired_messages_are_not_lost():
    assert history(1, 2, 3).judge({0: [3]}, first_offsets={0: 2}).all() == []


def test_a_place_keeps_the_message_that_was_seen_there():
    made = history(1, 2)
    assert made.observe({0: [1, 2]}) == []
    assert made.observe({0: [1, 2, 3]}) == []
    assert made.observe({0: [1, 9]}) == ["changed: 0:1 was 2 and is 9", "changed: 0:2 was 3 and is gone"]


def test_a_lost_tail_is_counted_and_a_hole_is_a_violation():
    made = history(1, 2, 3, 4)
    assert made.lost_tail({0: [1, 2]}) == ([3, 4], [])
    gone, holes = made.lost_tail({0: [1, 4]})
    assert gone == [2, 3]
    assert len(holes) == 2


def test_committed_offsets_neither_go_back_nor_beyond_the_end():
    made = History()
    made.commit("g", 0, 5)
    assert made.commit_problems({("g", 0): 5}, {0: 9}) == []
    assert len(made.commit_problems({("g", 0): 4}, {0: 9})) == 1
    assert len(made.commit_problems({("g", 0): 10}, {0: 9})) == 1
