"""Where a slave begins to follow."""

from __future__ import annotations

import pytest

from rocketmq_broker.ha.origin import CannotFollow, MasterLog, Origin, OwnLog, check_continuation, decide_origin

SEGMENT = 1000
EMPTY = OwnLog(0, True, SEGMENT)


@pytest.mark.parametrize(
    ("own", "master", "expected"),
    [
        (EMPTY, None, Origin(0, None)),
        (EMPTY, MasterLog(0, 0, SEGMENT), Origin(0, None)),
        (EMPTY, MasterLog(0, 900, SEGMENT), Origin(0, 0)),
        # More than one segment: everything, by the trick of the first byte.
        (EMPTY, MasterLog(0, 2500, SEGMENT), Origin(1, 0, b"\0")),
        (EMPTY, MasterLog(3000, 9500, SEGMENT), Origin(3000, 3000)),
        (OwnLog(700, False, SEGMENT), MasterLog(0, 2500, SEGMENT), Origin(700, None)),
        (OwnLog(700, False, SEGMENT), None, Origin(700, None)),
        (OwnLog(2500, False, SEGMENT), MasterLog(0, 2500, None), Origin(2500, None)),
    ],
)
def test_a_slave_begins_where_nothing_is_missing(own: OwnLog, master: MasterLog | None, expected: Origin) -> None:
    assert decide_origin(own, master) == expected


def test_the_newest_segment_alone_is_followed_when_asked_for() -> None:
    assert decide_origin(EMPTY, MasterLog(0, 2500, SEGMENT), sync_from_last_file=True) == Origin(0, None)


@pytest.mark.parametrize(
    ("own", "master", "reason"),
    [
        (OwnLog(2501, False, SEGMENT), MasterLog(0, 2500, SEGMENT), "beyond the master's end"),
        (OwnLog(900, False, SEGMENT), MasterLog(1000, 2500, SEGMENT), "was removed there"),
        (EMPTY, MasterLog(0, 10, 2000), "mappedFileSizeCommitLog is 2000 at the master and 1000 here"),
    ],
)
def test_a_log_that_the_master_cannot_continue_is_a_problem_with_a_remedy(
    own: OwnLog, master: MasterLog, reason: str
) -> None:
    with pytest.raises(CannotFollow, match=reason):
        decide_origin(own, master)


def test_a_log_at_either_end_of_the_masters_is_continued() -> None:
    check_continuation(1000, MasterLog(1000, 2500))
    check_continuation(2500, MasterLog(1000, 2500))
