"""``buildkit-session du``: what the build cache of the daemon holds.

Words and output are those of ``docker buildx du``.

Source: docker/buildx:commands/diskusage.go.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from buildkit_session.cli.build_flags import BUILDER
from buildkit_session.cli.console import Console
from buildkit_session.cli.flags import Flag
from buildkit_session.errors import InputError, SessionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buildkit_session import Client
    from buildkit_session.cli.flags import CommandLine
    from buildkit_session.engine.cache_records import CacheRecord

__all__ = ["FLAGS", "OPERANDS", "USAGE", "run"]

USAGE = "du [OPTIONS]"
OPERANDS = (0, 0)
FLAGS = (
    BUILDER,
    Flag("filter", "Show only these records: type=regular, id=ID, inuse=true, until=24h and others", "NAME=VALUE"),
    Flag("format", "Format of the output: table, json, pretty or a template (default: table)", "FORMAT"),
    Flag("verbose", "Show everything about each record, as with --format=pretty"),
)

PRETTY: Final = "pretty"

_TITLES: Final = {
    "ID": "ID",
    "Parents": "PARENTS",
    "CreatedAt": "CREATED AT",
    "Mutable": "MUTABLE",
    "Reclaimable": "RECLAIMABLE",
    "Shared": "SHARED",
    "Size": "SIZE",
    "Description": "DESCRIPTION",
    "UsageCount": "USAGE COUNT",
    "LastUsedAt": "LAST ACCESSED",
    "Type": "TYPE",
}
_COLUMNS: Final = ("ID", "Reclaimable", "Size", "LastUsedAt")


def run(line: CommandLine) -> int:
    """Run the command and return its exit code."""
    from buildkit_session.cli import asking  # noqa: PLC0415 - it loads the client, which help does not need

    filters = line.all("filter")
    try:
        form = _format(line)
    except SessionError as error:
        return asking.refuse(line, error)

    async def question(client: Client) -> None:
        records = await client.disk_usage(filters)
        Console.output().write(_shown(records, form, summary=not filters))

    return asking.ask(line, question)


def _format(line: CommandLine) -> str:
    form = line.last("format") or ""
    if form and line.is_set("verbose"):
        raise InputError("--format and --verbose cannot be used together")
    return form or (PRETTY if line.is_set("verbose") else "table")


def _shown(records: Sequence[CacheRecord], form: str, *, summary: bool) -> str:
    from buildkit_session.cli.listing import Listing  # noqa: PLC0415 - as above

    now = time.time_ns()
    if form == PRETTY:
        text = "".join(f"{pretty(record, now)}\n" for record in records)
    else:
        text = Listing(_TITLES, _COLUMNS).render(
            form,
            lambda table: [_fields(shown(record) if table else record, now, marked=table) for record in records],
            lambda: [_fields(record, now, marked=False) for record in records],
        )
    return text + totals(records) if summary and form in {PRETTY, "table"} else text


def _fields(record: CacheRecord, now: int, *, marked: bool) -> dict[str, object]:
    from buildkit_session.cli import human  # noqa: PLC0415 - as above

    return {
        "ID": record.id + "*" * (marked and record.mutable),
        "Parents": list(record.parents) or None,
        "CreatedAt": human.moment(record.created or 0),
        "Mutable": record.mutable,
        "Reclaimable": record.reclaimable,
        "Shared": record.shared,
        "Size": human.size(record.size) + "*" * (marked and record.shared),
        "Description": record.description,
        "UsageCount": record.usage_count,
        "LastUsedAt": "" if record.last_used is None else f"{human.age(now - record.last_used)} ago",
        "Type": record.type,
    }


def shown(record: CacheRecord) -> CacheRecord:
    """Make the texts of a record safe for a table or a list: none of them begins a line of its own."""
    from buildkit_session.printable import printable  # noqa: PLC0415 - as above

    return replace(
        record,
        id=printable(record.id),
        type=printable(record.type),
        description=printable(record.description),
        parents=tuple(map(printable, record.parents)),
    )


def pretty(record: CacheRecord, now: int) -> str:
    """Show all of a record, a line for each thing that is known."""
    record = shown(record)
    fields = _fields(record, now, marked=False)
    parents = "".join(f" - {parent}\n" for parent in record.parents)
    rows = [
        ("ID", fields["ID"]),
        ("Created at", fields["CreatedAt"]),
        ("Mutable", str(record.mutable).lower()),
        ("Reclaimable", str(record.reclaimable).lower()),
        ("Shared", str(record.shared).lower()),
        ("Size", fields["Size"]),
        *([("Description", record.description)] if record.description else []),
        ("Usage count", record.usage_count),
        *([("Last used", fields["LastUsedAt"])] if fields["LastUsedAt"] else []),
        *([("Type", record.type)] if record.type else []),
    ]
    first, *others = [f"{f'{name}:':<14}{value}\n" for name, value in rows]
    return "".join([first, f"Parents:\n{parents}" if parents else "", *others])


def totals(records: Sequence[CacheRecord]) -> str:
    """Add up sizes."""
    from buildkit_session.cli.human import size  # noqa: PLC0415 - as above
    from buildkit_session.engine.columns import tabbed  # noqa: PLC0415 - as above

    total = sum(record.size for record in records)
    shared = sum(record.size for record in records if record.shared)
    apart = f"Shared:\t{size(shared)}\nPrivate:\t{size(total - shared)}\n" if shared else ""
    reclaimable = sum(record.size for record in records if record.reclaimable)
    return tabbed(f"{apart}Reclaimable:\t{size(reclaimable)}\nTotal:\t{size(total)}\n")
