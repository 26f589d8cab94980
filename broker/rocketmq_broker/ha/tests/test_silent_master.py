"""A master that is frozen, or cut off, while its link stays open: how long it is waited for."""

from __future__ import annotations

from rocketmq_broker.ha.epoch_handshake import SlaveGreeting
from rocketmq_broker.ha.frames import PING_SIZE, encode_head, encode_pong, encode_report
from rocketmq_broker.ha.origin import MasterLog, OwnLog, decide_origin
from rocketmq_broker.ha.slave_link import MasterLink
from rocketmq_broker.ha.tests.nodes import Nodes, quick
from rocketmq_broker.ha.tests.test_pipe import PipeEnd
from rocketmq_common.clock import ManualClock


class Acknowledgements:
    """Counts what an election would have to wait for."""

    def __init__(self) -> None:
        self.count = 0

    def acknowledged(self) -> None:
        self.count += 1

    def greet(self) -> SlaveGreeting:
        raise AssertionError("the origin is given")

    def diverged(self, offset: int) -> None:
        raise AssertionError(f"diverged at {offset}")


async def test_what_is_said_again_to_a_silent_master_holds_up_no_election(nodes: Nodes) -> None:
    clock, following, reasons = ManualClock(), Acknowledgements(), list[str]()
    store, settings = nodes.store("s"), quick(ha_housekeeping_interval=60_000)
    origin = decide_origin(
        OwnLog(0, True, store.settings.commit_log_segment_size), MasterLog(0, 0, store.settings.commit_log_segment_size)
    )
    link = MasterLink(settings, store, clock, origin, reasons.append, following)
    end = PipeEnd()
    link.connection_made(end)
    end.sent.clear()
    before = following.count
    for _ in range(5):
        clock.advance(settings.ha_send_heartbeat_interval + 1)
        link.tick(clock.monotonic())
    # The signs of life are sent all the same: the link would be closed by the other side without them.
    assert bytes(end.sent) == encode_report(0) * 5
    assert following.count == before
    end.sent.clear()
    link.data_received(encode_head(7, PING_SIZE))
    assert bytes(end.sent) == encode_pong(7)
    assert following.count == before + 1
    assert reasons == []
