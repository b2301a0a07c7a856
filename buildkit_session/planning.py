"""Making a plan: one walk over the context, as the transfer would do it."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from typing import TYPE_CHECKING

from buildkit_session.caution import about_context, about_entry, about_name, about_target, about_unreadable
from buildkit_session.fsutil.beneath import FileOpener
from buildkit_session.fsutil.modes import GoMode, is_plain_file
from buildkit_session.fsutil.walk import Filter, walk
from buildkit_session.plan import DirectoryTotal, IgnoreDecision, Plan, PlannedEntry, PlannedKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buildkit_session.errors import TransferError
    from buildkit_session.fsutil.dockerignore import IgnoreFile, IgnoreLine
    from buildkit_session.fsutil.filter import Verdict
    from buildkit_session.messages.fsutil.types import Stat
    from buildkit_session.plan import PlanWarning

__all__ = ["make_plan"]


def make_plan(root_fd: int, ignore_file: IgnoreFile | None, *, huge_file: int, many_files: int) -> Plan:
    """Make the plan of the tree at ``root_fd``; the limits are those of :meth:`Context.plan`.

    Raises:
        InputError: a pattern is malformed.
    """
    lines = ignore_file.lines if ignore_file else ()
    watch = _Watch(lines)
    planned: list[PlannedEntry] = []
    opener = FileOpener(root_fd)
    filtered = Filter(exclude=tuple(line.pattern for line in lines))
    with closing(opener), closing(walk(root_fd, filtered, observer=watch)) as entries:
        for found in entries:
            entry = _planned(found)
            planned.append(entry)
            watch.warnings += about_entry(entry, found.path, opener, huge_file=huge_file)
            if entry.kind is PlannedKind.SYMLINK and (warning := about_target(found.path, found.linkname)) is not None:
                watch.warnings.append(warning)
    totals = _totals(planned)
    return Plan(
        ignore_file=ignore_file.name if ignore_file else None,
        entries=tuple(planned),
        directories=totals,
        excluded=tuple(watch.excluded),
        reincluded=tuple(watch.reincluded),
        warnings=(*about_context(ignore_file, totals[0], many_files=many_files), *watch.warnings),
    )


class _Watch:
    """Notes what the walk leaves out, and why."""

    def __init__(self, lines: tuple[IgnoreLine, ...]) -> None:
        self._lines = lines
        self.excluded: list[IgnoreDecision] = []
        self.reincluded: list[IgnoreDecision] = []
        self.warnings: list[PlanWarning] = []

    def judged(self, path: bytes, verdict: Verdict, *, parent: Verdict, directory: int) -> None:
        """See :class:`~buildkit_session.fsutil.walk.Observer`."""
        decider = verdict.excluded.decider if verdict.excluded else None
        inherited = parent.excluded.decider if parent.excluded else None
        # What the line that decided about the directory says about its entries goes without saying.
        if decider is not None and decider != inherited:
            self._note(path, directory, self._lines[decider], self.reincluded if verdict.kept else self.excluded)
        if verdict.kept and (warning := about_name(path, directory)) is not None:
            self.warnings.append(warning)

    def _note(self, path: bytes, directory: int, line: IgnoreLine, decisions: list[IgnoreDecision]) -> None:
        try:
            found = os.stat(path.rpartition(b"/")[2], dir_fd=directory, follow_symlinks=False)
        except OSError:  # gone by now, or nobody may look
            return
        size = found.st_size if stat.S_ISREG(found.st_mode) else 0
        decisions.append(IgnoreDecision(_text(path), stat.S_ISDIR(found.st_mode), size, line))

    def unreadable(self, error: TransferError) -> None:
        """See :class:`~buildkit_session.fsutil.walk.Observer`."""
        self.warnings.append(about_unreadable(error))


def _planned(entry: Stat) -> PlannedEntry:
    kind = _kind(entry)
    return PlannedEntry(_text(entry.path), kind, entry.size if kind is PlannedKind.FILE else 0)


def _kind(entry: Stat) -> PlannedKind:
    if entry.mode & GoMode.DIR.value:
        return PlannedKind.DIRECTORY
    if entry.mode & GoMode.SYMLINK.value:
        return PlannedKind.SYMLINK
    if entry.mode & GoMode.NAMED_PIPE.value:
        return PlannedKind.FIFO
    if not is_plain_file(entry.mode):
        return PlannedKind.DEVICE
    return PlannedKind.HARDLINK if entry.linkname else PlannedKind.FILE


def _totals(entries: Sequence[PlannedEntry]) -> tuple[DirectoryTotal, ...]:
    """Add up from the last entry to the first, so that a directory is complete when its turn comes."""
    files: dict[str, int] = {}
    sizes: dict[str, int] = {}
    totals: list[DirectoryTotal] = []
    for entry in (*reversed(entries), PlannedEntry(".", PlannedKind.DIRECTORY, 0)):
        count, size = 1, entry.size
        if entry.kind is PlannedKind.DIRECTORY:
            count, size = files.pop(entry.path, 0), sizes.pop(entry.path, 0)
            totals.append(DirectoryTotal(entry.path, count, size))
        elif entry.kind not in {PlannedKind.FILE, PlannedKind.HARDLINK}:
            count = 0
        parent = entry.path.rpartition("/")[0] or "."
        files[parent] = files.get(parent, 0) + count
        sizes[parent] = sizes.get(parent, 0) + size
    return tuple(reversed(totals))


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
