"""The beginning of a link between our own nodes: names, epochs, and the point where the two logs part.

    slave → master   greeting   8 bytes magic, u32 size, JSON: who I am, where my log ends, which epochs it holds
    master → slave   welcome    the same with the master's epoch, its log's span and epochs; or why not

Then the stream goes on as Apache's does, with pings. The magic's first byte is no first byte of an Apache report, so one port
serves both. A slave follows no master of an older epoch than it knows of, and what its log holds beyond the common history is cut
before the first byte is taken.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from rocketmq_broker.failover.epochs import Epoch, EpochHistory, consistent_point
from rocketmq_broker.ha.frames import HaProtocolError
from rocketmq_broker.ha.handshake import Accepted, ApacheHandshake, LogBounds
from rocketmq_broker.ha.origin import CannotFollow, MasterLog, Origin, OwnLog, decide_origin

MAGIC = b"\xffRMQKUB1"
GREETING_SIZE_MAX = 1 << 20
_HEAD = struct.Struct(">8sI")
_BASELINE = (Epoch(0, 0),)


class Greeting(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a slave says. Offsets are log bytes; ``group`` is ``cluster/brokerName``."""

    group: str
    member: str
    epochs: tuple[tuple[int, int], ...]
    takes_confirmed: bool = False


class Welcome(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a master says. ``problem`` tells why this slave cannot follow; everything else counts only without one.

    ``confirmed`` is the end of what the master's readers see, and is told again as it grows; -1 where it is not told.
    """

    epoch: int = 0
    log_min: int = 0
    log_end: int = 0
    segment_size: int = 0
    epochs: tuple[tuple[int, int], ...] = ()
    confirmed: int = -1
    problem: str = ""


class Diverged(Exception):
    """This log holds bytes from ``offset`` on that the master's does not: they must be cut."""

    def __init__(self, offset: int, log_end: int) -> None:
        super().__init__(f"this log parts from the master's at {offset}; {log_end - offset} bytes are cut")
        self.offset = offset


class Following(Protocol):
    """What an electing slave wants to know of its link, and how it greets a master."""

    def greet(self) -> SlaveGreeting:
        """A new beginning."""
        ...

    def acknowledged(self) -> None:
        """Something was acknowledged to the master."""
        ...

    def diverged(self, offset: int) -> None:
        """The log must be cut at ``offset`` before the master can be followed."""
        ...


Said = TypeVar("Said", Greeting, Welcome)


def encode(said: Greeting | Welcome) -> bytes:
    """A greeting or welcome as it is sent."""
    body = msgspec.json.encode(said)
    return _HEAD.pack(MAGIC, len(body)) + body


def decode(buffer: bytes, kind: type[Said]) -> tuple[Said, bytes] | None:
    """What stands at the start of ``buffer`` and the rest; ``None`` while bytes are missing. Raises HaProtocolError."""
    if buffer[: len(MAGIC)] != MAGIC[: len(buffer)]:
        raise HaProtocolError("the other side does not speak our handshake")
    if len(buffer) < _HEAD.size:
        return None
    _, size = _HEAD.unpack_from(buffer)
    if size > GREETING_SIZE_MAX:
        raise HaProtocolError(f"a handshake of {size} bytes, limit {GREETING_SIZE_MAX}")
    end = _HEAD.size + size
    if len(buffer) < end:
        return None
    try:
        return msgspec.json.decode(buffer[_HEAD.size : end], type=kind), buffer[end:]
    except msgspec.MsgspecError as error:
        raise HaProtocolError(f"the handshake cannot be understood: {error}") from error


class MasterWelcome:
    """The master's side; a slave that does not greet is Apache's and is served as before. See `MasterHandshake`."""

    def __init__(self, apache: ApacheHandshake, group: str, epoch: int, history: EpochHistory) -> None:
        self._apache = apache
        self._group = group
        self._epoch = epoch
        self._history = history
        self._buffer = b""
        self._reply = b""
        self._greeting: Greeting | None = None
        self._is_apache = False

    def take_reply(self) -> bytes:
        """See `MasterHandshake.take_reply`."""
        reply, self._reply = self._reply, b""
        return reply

    def feed(self, data: bytes, bounds: LogBounds) -> Accepted | None:
        """See `MasterHandshake.feed`."""
        if self._is_apache or self._greeting is not None:
            return self._begin(data, bounds)
        self._buffer += data
        if self._buffer[:1] != MAGIC[:1]:
            self._is_apache = True
            return self._begin(self._buffer, bounds)
        found = decode(self._buffer, Greeting)
        if found is None:
            return None
        self._greeting, rest = found
        self._buffer = b""
        self._reply = encode(self._answer(self._greeting, bounds))
        self._apache = self._apache.named(self._greeting.member)
        return self._begin(rest, bounds) if rest else None

    def _begin(self, data: bytes, bounds: LogBounds) -> Accepted | None:
        accepted = self._apache.feed(data, bounds)
        if accepted is None or self._greeting is None:
            return accepted
        return accepted._replace(answers_pings=True, takes_confirmed=self._greeting.takes_confirmed)

    def _answer(self, greeting: Greeting, bounds: LogBounds) -> Welcome:
        if greeting.group != self._group:
            return Welcome(problem=f"this is group {self._group}, not {greeting.group}")
        newest = max((number for number, _ in greeting.epochs), default=0)
        if newest > self._epoch:
            return Welcome(problem=f"this master is of epoch {self._epoch}; {greeting.member} knows epoch {newest}")
        return Welcome(
            epoch=self._epoch,
            log_min=bounds.min_offset,
            log_end=bounds.end_offset,
            segment_size=bounds.segment_size,
            epochs=self._history.epochs,
            confirmed=bounds.confirmed if greeting.takes_confirmed else -1,
        )


class SlaveGreeting:
    """The slave's side. ``may_follow`` says whether the master of an epoch may be followed."""

    def __init__(
        self, group: str, member: str, history: EpochHistory, own: OwnLog, may_follow: Callable[[int], bool]
    ) -> None:
        self._history = history
        self._own = own
        self._may_follow = may_follow
        self._buffer = b""
        self.epoch = 0
        self.master_end = 0
        self.confirmed = -1
        self.greeting = encode(Greeting(group=group, member=member, epochs=history.epochs, takes_confirmed=True))

    def feed(self, data: bytes) -> tuple[Origin, bytes] | None:
        """Where to begin and what came behind the welcome; ``None`` while bytes are missing.

        Raises HaProtocolError, CannotFollow, Diverged. The master's history is this log's from then on.
        """
        self._buffer += data
        found = decode(self._buffer, Welcome)
        if found is None:
            return None
        welcome, rest = found
        if welcome.problem:
            raise CannotFollow(f"the master refuses: {welcome.problem}")
        if welcome.epoch < self._history.newest or not self._may_follow(welcome.epoch):
            raise CannotFollow(f"that master is of epoch {welcome.epoch}, which is over")
        own, theirs = self._own, tuple(Epoch(*pair) for pair in welcome.epochs)
        if not own.is_empty:
            point = consistent_point(self._history.epochs or _BASELINE, own.end_offset, theirs, welcome.log_end)
            if point is None:
                raise CannotFollow("this log has no history in common with the master's; empty this store to follow")
            if point < own.end_offset:
                raise Diverged(point, own.end_offset)
        master = MasterLog(welcome.log_min, welcome.log_end, welcome.segment_size)
        origin = decide_origin(own, master)
        self._history.adopt(theirs)
        self.epoch, self.master_end, self.confirmed = welcome.epoch, welcome.log_end, welcome.confirmed
        return origin, rest
