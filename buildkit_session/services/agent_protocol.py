"""What programs say to an ssh agent, and which of it a build step may say.

A request or an answer is a length of four bytes and a body, whose first byte is its type. A step may list the keys and
have something signed. Whatever would change the agent, or is not known, is answered here as by an agent that refuses:
one agent serves many steps, and its owner.

Source: draft-ietf-sshm-ssh-agent; openssh/openssh-portable:PROTOCOL.agent, authfd.h, ssh-agent.c (AGENT_MAX_LEN).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from buildkit_session.errors import RemoteProtocolError
from buildkit_session.services.agent_messages import FAILURE, LIST, SIGN, read_signing

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_REQUEST", "Frames", "framed", "refusal"]

MAX_REQUEST: Final = 256 * 1024
"""Bytes of a request that OpenSSH's agent takes."""

_LENGTH: Final = 4

_ANSWERS: Final = {
    1: b"\x02\0\0\0\0",  # keys of version 1: there are none
    9: b"\x06",  # remove the keys of version 1: done
    # An extension has a refusal of its own. Success must not be pretended for session-bind@openssh.com.
    27: b"\x1c",
}


class Frames:
    """Cuts a stream of bytes, however it arrives, into bodies.

    Args:
        limit: bytes of the largest body.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """Take bytes and yield the bodies that are whole by now.

        Raises:
            RemoteProtocolError: a body is empty or too large.
        """
        self._buffer += data
        while len(self._buffer) >= _LENGTH:
            size = int.from_bytes(self._buffer[:_LENGTH])
            if not 0 < size <= self._limit:
                raise RemoteProtocolError(f"an agent message of {size} bytes; it has 1 to {self._limit}")
            if len(self._buffer) < _LENGTH + size:
                return
            body = bytes(self._buffer[_LENGTH : _LENGTH + size])
            del self._buffer[: _LENGTH + size]
            yield body


def framed(body: bytes) -> bytes:
    """A body with its length in front."""
    return len(body).to_bytes(_LENGTH) + body


def refusal(request: bytes) -> bytes | None:
    """The answer to a request that the agent must not see; ``None`` for one that it may.

    One that is not well formed is refused too: what is looked at here and what the agent reads must be the same.
    """
    if request == LIST:
        return None
    if request[:1] != SIGN:
        return _ANSWERS.get(request[0], FAILURE)
    try:
        read_signing(request)
    except RemoteProtocolError:
        return FAILURE
    return None
