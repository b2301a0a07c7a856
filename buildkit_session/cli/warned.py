"""The warnings of a build, each once, and their list at its end.

Upstream lists them in random order and says ``docker --debug``; here they keep the order in which they came, and the
hint names the flag that this program has.

Source: docker/buildx:commands/build.go (printWarnings), util/progress/printer.go (dedupWarnings).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from buildkit_session.cli.display import one_line
from buildkit_session.excerpt import excerpt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_session.engine.events import VertexWarning

__all__ = ["Warnings"]


class Warnings:
    """Warnings that say different things; false if there is none."""

    def __init__(self) -> None:
        self._distinct: dict[VertexWarning, None] = {}

    def __len__(self) -> int:
        return len(self._distinct)

    def add(self, warning: VertexWarning) -> bool:
        """Keep a warning; return whether it says anything new.

        The same one comes once per platform and once per frontend that saw it: the step does not count.
        """
        known = len(self._distinct)
        self._distinct.setdefault(replace(warning, vertex=""))
        return len(self._distinct) > known

    def heading(self, *, explain: bool) -> str:
        """Say how many there are, and how to learn more unless that follows: a line without its end."""
        hint = "" if explain else " (use --debug to expand)"
        return f" {len(self)} warning{'s' if len(self) > 1 else ''} found{hint}:"

    def listing(self, *, explain: bool) -> str:
        """Give each a line; with ``explain`` also its details, the address of more, and the lines it is about."""
        return "".join(_explained(warning) if explain else _named(warning) for warning in self._distinct)


def _named(warning: VertexWarning) -> str:
    return f" - {one_line(warning.short)}\n"


def _explained(warning: VertexWarning) -> str:
    return f"{_named(warning)}{''.join(_details(warning))}\n"


def _details(warning: VertexWarning) -> Iterator[str]:
    for line in warning.detail:
        yield f"{line}\n"
    if warning.url:
        yield f"More info: {one_line(warning.url)}\n"
    if warning.source is not None:
        yield excerpt(warning.source, warning.ranges)
