"""What a receiver takes of a listing, and how. A plain value that loads nothing."""

from __future__ import annotations

from typing import Final, NamedTuple

from buildkit_session.fsutil.policy import SAFE, Policy
from buildkit_session.fsutil.quota import UNLIMITED, Limits

__all__ = ["DEFAULT", "STALL_TIMEOUT", "ReceiveOptions"]

STALL_TIMEOUT: Final = 60.0
"""Seconds of silence. A daemon reads what it is asked for from its own disk."""


class ReceiveOptions(NamedTuple):
    """The options of one transfer.

    Attributes:
        policy: what of the metadata is applied.
        include: patterns as in a ``.dockerignore``; only what matches them is taken. None means everything.
        exclude: patterns; what matches them is not taken, included or not.
        incremental: whether files that are there with the listed size, time and permissions are left alone.
        stall_timeout: seconds of silence while content is owed, or ``None`` for no limit.
        limits: how much may be taken.
    """

    policy: Policy = SAFE
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    incremental: bool = False
    stall_timeout: float | None = STALL_TIMEOUT
    limits: Limits = UNLIMITED


DEFAULT: Final = ReceiveOptions()
