"""What came on standard input in place of a context: an archive, a Dockerfile, nothing, or what is no use.

Source: docker/buildx:build/utils.go (isArchive), build/opt.go (loadInputs).
"""

from __future__ import annotations

import codecs
from enum import Enum
from typing import Final

__all__ = ["HEAD_SIZE", "StdinKind", "classify"]

HEAD_SIZE: Final = 1024
"""Bytes from the beginning that decide."""

_BLOCK: Final = 512  # of a tar archive
_CHECKSUM: Final = slice(148, 156)
_MAGIC: Final = (b"BZh", b"\x1f\x8b\x08", b"\xfd7zXZ\x00")
_FOREIGN: Final = (b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"7z\xbc\xaf\x27\x1c")  # zstd, zip, 7-Zip
_CONTROLS: Final = frozenset(range(32)) - frozenset(b"\t\n\v\f\r\x1b")


class StdinKind(Enum):
    """What standard input holds."""

    ARCHIVE = "archive"
    """A tar archive, compressed or not: the context."""
    DOCKERFILE = "dockerfile"
    """Any other text: a Dockerfile, whose context is empty."""
    FOREIGN_ARCHIVE = "foreign archive"
    """An archive, or a compression, that daemons do not take."""
    BINARY = "binary"
    """Anything else that is no text; daemons would take it for a Dockerfile, and some fail on it without a reason."""
    EMPTY = "empty"
    """Not a byte."""


def classify(head: bytes) -> StdinKind:
    """Tell from the first :data:`HEAD_SIZE` bytes, or all there are, what the rest is.

    buildx also wants an entry of its own after a header that only extends the next one, as those of PAX do, and takes
    such an archive for a Dockerfile where that entry is not within reach. Here one valid header is enough.
    """
    if not head:
        return StdinKind.EMPTY
    if head.startswith(_MAGIC) or _is_tar_header(head[:_BLOCK]):
        return StdinKind.ARCHIVE
    if head.startswith(_FOREIGN):
        return StdinKind.FOREIGN_ARCHIVE
    return StdinKind.DOCKERFILE if _may_be_text(head) else StdinKind.BINARY


def _may_be_text(head: bytes) -> bool:
    """Whether a daemon could make anything of it: it takes text in any encoding that begins with that of ASCII."""
    return b"\0" not in head and (_CONTROLS.isdisjoint(head) or _is_utf8(head))


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # which may end within a character
    except UnicodeDecodeError:
        return False
    return True


def _is_tar_header(block: bytes) -> bool:
    """Whether the checksum holds: the sum of all bytes, those of the checksum itself counted as blanks.

    Source: IEEE Std 1003.1, pax, "ustar Interchange Format"; some old programs added signed bytes.
    """
    if len(block) < _BLOCK:
        return False
    try:
        checksum = int(block[_CHECKSUM].strip(b" \0") or b"0", 8)
    except ValueError:
        return False
    counted = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    unsigned = sum(counted)
    return checksum in {unsigned, unsigned - 256 * sum(byte > 127 for byte in counted)}
