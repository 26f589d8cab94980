"""What all clients together make a server hold stays within one budget."""

from __future__ import annotations

import asyncio
import struct

from rocketmq_remoting.budget import MemoryBudget
from rocketmq_remoting.commands import Response, encode_request
from rocketmq_remoting.tests.test_connection import BIG, ECHO, HOLD, end, serving, until

MIB = 1 << 20


class Holder:
    def __init__(self, held: int) -> None:
        self.held = held
        self.reason = ""

    def held_bytes(self) -> int:
        return self.held

    def abort(self, reason: str) -> None:
        self.reason = reason
        self.held = 0


def test_beyond_the_budget_whoever_holds_most_is_dropped_until_it_is_kept() -> None:
    budget = MemoryBudget(100)
    small, large, larger = Holder(10), Holder(40), Holder(50)
    for holder in (small, large, larger):
        budget.note(holder, holder.held)
    assert (budget.used_bytes, larger.reason) == (100, "")
    small.held = 11
    budget.note(small, 11)
    assert "101 bytes" in larger.reason
    assert (budget.used_bytes, budget.dropped_count, small.reason, large.reason) == (51, 1, "", "")


def test_what_was_read_meanwhile_drops_nobody() -> None:
    budget = MemoryBudget(100)
    reads, grows = Holder(90), Holder(50)
    budget.note(reads, 90)
    reads.held = 0  # the transport tells nobody
    budget.note(grows, 50)
    assert (budget.used_bytes, budget.dropped_count) == (50, 0)
    budget.note(grows, 0)
    assert budget.used_bytes == 0


async def test_halves_of_frames_of_many_connections_stay_within_the_budget_and_others_are_served() -> None:
    async with serving() as (server, client, _service, address):
        server.budget = MemoryBudget(4 * MIB)
        writers = []
        for _ in range(8):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(struct.pack(">ii", 8 * MIB, 2) + b"{}" + bytes(MIB))
            writers.append(writer)
        await until(lambda: server.budget is not None and server.budget.dropped_count >= 4)
        assert server.budget.used_bytes <= 4 * MIB
        assert (await client.invoke(address, ECHO)).code == 0
        for writer in writers:
            writer.transport.abort()
            await end(writer)
        await until(lambda: server.budget is not None and server.budget.used_bytes == 0)


async def test_answers_that_nobody_reads_count() -> None:
    async with serving() as (server, client, _service, address):
        server.budget = MemoryBudget(2 * MIB)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
        writer.write(b"".join(encode_request(BIG, i) for i in range(20)))
        await until(lambda: server.budget is not None and server.budget.dropped_count == 1)
        assert (await client.invoke(address, ECHO)).code == 0
        writer.transport.abort()
        await end(writer)


async def test_with_bodies_under_way_beyond_half_of_the_budget_no_more_are_read_until_these_are_answered() -> None:
    async with serving() as (server, client, service, address):
        server.budget = MemoryBudget(8 * MIB)
        calls = [
            asyncio.ensure_future(client.invoke(address, HOLD, None, bytes(MIB), timeout_ms=60_000)) for _ in range(20)
        ]
        answered = 0
        while answered < len(calls):
            await until(lambda: bool(service.held))
            # One more may have been read with the one that reached the mark.
            assert len(service.held) <= 6
            assert server.budget.used_bytes <= 8 * MIB
            connection, command = service.held.pop(0)
            connection.respond(command, Response())
            answered += 1
        await asyncio.gather(*calls)
        assert server.budget.dropped_count == 0
        await until(lambda: not any(c.held_bytes() for c in server.connections))
