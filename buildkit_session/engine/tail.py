"""What a program on the way to a daemon has said in the end, and the error made of it."""

from __future__ import annotations

from typing import Final

from buildkit_session.printable import printable

__all__ = ["ProgramEnded", "Tail"]

_KEPT: Final = 2048


class ProgramEnded(OSError):
    """The program that a connection runs through could not be started, or ended; the text says why."""


class Tail:
    """Keeps the last bytes it was given, two kilobytes at most."""

    def __init__(self) -> None:
        self._kept = b""

    def add(self, data: bytes | memoryview) -> None:
        """Take what was said."""
        self._kept = (self._kept + bytes(data[-_KEPT:]))[-_KEPT:]

    def text(self) -> str:
        """Return it on one line, with nothing in it that could drive a terminal."""
        lines = self._kept.decode("utf-8", "replace").splitlines()
        return "; ".join(printable(line.strip()) for line in lines if line.strip())
