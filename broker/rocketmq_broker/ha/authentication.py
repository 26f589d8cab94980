"""Before anything else is said on a link: each side proves that it has the group's secret, and none says it.

    slave → master   hello      8 bytes magic, 32 bytes nonce
    master → slave   challenge  8 bytes magic, 32 bytes nonce
    slave → master   proof      32 bytes HMAC-SHA256 over "slave", the group's name and both nonces
    master → slave   proof      32 bytes HMAC-SHA256 over "master" and the same

Then the stream goes on as it does without. The slave proves first, so that who merely connects to a master learns nothing that a
secret could be guessed from. Nonces are of one link, so nothing that was overheard is of use on another. What follows on the
link is neither encrypted nor signed: who can change packets under way needs to be kept out by the network.

A master without a secret serves everybody, as Apache's does; Apache's slaves cannot prove anything.
"""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path
from typing import Final

from rocketmq_broker.ha.frames import HaProtocolError
from rocketmq_broker.ha.handshake import Accepted, LogBounds, MasterHandshake
from rocketmq_common.settings import SettingsError

# The first byte is no first byte of a report; see `epoch_handshake.MAGIC`.
MAGIC: Final = b"\xffRMQAUT1"
NONCE_SIZE: Final = 32
PROOF_SIZE: Final = 32
SECRET_SIZE_MIN: Final = 16
SECRET_COUNT_MAX: Final = 8
SECRETS_SIZE_MAX: Final = 4096
_OPENING_SIZE: Final = len(MAGIC) + NONCE_SIZE


class SecretUnusable(SettingsError):
    """The file of secrets cannot be read or holds none that is good; the message says what to do and no secret."""


class NotAuthenticated(HaProtocolError):
    """The other side did not prove that it has the secret."""


class Authentication:
    """What one node knows of its group's secret. ``group`` is ``cluster/brokerName``; without ``secret_file`` nobody is asked.

    The file holds one secret a line. The first one proves; any of them is believed, so that a secret can be replaced while replicas
    run: add the new one everywhere, make it the first, remove the old one. It is read anew for each link.
    """

    def __init__(self, group: str = "", secret_file: str = "", *, is_required: bool = True) -> None:
        self._group = group.encode()
        self._path = Path(secret_file) if secret_file else None
        self.is_required = is_required

    @property
    def is_configured(self) -> bool:
        """Links begin with a proof."""
        return self._path is not None

    def read(self) -> tuple[bytes, ...]:
        """The secrets of now, none without a file. Blocks for a small file. Raises SecretUnusable."""
        if self._path is None:
            return ()
        try:
            content = self._path.read_bytes()
        except OSError as error:
            raise SecretUnusable(f"haSecretFile={self._path}: {error.strerror or error}") from error
        found = tuple(line for line in map(bytes.strip, content.splitlines()) if line)
        if len(content) > SECRETS_SIZE_MAX or not 0 < len(found) <= SECRET_COUNT_MAX:
            raise SecretUnusable(f"haSecretFile={self._path}: write 1 to {SECRET_COUNT_MAX} secrets, one a line")
        if any(len(secret) < SECRET_SIZE_MIN for secret in found):
            raise SecretUnusable(
                f"haSecretFile={self._path}: a secret is too short: write at least {SECRET_SIZE_MIN} random bytes a line"
            )
        return found

    def guard(self, handshake: MasterHandshake) -> MasterHandshake:
        """``handshake`` behind the proof of a slave. Raises NotAuthenticated when no proof can be judged."""
        try:
            return GuardedHandshake(self, handshake, self.read())
        except SecretUnusable as error:
            raise NotAuthenticated(str(error)) from error

    def begin(self) -> SlaveProof:
        """The slave's side of a link. Raises SecretUnusable."""
        return SlaveProof(self, self.read())

    def proof(self, secret: bytes, role: bytes, slave_nonce: bytes, master_nonce: bytes) -> bytes:
        """What only a holder of ``secret`` can say in this link. Nonces have one size, so the parts cannot be cut otherwise."""
        return hmac.digest(secret, b"\0".join((MAGIC + role, self._group, slave_nonce + master_nonce)), "sha256")


class GuardedHandshake:
    """The master's side; see `Authentication.guard`."""

    def __init__(self, authentication: Authentication, handshake: MasterHandshake, known: tuple[bytes, ...]) -> None:
        self._authentication = authentication
        self._handshake = handshake
        self._known = known
        self._buffer = b""
        self._reply = b""
        self._slave_nonce = b""
        self._master_nonce = b""
        self._is_open = False

    def take_reply(self) -> bytes:
        """See `MasterHandshake.take_reply`."""
        reply, self._reply = self._reply, b""
        return reply + self._handshake.take_reply()

    def feed(self, data: bytes, bounds: LogBounds) -> Accepted | None:
        """See `MasterHandshake.feed`. Raises NotAuthenticated as well."""
        if not self._is_open:
            self._buffer += data
            if not self._opens():
                return None
            self._is_open = True
            data, self._buffer = self._buffer, b""
        return self._handshake.feed(data, bounds) if data else None

    def _opens(self) -> bool:
        """Whether the slave may begin now."""
        if not self._slave_nonce:
            if not self._must_prove():
                return True
            if not self._take_hello():
                return False
        return self._take_proof()

    def _must_prove(self) -> bool:
        """Whether the slave said hello, or may have begun to."""
        if self._buffer[: len(MAGIC)] == MAGIC[: len(self._buffer)]:
            return True
        if self._known and self._authentication.is_required:
            raise NotAuthenticated(
                "it does not prove that it has the secret: set haSecretFile there, with the same secret as here; to let "
                "replicas without one follow (Apache's always are), set haAuthenticationRequired=false here"
            )
        return False

    def _take_hello(self) -> bool:
        buffer = self._buffer
        if len(buffer) < _OPENING_SIZE:
            return False
        if not self._known:
            raise NotAuthenticated(
                "it asks for a proof, and haSecretFile is not set here: set it, with the same secret as there"
            )
        self._slave_nonce, self._buffer = buffer[len(MAGIC) : _OPENING_SIZE], buffer[_OPENING_SIZE:]
        self._master_nonce = secrets.token_bytes(NONCE_SIZE)
        self._reply = MAGIC + self._master_nonce
        return True

    def _take_proof(self) -> bool:
        if len(self._buffer) < PROOF_SIZE:
            return False
        told, self._buffer = self._buffer[:PROOF_SIZE], self._buffer[PROOF_SIZE:]
        prove, nonces = self._authentication.proof, (self._slave_nonce, self._master_nonce)
        for secret in self._known:
            if hmac.compare_digest(told, prove(secret, b"slave", *nonces)):
                self._reply += prove(secret, b"master", *nonces)
                return True
        raise NotAuthenticated(
            "its proof is wrong: haSecretFile holds another secret there than here, or the groups differ"
        )


class SlaveProof:
    """The slave's side; see `Authentication.begin`. Send `hello` first."""

    def __init__(self, authentication: Authentication, known: tuple[bytes, ...]) -> None:
        self._authentication = authentication
        self._secret = known[0]
        self._buffer = b""
        self._nonce = secrets.token_bytes(NONCE_SIZE)
        self._master_nonce = b""
        self.hello = MAGIC + self._nonce
        # The master took part; one that does not is Apache's, or has no secret.
        self.is_answered = False

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """What to send now, and what came behind the master's proof: ``None`` until it was given. Raises NotAuthenticated."""
        self._buffer += data
        answer = b""
        if not self._master_nonce:
            if self._buffer[: len(MAGIC)] != MAGIC[: len(self._buffer)]:
                raise NotAuthenticated(
                    "the master does not prove that it has the secret: set haSecretFile there, with the same secret as here; to "
                    "follow one without (Apache's always is), set haAuthenticationRequired=false here"
                )
            if len(self._buffer) < _OPENING_SIZE:
                return b"", None
            self.is_answered = True
            self._master_nonce, self._buffer = self._buffer[len(MAGIC) : _OPENING_SIZE], self._buffer[_OPENING_SIZE:]
            answer = self._authentication.proof(self._secret, b"slave", self._nonce, self._master_nonce)
        if len(self._buffer) < PROOF_SIZE:
            return answer, None
        told, rest = self._buffer[:PROOF_SIZE], self._buffer[PROOF_SIZE:]
        if not hmac.compare_digest(
            told, self._authentication.proof(self._secret, b"master", self._nonce, self._master_nonce)
        ):
            raise NotAuthenticated("the master's proof is wrong: it has another secret than this replica")
        return answer, rest
