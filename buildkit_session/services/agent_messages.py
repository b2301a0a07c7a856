"""The two questions that a build step may ask an ssh agent, and the answers: which keys there are, and a signature.

Both sides are read strictly. A step is a stranger, and what an agent says is filtered before a step sees it: bytes that
two readers could take differently would pass by the filter.

Source: draft-ietf-sshm-ssh-agent (sections 4.4 to 4.6, and the numbers in section 7).
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.services.ssh_wire import WireReader, string

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "FAILURE",
    "LIST",
    "SHA2_256",
    "SHA2_512",
    "SIGN",
    "Identity",
    "Signing",
    "checked",
    "fingerprint",
    "identities_answer",
    "read_identities",
    "read_signing",
    "signature_answer",
]

FAILURE: Final = b"\x05"
LIST: Final = b"\x0b"
SIGN: Final = b"\x0d"
_IDENTITIES: Final = b"\x0c"
_SIGNATURE: Final = b"\x0e"

SHA2_256: Final = 2
"""Flag of a request: an RSA key is to sign with SHA-256."""
SHA2_512: Final = 4
"""Likewise with SHA-512."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A key of an agent.

    Attributes:
        blob: the public key.
        comment: whatever its owner has called it.
    """

    blob: bytes
    comment: bytes

    @property
    def type(self) -> str:
        """The name of its algorithm, such as ``ssh-ed25519``; empty for a blob that is none."""
        try:
            return WireReader(self.blob).string().decode("ascii", "backslashreplace")
        except RemoteProtocolError:
            return ""


@dataclass(frozen=True, slots=True)
class Signing:
    """A request for a signature.

    Attributes:
        blob: the public key.
        data: what is to be signed.
        flags: which signature, for a key that can make several.
    """

    blob: bytes
    data: bytes
    flags: int


def fingerprint(blob: bytes) -> str:
    """Name a public key as OpenSSH does: ``SHA256:`` and 43 letters."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def read_signing(request: bytes) -> Signing:
    """Read a request for a signature.

    Raises:
        RemoteProtocolError: it is none, is cut, or has bytes too many.
    """
    reader = _body(request, SIGN)
    signing = Signing(reader.string(), reader.string(), reader.number())
    reader.end()
    return signing


def read_identities(answer: bytes) -> tuple[Identity, ...]:
    """Read a list of keys.

    Raises:
        RemoteProtocolError: it is none, or not well formed.
    """
    reader = _body(answer, _IDENTITIES)
    # The count may be anything; each key has bytes of its own, which end first.
    identities = tuple(Identity(reader.string(), reader.string()) for _ in range(reader.number()))
    reader.end()
    return identities


def identities_answer(identities: Iterable[Identity]) -> bytes:
    """Write a list of keys."""
    keys = [string(one.blob) + string(one.comment) for one in identities]
    return _IDENTITIES + len(keys).to_bytes(4) + b"".join(keys)


def signature_answer(signature: bytes) -> bytes:
    """Write the answer that has a signature: the name of its algorithm and its bytes, each a string."""
    return _SIGNATURE + string(signature)


def checked(request: bytes, answer: bytes) -> bytes:
    """Return what an agent has answered, if it is an answer to the request.

    Raises:
        RemoteProtocolError: it is not.
    """
    if answer == FAILURE:
        return answer
    if request[:1] == LIST:
        return identities_answer(read_identities(answer))
    reader = _body(answer, _SIGNATURE)
    signature = reader.string()
    reader.end()
    return signature_answer(signature)


def _body(message: bytes, kind: bytes) -> WireReader:
    if message[:1] != kind:
        raise RemoteProtocolError(f"an agent message of type {message[:1].hex()} in place of {kind.hex()}")
    return WireReader(message[1:])
