"""Numbers and strings as SSH writes them, read strictly.

Source: RFC 4251, section 5.
"""

from __future__ import annotations

from typing import Final

from buildkit_session.errors import RemoteProtocolError

__all__ = ["WireReader", "mpint", "string"]

_LENGTH: Final = 4


class WireReader:
    """Takes values off the front of some bytes; each raises RemoteProtocolError if they are not there.

    Args:
        data: what is read.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        """Take so many bytes."""
        end = self._at + size
        if end > len(self._data):
            raise RemoteProtocolError(f"a value of {size} bytes, of which {len(self._data) - self._at} are there")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def number(self) -> int:
        """Take a ``uint32``."""
        return int.from_bytes(self.take(_LENGTH))

    def string(self) -> bytes:
        """Take a string, which has its length in front."""
        return self.take(self.number())

    def end(self) -> None:
        """Raise RemoteProtocolError if something is left."""
        if self._at != len(self._data):
            raise RemoteProtocolError(f"{len(self._data) - self._at} bytes after the last value")


def string(data: bytes) -> bytes:
    """Write a string."""
    return len(data).to_bytes(_LENGTH) + data


def mpint(number: int) -> bytes:
    """Write a number that is not negative: big-endian, with a zero in front if its first bit is set."""
    return string(number.to_bytes(number.bit_length() // 8 + 1) if number else b"")
