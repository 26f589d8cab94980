"""The HA port with a secret: only who proves it takes part, nothing that crosses the wire or the log tells it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_broker.ha.authentication import (
    MAGIC,
    NONCE_SIZE,
    PROOF_SIZE,
    SECRET_COUNT_MAX,
    SECRET_SIZE_MIN,
    Authentication,
    NotAuthenticated,
    SecretUnusable,
    SlaveProof,
)
from rocketmq_broker.ha.frames import encode_report
from rocketmq_broker.ha.handshake import Accepted, ApacheHandshake, LogBounds, MasterHandshake
from rocketmq_broker.ha.tests.nodes import HOST, Nodes, turns, until
from rocketmq_broker.ha.tests.stores import log_bytes, put
from rocketmq_common.settings import SettingsError

SECRET = "correct horse battery staple"
OTHER = "another secret of the same kind"
BOUNDS = LogBounds(0, 1000, 1 << 20)


def node(path: Path, *secrets: str, group: str = "c/b", is_required: bool = True) -> Authentication:
    """What a node with a file of these secrets knows."""
    path.write_text("\n".join(secrets) + "\n")
    return Authentication(group, str(path), is_required=is_required)


def guarded(master: Authentication) -> MasterHandshake:
    return master.guard(ApacheHandshake("peer", sync_from_last_file=False))


def meet(master: Authentication, slave: Authentication, sizes: int = 1 << 16) -> tuple[Accepted | None, bytes, bytes]:
    """Both sides up to the slave's first report, in pieces of ``sizes`` bytes: what was accepted, and what each side sent."""
    handshake, proof = guarded(master), slave.begin()
    to_master, to_slave = bytearray(proof.hello), bytearray()
    said_by_slave, said_by_master = bytes(to_master), b""
    accepted: Accepted | None = None
    has_reported = False
    while to_master or to_slave:
        piece, to_master = bytes(to_master[:sizes]), to_master[sizes:]
        if piece:
            accepted = handshake.feed(piece, BOUNDS) or accepted
            reply = handshake.take_reply()
            said_by_master += reply
            to_slave += reply
        piece, to_slave = bytes(to_slave[:sizes]), to_slave[sizes:]
        if piece and not has_reported:
            answer, rest = proof.feed(piece)
            if rest is not None:
                has_reported = True
                answer += encode_report(500)
            said_by_slave += answer
            to_master += answer
    return accepted, said_by_slave, said_by_master


@given(st.integers(1, 90))
def test_who_has_the_secret_follows_in_whatever_pieces_it_arrives(
    tmp_path_factory: pytest.TempPathFactory, size: int
) -> None:
    path = tmp_path_factory.mktemp("ha")
    accepted, _, _ = meet(node(path / "m", SECRET), node(path / "s", SECRET), size)
    assert accepted is not None
    assert accepted.acknowledged == 500


@pytest.mark.parametrize(
    ("secrets", "group"), [((OTHER,), "c/b"), ((SECRET,), "c/other")], ids=["another secret", "another group"]
)
def test_another_secret_or_group_is_refused_before_the_master_proves_anything(
    tmp_path: Path, secrets: tuple[str, ...], group: str
) -> None:
    handshake = guarded(node(tmp_path / "m", SECRET))
    proof = node(tmp_path / "s", *secrets, group=group).begin()
    assert handshake.feed(proof.hello, BOUNDS) is None
    answer, rest = proof.feed(handshake.take_reply())
    assert rest is None
    with pytest.raises(NotAuthenticated, match="haSecretFile"):
        handshake.feed(answer, BOUNDS)
    assert handshake.take_reply() == b""


def test_a_master_that_cannot_prove_it_is_not_followed(tmp_path: Path) -> None:
    proof = node(tmp_path / "s", SECRET).begin()
    answer, _ = proof.feed(MAGIC + bytes(NONCE_SIZE))
    assert len(answer) == PROOF_SIZE
    with pytest.raises(NotAuthenticated, match="wrong"):
        # What the slave said comes back to it: its own words prove nothing.
        proof.feed(answer)


def test_what_was_overheard_is_of_no_use_on_another_link(tmp_path: Path) -> None:
    master, slave = node(tmp_path / "m", SECRET), node(tmp_path / "s", SECRET)
    _, said_by_slave, said_by_master = meet(master, slave)
    handshake = guarded(master)
    with pytest.raises(NotAuthenticated):
        handshake.feed(said_by_slave, BOUNDS)
    with pytest.raises(NotAuthenticated):
        slave.begin().feed(said_by_master)


def test_the_first_word_of_a_slave_without_a_secret_is_refused_and_the_remedy_named(tmp_path: Path) -> None:
    with pytest.raises(NotAuthenticated, match="set haSecretFile there"):
        guarded(node(tmp_path / "m", SECRET)).feed(encode_report(0)[:1], BOUNDS)


def test_a_master_without_a_secret_says_so_to_one_that_asks(tmp_path: Path) -> None:
    hello = node(tmp_path / "s", SECRET).begin().hello
    with pytest.raises(NotAuthenticated, match="haSecretFile is not set here"):
        guarded(Authentication("c/b")).feed(hello, BOUNDS)


def test_where_proof_is_not_required_a_slave_without_one_is_served_and_a_wrong_one_is_not(tmp_path: Path) -> None:
    master = node(tmp_path / "m", SECRET, is_required=False)
    assert guarded(master).feed(encode_report(500), BOUNDS) is not None
    with pytest.raises(NotAuthenticated):
        meet(master, node(tmp_path / "s", OTHER))


def test_secrets_are_replaced_one_node_after_the_other(tmp_path: Path) -> None:
    master, slave = node(tmp_path / "m", SECRET), node(tmp_path / "s", SECRET)
    for owner, lines in (
        ("m", (SECRET, OTHER)),
        ("s", (SECRET, OTHER)),
        ("s", (OTHER, SECRET)),
        ("m", (OTHER,)),
        ("s", (OTHER,)),
    ):
        node(tmp_path / owner, *lines)
        # The file is read anew for each link, so no node starts again.
        accepted, _, _ = meet(master, slave)
        assert accepted is not None, (owner, lines)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n \n", b"x" * (SECRET_SIZE_MIN - 1), (b"y" * SECRET_SIZE_MIN + b"\n") * (SECRET_COUNT_MAX + 1)],
    ids=["empty", "blank", "short", "many"],
)
def test_a_file_without_good_secrets_is_refused_at_the_start_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="haSecretFile=") as refusal:
        Authentication("c/b", str(path)).read()
    assert "xxx" not in str(refusal.value)
    assert "yyy" not in str(refusal.value)
    path.unlink()
    with pytest.raises(SecretUnusable, match="No such file"):
        Authentication("c/b", str(path)).read()


async def test_a_slave_with_the_secret_follows_over_sockets_and_the_secret_is_neither_sent_nor_logged(
    nodes: Nodes, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    heard: list[bytes] = []
    feed = SlaveProof.feed

    def listen(self: SlaveProof, data: bytes) -> tuple[bytes, bytes | None]:
        answer = feed(self, data)
        heard.extend((self.hello, data, answer[0]))
        return answer

    monkeypatch.setattr(SlaveProof, "feed", listen)
    ours, theirs = nodes.store("m"), nodes.store("s")
    for n in range(40):
        put(ours, n)
    master = await nodes.master(ours, authentication=node(tmp_path / "a", SECRET))
    nodes.slave(theirs, master, authentication=node(tmp_path / "b", SECRET))
    await until(lambda: theirs.positions.written == ours.positions.written)
    assert log_bytes(theirs) == log_bytes(ours)
    assert heard
    assert SECRET.encode() not in b"".join(heard)
    assert SECRET not in caplog.text


async def test_a_slave_without_the_secret_gets_nothing_and_is_counted(
    nodes: Nodes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s")
    put(ours, 1)
    master = await nodes.master(ours, authentication=node(tmp_path / "a", SECRET))
    slave = nodes.slave(theirs, master)
    peer = await nodes.peer(master, 0)
    assert await peer.is_dropped()
    await until(lambda: master.status().unauthenticated_count >= 2)
    assert theirs.positions.written == 0
    assert not master.status().slaves
    assert "set haSecretFile there" in caplog.text
    await until(lambda: "closed the link" in slave.status().problem)


async def test_a_slave_with_a_secret_follows_no_master_without_one(nodes: Nodes, tmp_path: Path) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s")
    put(ours, 1)
    master = await nodes.master(ours)
    slave = nodes.slave(theirs, master, authentication=node(tmp_path / "b", SECRET))
    await until(lambda: slave.unproven_count >= 2)
    await turns()
    assert theirs.positions.written == 0
    assert "haSecretFile" in slave.status().problem


async def test_a_slave_whose_proof_is_not_required_follows_a_master_without_a_secret_in_the_end(
    nodes: Nodes, tmp_path: Path
) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s")
    put(ours, 1)
    master = await nodes.master(ours)
    nodes.slave(theirs, master, authentication=node(tmp_path / "b", SECRET, is_required=False))
    await until(lambda: theirs.positions.written == ours.positions.written)


async def test_a_slave_is_not_led_astray_by_a_master_that_talks_as_apaches_does(nodes: Nodes, tmp_path: Path) -> None:
    greeted = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(MAGIC) + NONCE_SIZE)
        writer.write(bytes(12))
        greeted.set()
        await reader.read()
        writer.close()

    theirs = nodes.store("s")
    async with await asyncio.start_server(serve, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        nodes.masters[f"{HOST}:{port}"] = nodes.store("m")
        slave = nodes.slave(theirs, f"{HOST}:{port}", authentication=node(tmp_path / "b", SECRET))
        await until(lambda: greeted.is_set() and "set haSecretFile there" in slave.status().problem)
        assert theirs.positions.written == 0
        await slave.stop()


async def test_a_link_that_never_begins_is_closed_though_it_trickles(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rocketmq_broker.ha.master_link.HANDSHAKE_TIMEOUT_S", 0.3)
    master = await nodes.master(nodes.store("m"), authentication=node(tmp_path / "a", SECRET))
    peer = await nodes.peer(master)
    dropped = asyncio.ensure_future(peer.is_dropped())
    # Never silent for long, and a hello so far.
    for byte in MAGIC + bytes(NONCE_SIZE - 1):
        if not dropped.done():
            peer.writer.write(bytes((byte,)))
            await asyncio.sleep(0.02)
    assert await dropped
    assert master.status().protocol_error_count == 0
