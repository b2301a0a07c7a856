r"""The two streams a person or a pipe reads: text out, bytes as they were, control characters only where they are safe.

Text that came from the daemon (names of steps, their output, errors) is data. Where it goes to a pipe or a file it
passes unchanged: bytes that are not UTF-8 travel as surrogate escapes and come out as the same bytes. Where it goes to
a terminal, everything that could move the cursor, change the title, make the terminal answer or reorder text is shown
as ``\xNN`` or ``\uNNNN``; tabs, line ends, carriage returns and colours (SGR sequences) stay.

An SGR sequence that was cut in two between repaints is shown escaped: ugly, and harmless.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO

__all__ = ["Console", "StreamLostError", "escape_controls"]

# C0 without tab, line feed and carriage return; DEL and C1; lone surrogates (bytes that are not UTF-8); the characters
# that change the direction of text (Unicode TR 36, section 2.5). An ESC is unsafe unless it begins an SGR sequence.
_UNSAFE = re.compile(
    r"\x1b(?!\[[0-9;:]*m)|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

# Halves of characters in UTF-16, which JSON can spell, without those that stand for bytes (PEP 383).
_HALVES = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")


class StreamLostError(Exception):
    """Standard output or standard error takes no more text.

    Attributes:
        reader_gone: whether it is a pipe that nobody reads any more, which is no fault of this program.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        self.reader_gone = isinstance(error, BrokenPipeError)


def escape_controls(text: str) -> str:
    """Make ``text`` safe for a terminal; see the module for what stays."""
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a surrogate escape: show the byte it stands for (PEP 383)
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return _HALVES.sub("\ufffd", text).encode("utf-8", "surrogateescape")


class Console:
    """One text stream of the process, written through to the reader with every call."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream  # None if the process was started without it
        self._is_terminal = stream is not None and stream.isatty()

    @classmethod
    def output(cls) -> Console:
        """Standard output: identifiers, for programs."""
        return cls(sys.stdout)

    @classmethod
    def messages(cls) -> Console:
        """Standard error: everything for people."""
        return cls(sys.stderr)

    @property
    def is_terminal(self) -> bool:
        """Whether a person may be watching."""
        return self._is_terminal

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows of the terminal, now; zeros where they are unknown."""
        if self._stream is None or not self._is_terminal:
            return 0, 0
        try:
            return os.get_terminal_size(self._stream.fileno())
        except OSError:  # it was hung up
            return 0, 0

    def write(self, text: str, *, safe: bool = False) -> None:
        """Write all of ``text``. Blocks for as long as the reader does not read.

        Args:
            text: what to write.
            safe: whether it may move the cursor of a terminal, because what came from elsewhere is escaped already.

        Raises:
            StreamLostError: the text could not be written; nothing more can be.
        """
        if self._stream is None or not text:
            return
        shown = escape_controls(text) if self._is_terminal and not safe else text
        try:
            self._stream.buffer.write(_encode(shown))
            self._stream.buffer.flush()
        except OSError as error:
            _discard_buffered(self._stream)
            raise StreamLostError(error) from error


def _discard_buffered(stream: TextIO) -> None:
    # The interpreter flushes once more when it ends, and would complain about the same fault.
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)
