"""Quotas: the most that a daemon may write with one export, in bytes of content and in entries.

Content of files counts as it is declared, before it is asked for; that is as good as counting what comes, and earlier,
as the writer takes no byte of a file beyond its declared size. An archive declares nothing, so its bytes count when
they have come, before they are written. Either way nothing beyond the quota is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import InputError, QuotaExceeded

if TYPE_CHECKING:
    from buildkit_session.messages.fsutil.types import Stat

__all__ = ["UNLIMITED", "Limits", "Quota"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one export may have, in all of its streams together; ``None`` is no limit.

    Attributes:
        max_bytes: bytes of content.
        max_entries: files under each of their names, directories, links and all others.

    Raises:
        InputError: a limit is not positive.
    """

    max_bytes: int | None = None
    max_entries: int | None = None

    def __post_init__(self) -> None:
        for name, limit in (("max-size (max_bytes)", self.max_bytes), ("max-entries", self.max_entries)):
            if limit is not None and not isinstance(limit, int):
                raise InputError(f"{name} must be a whole number, not {limit!r}")
            if limit is not None and limit < 1:
                raise InputError(f"{name} {limit} is not a positive number; leave it out for no limit")


UNLIMITED: Final = Limits()


class Quota:
    """What is left of the limits of an export. Its streams share it, each in a thread of its own.

    Args:
        limits: of the export.
        what: names the export in errors.
        flag: of the command line, in which the limits are fields.
    """

    def __init__(self, limits: Limits, what: str = "the export", flag: str = "--output") -> None:
        self._bytes = _Allowance("max_bytes", limits.max_bytes, what, f"bytes; raise max_bytes (max-size in {flag})")
        self._entries = _Allowance(
            "max_entries", limits.max_entries, what, f"entries; raise max_entries (max-entries in {flag})"
        )

    def take_entry(self, entry: Stat) -> None:
        """Count an entry that is about to be written.

        Raises:
            QuotaExceeded: it is one too many.
        """
        self._entries.take(1, entry.path)

    def take_blob(self) -> None:
        """Count a blob that is about to be written, as an entry. Raises as :meth:`take_entry`."""
        self._entries.take(1, None)

    def take_content(self, entry: Stat) -> None:
        """Count the content of a file that is about to be asked for.

        Raises:
            QuotaExceeded: it is too much.
        """
        # A negative size, which is no size that can arrive, must not make room for others.
        self._bytes.take(max(entry.size, 0), entry.path)

    def take_bytes(self, count: int) -> None:
        """Count bytes that are about to be written.

        Raises:
            QuotaExceeded: they are too many.
        """
        self._bytes.take(count, None)


class _Allowance:
    def __init__(self, option: str, limit: int | None, what: str, unit_and_remedy: str) -> None:
        self._option = option
        self._limit = limit
        self._text = f"{what} has more than {limit} {unit_and_remedy} if it may"
        self._taken = 0
        self._counting = Lock()

    def take(self, count: int, path: bytes | None) -> None:
        if self._limit is None:
            return
        with self._counting:
            self._taken += count
            if self._taken > self._limit:
                raise QuotaExceeded(self._option, self._limit, self._text, path=path)
