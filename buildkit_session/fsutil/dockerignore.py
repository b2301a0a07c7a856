"""Ignore files: which one counts for a build, and what its lines mean.

In a build both are the daemon's business: it asks for the file, reads it and sends back patterns. This is the same on
this side, for those who want to know the patterns without a daemon. What a pattern matches is in
:mod:`buildkit_session.fsutil.patterns`.

Source: moby/patternmatcher:ignorefile/ignorefile.go (ReadAll); moby/buildkit:frontend/dockerui/config.go
(ReadEntrypoint, dockerIgnorePatterns).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import InputError
from buildkit_session.fsutil.beneath import open_file
from buildkit_session.fsutil.modes import GoMode, is_plain_file
from buildkit_session.fsutil.patterns import WHITE_SPACE, PatternMatcher, clean_path
from buildkit_session.fsutil.walk import Filter, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from buildkit_session.messages.fsutil.types import Stat

__all__ = ["IgnoreFile", "IgnoreLine", "parse_ignore_file", "read_ignore_file"]

LINE_LIMIT: Final = 64 * 1024
"""Bytes of a line, its end included, that the daemon's reader has room for (golang/go:src/bufio/scan.go)."""

LINK_LIMIT: Final = 255
"""Links on the way to one file, as the daemon counts them (containerd/continuity:fs/path.go)."""

_DEFAULT_NAME: Final = ".dockerignore"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_NOT_UTF8: Final = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class IgnoreLine:
    """One line that is neither blank nor a comment.

    Attributes:
        file: name of the ignore file.
        number: of the line, from 1.
        text: as it stands there, without the white space around it.
        pattern: what the daemon makes of it; begins with ``!`` if what it matches is not ignored.
    """

    file: str
    number: int
    text: str
    pattern: str


@dataclass(frozen=True, slots=True)
class IgnoreFile:
    """An ignore file, read and checked.

    Attributes:
        name: ``.dockerignore``, or ``<Dockerfile>.dockerignore``, which lies beside the Dockerfile.
        lines: in their order, on which their meaning depends.
    """

    name: str
    lines: tuple[IgnoreLine, ...]

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns of the lines, in their order."""
        return tuple(line.pattern for line in self.lines)


def read_ignore_file(*, context: int, dockerfile_directory: int, dockerfile: str) -> IgnoreFile | None:
    """Return the ignore file that the daemon would take, or ``None`` if there is none.

    ``<dockerfile>.dockerignore`` beside the Dockerfile wins, even if it is empty; then comes ``.dockerignore`` in the
    context. Links are followed, and lead nowhere outside of the directory. What is no file counts as missing.

    Args:
        context: descriptor of the context directory.
        dockerfile_directory: descriptor of the directory that holds the Dockerfile.
        dockerfile: its name in there.

    Raises:
        InputError: a line is malformed or too long; the text names it.
        TransferError: the file is there and cannot be read.
    """
    for root_fd, name in ((dockerfile_directory, f"{dockerfile}{_DEFAULT_NAME}"), (context, _DEFAULT_NAME)):
        content = _read(root_fd, name)
        if content is not None:
            found = IgnoreFile(name, parse_ignore_file(content, name))
            _check(found)
            return found
    return None


def parse_ignore_file(content: bytes, name: str = _DEFAULT_NAME) -> tuple[IgnoreLine, ...]:
    """Take the lines of an ignore file apart. Whether the patterns are well-formed is not looked at.

    A byte order mark is skipped, and so is a line with ``#`` in its first column; white space is stripped around a line
    and behind ``!``; the path is cleaned, and loses a leading slash.

    Raises:
        InputError: a line is longer than the daemon can read.
    """
    return tuple(_lines(content, name))


def _lines(content: bytes, name: str) -> Iterator[IgnoreLine]:
    for number, raw in enumerate(content.split(b"\n"), 1):
        if len(raw) >= LINE_LIMIT:
            raise InputError(f"{name}:{number}: the line has {len(raw)} bytes, fewer than {LINE_LIMIT} can be read")
        text = (raw.removeprefix(_BYTE_ORDER_MARK) if number == 1 else raw).decode("utf-8", "surrogateescape")
        stripped = text.strip(WHITE_SPACE)
        if stripped and not text.startswith("#"):
            yield IgnoreLine(name, number, stripped, _pattern(stripped))


def _pattern(text: str) -> str:
    exception = "!" if text.startswith("!") else ""
    path = clean_path(text.removeprefix("!").strip(WHITE_SPACE) if exception else text)
    if len(path) > 1:
        path = path.removeprefix("/")
    # Patterns reach the client by way of JSON, whose writer in Go has no other bytes than UTF-8.
    return exception + _NOT_UTF8.sub("\ufffd", path)


def _check(found: IgnoreFile) -> None:
    try:
        PatternMatcher(found.patterns)
    except InputError:
        for line in found.lines:
            _check_line(line)
        raise


def _check_line(line: IgnoreLine) -> None:
    try:
        PatternMatcher((line.pattern,))
    except InputError as error:
        raise InputError(f"{line.file}:{line.number}: {error}") from error


def _read(root_fd: int, name: str) -> bytes | None:
    """Return the content of a file as the daemon sees it: it asks for the name, and follows links in what it gets."""
    entries = {entry.path: entry for entry in walk(root_fd, Filter(follow=(name,)))}
    path = _resolve(entries, os.fsencode(name))
    if path is None or path not in entries or not is_plain_file(entries[path].mode):
        return None
    with os.fdopen(open_file(root_fd, path), "rb") as file:
        return file.read()


def _resolve(entries: Mapping[bytes, Stat], path: bytes) -> bytes | None:
    """Return where ``path`` leads, ``..`` stopping at the root; ``None`` for a loop."""
    ahead = _reversed_components(path)
    behind: list[bytes] = []
    links = 0
    while ahead:
        name = ahead.pop()
        if name == b"..":
            del behind[-1:]
            continue
        behind.append(name)
        entry = entries.get(b"/".join(behind))
        if entry is None or not entry.mode & GoMode.SYMLINK.value:
            continue
        links += 1
        if links > LINK_LIMIT:
            return None
        behind = [] if entry.linkname.startswith(b"/") else behind[:-1]
        ahead += _reversed_components(entry.linkname)
    return b"/".join(behind)


def _reversed_components(path: bytes) -> list[bytes]:
    return [name for name in reversed(path.split(b"/")) if name not in {b"", b"."}]
