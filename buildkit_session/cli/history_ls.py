"""``buildkit-session history ls``: the builds that the daemon remembers and those that run.

Words and output are those of ``docker buildx history ls``; ``-q`` prints ids alone. Names of builds that buildx has
started on this machine are taken from its state, as the daemon knows of no directory.

Source: docker/buildx:commands/history/ls.go.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from buildkit_session.cli.build_flags import BUILDER
from buildkit_session.cli.console import Console
from buildkit_session.cli.flags import Flag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buildkit_session import Client
    from buildkit_session.cli.flags import CommandLine
    from buildkit_session.engine.history_values import BuildRecord

__all__ = ["FLAGS", "LIMIT", "OPERANDS", "USAGE", "run"]

USAGE = "history ls [OPTIONS]"
OPERANDS = (0, 0)
FLAGS = (
    BUILDER,
    Flag(
        "filter",
        "Show only these builds: status=error, ref=ID, repository=URL, startedAt>24h, completedAt<24h, duration>90s",
        "CONDITION",
    ),
    Flag("format", "Format of the output: table, json or a template (default: table)", "FORMAT"),
    Flag("no-trunc", "Do not shorten names"),
    Flag("quiet", "Print ids only", short="q"),
)

LIMIT: Final = 50
"""Builds that are looked at, as buildx does."""

_TITLES: Final = {
    "Ref": "BUILD ID",
    "Name": "NAME",
    "Status": "STATUS",
    "CreatedAt": "CREATED AT",
    "Duration": "DURATION",
    "Link": "",
}
_NAME_WIDTH: Final = 36


def run(line: CommandLine) -> int:
    """Run the command and return its exit code."""
    from buildkit_session.cli import asking  # noqa: PLC0415 - it loads the client, which help does not need
    from buildkit_session.cli.chosen_builder import choose_builder  # noqa: PLC0415 - as above

    async def question(client: Client) -> None:
        records = await client.history(filters=line.all("filter"), limit=LIMIT)
        chosen = choose_builder(line.last("host"), line.last("builder"))
        Console.output().write(_shown(records, f"{chosen.name}/{chosen.node}", line))

    return asking.ask(line, question)


@dataclass(frozen=True, slots=True)
class _Row:
    record: BuildRecord
    name: str
    full_ref: str


def _shown(records: Sequence[BuildRecord], place: str, line: CommandLine) -> str:
    from buildkit_session.cli.listing import Listing  # noqa: PLC0415 - as above
    from buildkit_session.printable import printable  # noqa: PLC0415 - as above

    rows = [_row(record, place) for record in sorted(records, key=lambda record: record.completed is not None)]
    if line.is_set("quiet"):
        return "".join(f"{printable(row.record.ref)}\n" for row in rows)
    now = time.time_ns()
    width = None if line.is_set("no-trunc") else _NAME_WIDTH
    return Listing(_TITLES, tuple(_TITLES)).render(
        line.last("format") or "table",
        lambda table: [_fields(row, now, width=width if table else None) for row in rows],
        lambda: [_object(row) for row in rows],
    )


def _row(record: BuildRecord, place: str) -> _Row:
    from buildkit_session.engine.build_name import build_name  # noqa: PLC0415 - as above
    from buildkit_session.engine.build_origin import find_origin  # noqa: PLC0415 - as above

    origin = find_origin(os.environ, record.ref)
    if origin is not None:
        place = f"{origin.builder}/{origin.node}"
    return _Row(record, build_name(record.frontend_attrs, origin), f"{place}/{record.ref}")


def _fields(row: _Row, now: int, *, width: int | None) -> dict[str, object]:
    from buildkit_session.cli import human  # noqa: PLC0415 - as above
    from buildkit_session.printable import printable  # noqa: PLC0415 - as above

    record = row.record
    created = now if record.created is None else record.created
    name = printable(row.name)
    if width is not None and len(name) > width:
        name = f"..{name[2 - width :]}"
    took = human.length((record.completed or now) - created)
    return {
        "Ref": printable(record.ref),
        "Name": name,
        "Status": _status(record),
        "CreatedAt": f"{human.age(now - created)} ago",
        "Duration": took if record.completed is not None else f"{took}+",
        "Link": "",
    }


def _object(row: _Row) -> dict[str, object]:
    from buildkit_session.engine.timestamps import format_timestamp  # noqa: PLC0415 - as above

    record = row.record
    return {
        "ref": row.full_ref,
        "name": row.name,
        "status": _status(record),
        "created_at": format_timestamp(record.created or 0),
        "total_steps": record.total_steps,
        "completed_steps": record.completed_steps,
        "cached_steps": record.cached_steps,
        **({"completed_at": format_timestamp(record.completed)} if record.completed is not None else {}),
    }


def _status(record: BuildRecord) -> str:
    if record.completed is None:
        return "Running"
    return "Error" if record.error or record.error_code else "Completed"
