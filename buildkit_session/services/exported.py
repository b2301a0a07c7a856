"""What an export has done, for the caller."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from buildkit_session.fsutil.disk import Written
    from buildkit_session.fsutil.listing import ListedEntry

__all__ = ["Exported"]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written to a directory, or would have been.

    Attributes:
        dest: the directory; ``None`` for a listing, which writes nothing.
        files: files written, under each of their names, pipes and devices.
        directories: directories of the result, those that were there before too.
        links: symbolic links written.
        bytes: content written.
        unchanged: files that an incremental export found there as they should be.
        removed: entries that a mirror removed because the result no longer has them.
        dropped_bits: files that lost set-user-id, set-group-id or sticky bits.
        dropped_xattrs: entries that lost extended attributes.
        entries: of a listing, in its order.
    """

    dest: Path | None
    files: int = 0
    directories: int = 0
    links: int = 0
    bytes: int = 0
    unchanged: int = 0
    removed: int = 0
    dropped_bits: int = 0
    dropped_xattrs: int = 0
    entries: tuple[ListedEntry, ...] = field(default=(), repr=False)

    @classmethod
    def of_streams(cls, dest: Path, streams: Sequence[Written], removed: int) -> Exported:
        """Sum up what each stream of an export wrote."""
        return cls(
            dest,
            files=sum(written.files for written in streams),
            directories=sum(written.directories for written in streams),
            links=sum(written.links for written in streams),
            bytes=sum(written.content for written in streams),
            unchanged=sum(written.unchanged for written in streams),
            removed=removed,
            dropped_bits=sum(written.dropped_bits for written in streams),
            dropped_xattrs=sum(written.dropped_xattrs for written in streams),
        )
