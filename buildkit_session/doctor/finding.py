"""What an examination has found out: a fact, whether it is in the way of anything, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Level"]


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    """As it should be, or just so."""
    LIMITED = "limited"
    """Builds work, some of them do not."""
    BROKEN = "broken"
    """Builds do not work, or those that need this do not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact.

    Attributes:
        level: how much it matters.
        subject: what it is about, in a word or two.
        text: the fact.
        advice: what to do, or empty.
    """

    level: Level
    subject: str
    text: str
    advice: str = ""
