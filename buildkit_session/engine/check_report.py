"""What a check of a Dockerfile found, as text: rules that are not followed, and why it cannot be built at all.

Source: moby/buildkit:frontend/subrequests/lint/lint.go; docker/buildx:commands/build.go (printResult).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cmp_to_key
from typing import TYPE_CHECKING, Final

from buildkit_session.engine.json_values import Json, as_list, as_number, as_object, as_text
from buildkit_session.engine.source_json import read_ranges, read_source
from buildkit_session.excerpt import excerpt
from buildkit_session.source import SourceExcerpt, SourceFile

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CheckReport", "read_report"]

MAX_TEXT: Final = 64 * 1024 * 1024
"""Characters of all warnings. Few bytes of JSON can name a long line many times."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that is not followed.

    Attributes:
        rule: its name.
        url: of its description, or empty.
        detail: what is wrong.
        place: where; ``None`` for what is not in a file.
    """

    rule: str
    url: str
    detail: str
    place: SourceExcerpt | None


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All that a check found.

    Attributes:
        findings: in the order of the frontend.
        failure: why the Dockerfile cannot be built, or ``None``.
        failure_place: where.
    """

    findings: tuple[Finding, ...]
    failure: str | None = None
    failure_place: SourceExcerpt | None = None

    @property
    def failed(self) -> bool:
        """Whether the Dockerfile cannot be built."""
        return self.failure is not None

    def head(self) -> str:
        """Count the warnings; empty when there are none."""
        match len(self.findings):
            case 0:
                return ""
            case 1:
                return "Check complete, 1 warning has been found!\n"
            case count:
                return f"Check complete, {count} warnings have been found!\n"

    def warnings(self) -> str:
        """Show each warning with its place, after an empty line.

        Raises:
            ValueError: that would be more than ``MAX_TEXT``.
        """
        blocks: list[str] = []
        room = MAX_TEXT
        for finding in sorted(self.findings, key=cmp_to_key(_compare)):
            blocks.append(_block(finding))
            room -= len(blocks[-1])
            if room < 0:
                raise ValueError(MAX_TEXT)
        return "".join(blocks)

    def error(self) -> str:
        """Show why the Dockerfile cannot be built, and where."""
        return f"{self.failure}\n{_excerpt(self.failure_place)}"


def read_report(text: str, *, filename: str = "") -> CheckReport:
    """Read the ``result.json`` of a check.

    Args:
        text: the JSON.
        filename: that the excerpts show in the place of the daemon's; empty to keep that.

    Raises:
        TypeError: it has another shape.
        ValueError: it is no JSON, or names a file that it does not have.
    """
    result = as_object(json.loads(text))
    sources = [read_source(source) for source in as_list(result.get("sources"))]
    if filename:
        sources = [replace(source, filename=filename) for source in sources]
    findings = tuple(_finding(as_object(warning), sources) for warning in as_list(result.get("warnings")))
    if result.get("buildError") is None:
        return CheckReport(findings)
    error = as_object(result["buildError"])
    return CheckReport(findings, as_text(error.get("message")), _place(as_object(error.get("location")), sources))


def _finding(value: Json, sources: Sequence[SourceFile]) -> Finding:
    place = _place(as_object(value["location"]), sources) if value.get("location") else None
    return Finding(as_text(value.get("ruleName")), as_text(value.get("url")), as_text(value.get("detail")), place)


def _place(location: Json, sources: Sequence[SourceFile]) -> SourceExcerpt | None:
    """Find the source of a location; the index is negative where there is none, and left out where it is 0."""
    index = as_number(location.get("sourceIndex"))
    if index < 0:
        return None
    if index >= len(sources):
        raise ValueError(index)
    return SourceExcerpt(sources[index], read_ranges(location.get("ranges")))


def _block(finding: Finding) -> str:
    url = f" - {finding.url}" if finding.url else ""
    return f"\nWARNING: {finding.rule}{url}\n{finding.detail}\n{_excerpt(finding.place)}"


def _excerpt(place: SourceExcerpt | None) -> str:
    return excerpt(place.file, place.ranges) if place else ""


def _compare(one: Finding, other: Finding) -> int:
    """Order findings: those without a file first, then by file and line; by rule where there is no more."""
    if one.place is None or other.place is None:
        return _order(one.place is not None, other.place is not None) or _order(one.rule, other.rule)
    if one.place.file.filename != other.place.file.filename:
        return _order(one.place.file.filename, other.place.file.filename)
    if not one.place.ranges or not other.place.ranges:
        return _order(bool(one.place.ranges), bool(other.place.ranges)) or _order(one.rule, other.rule)
    return _order(one.place.ranges[0].start.line, other.place.ranges[0].start.line)


def _order(one: str | int, other: str | int) -> int:
    return 0 if one == other else -1 if one < other else 1  # type: ignore[operator]  # both are of one type
