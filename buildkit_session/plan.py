"""What a build would send of its context, found out without a daemon.

A plan is about the whole context after the ignore file, which is what ``COPY . /`` asks for. A daemon asks for less
where a Dockerfile names its sources, and never for more; which parts those are is its own decision, and no plan
foretells it. The Dockerfile and the ignore file, which a daemon reads even if they are ignored, are in the plan only
where they are not. Nor does a plan know what the daemon still has from an earlier build and need not be sent again.

Paths are relative to the context and ``/``-separated; bytes that are not UTF-8 are surrogate escapes in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_session.fsutil.dockerignore import IgnoreLine

__all__ = [
    "DirectoryTotal",
    "IgnoreDecision",
    "Plan",
    "PlanWarning",
    "PlanWarningKind",
    "PlannedEntry",
    "PlannedKind",
]


class PlannedKind(StrEnum):
    """What an entry arrives as."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    """One more name of a file that comes earlier; its content is not sent again."""
    FIFO = "fifo"
    DEVICE = "device"


class PlanWarningKind(StrEnum):
    """What a warning is about."""

    NO_IGNORE_FILE = "no-ignore-file"
    PRIVATE_KEY = "private-key"
    ENVIRONMENT = "environment"
    """A file of variables, such as ``.env``."""
    CREDENTIALS = "credentials"
    """A file in which a tool keeps passwords or tokens, such as ``.npmrc``."""
    VERSION_CONTROL = "version-control"
    HUGE_FILE = "huge-file"
    MANY_FILES = "many-files"
    NAME_NOT_UTF8 = "name-not-utf8"
    SPECIAL_FILE = "special-file"
    """A socket, a FIFO or a device."""
    UNREADABLE = "unreadable"
    """The build would fail on it."""


@dataclass(frozen=True, slots=True)
class PlannedEntry:
    """One entry that would be sent.

    Attributes:
        size: bytes of content; 0 for everything but files.
    """

    path: str
    kind: PlannedKind
    size: int


@dataclass(frozen=True, slots=True)
class DirectoryTotal:
    """What is in a directory, at any depth.

    Attributes:
        path: ``.`` for the context itself.
        files: number of files, further names of the same file included.
        size: bytes of content.
    """

    path: str
    files: int
    size: int


@dataclass(frozen=True, slots=True)
class IgnoreDecision:
    """Why an entry is ignored, or is not ignored although its directory is.

    A directory stands for all that is below it, except what other decisions say.

    Attributes:
        is_directory: whether it is one; links to directories are none.
        size: bytes of a file; 0 for other entries, and for a directory, into which nobody looks only to weigh it.
        line: the line of the ignore file that decided.
    """

    path: str
    is_directory: bool
    size: int
    line: IgnoreLine


@dataclass(frozen=True, slots=True)
class PlanWarning:
    """Something about the context to think over before it is sent.

    Attributes:
        path: the entry it is about, or ``None``.
        advice: what it is and what to do, for people. Never holds anything of a file's content.
    """

    kind: PlanWarningKind
    path: str | None
    advice: str


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """What would be sent of a context; see the module for what it cannot know.

    Attributes:
        ignore_file: name of the ignore file that counts, or ``None``.
        entries: in the order of the transfer: a directory before what is in it, siblings by the bytes of their names.
            A directory that is ignored is among them if something below it is not.
        directories: the context itself and every directory among the entries, in their order.
        excluded: the topmost ignored entries.
        reincluded: the topmost entries that are sent because of a line with ``!``.
        warnings: in the order of the entries, general ones first.
    """

    ignore_file: str | None
    entries: tuple[PlannedEntry, ...]
    directories: tuple[DirectoryTotal, ...]
    excluded: tuple[IgnoreDecision, ...]
    reincluded: tuple[IgnoreDecision, ...]
    warnings: tuple[PlanWarning, ...]

    def __repr__(self) -> str:
        return (
            f"<Plan files={self.files} size={self.size} excluded={len(self.excluded)} "
            f"reincluded={len(self.reincluded)} warnings={len(self.warnings)}>"
        )

    @property
    def files(self) -> int:
        """Number of files, further names of the same file included."""
        return self.directories[0].files

    @property
    def size(self) -> int:
        """Bytes of content of all files."""
        return self.directories[0].size
