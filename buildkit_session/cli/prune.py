"""``buildkit-session prune``: remove from the build cache of the daemon.

Words and output are those of ``docker buildx prune``. It asks on standard output and reads the answer from standard
input, whatever these are; no answer is a no.

Source: docker/buildx:commands/prune.go, commands/util.go (promptForConfirmation).
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from buildkit_session.cli.build_flags import BUILDER
from buildkit_session.cli.console import Console
from buildkit_session.cli.failure import SUCCESS
from buildkit_session.cli.flags import Flag
from buildkit_session.errors import SessionError

if TYPE_CHECKING:
    from buildkit_session import Client
    from buildkit_session.cli.flags import CommandLine
    from buildkit_session.engine.cache_records import CacheRecord

__all__ = ["FLAGS", "OPERANDS", "USAGE", "run"]

USAGE = "prune [OPTIONS]"
OPERANDS = (0, 0)
FLAGS = (
    BUILDER,
    Flag("all", "Remove frontends and what the daemon itself uses, too", short="a"),
    Flag("filter", "Remove only these records: type=regular, id=ID, until=24h and others", "NAME=VALUE"),
    Flag("force", "Do not ask for confirmation", short="f"),
    Flag("keep-storage", "The older name of --reserved-space", "BYTES", hidden=True),
    Flag("max-used-space", "How much of the disk the cache may still use afterwards", "BYTES"),
    Flag("min-free-space", "How much of the disk shall be free afterwards", "BYTES"),
    Flag("reserved-space", "How much the cache may keep in any case", "BYTES"),
    Flag("verbose", "Show everything about each record that goes"),
)

_DANGLING: Final = "WARNING! This will remove all dangling build cache. Are you sure you want to continue?"
_EVERYTHING: Final = "WARNING! This will remove all build cache. Are you sure you want to continue?"


def run(line: CommandLine) -> int:
    """Run the command and return its exit code."""
    from buildkit_session.cli import asking  # noqa: PLC0415 - it loads the client, which help does not need
    from buildkit_session.engine.cache_records import read_cache_filters  # noqa: PLC0415 - as above

    filters = line.all("filter")
    try:
        reserved, used, free = (_size(line, name) for name in ("reserved-space", "max-used-space", "min-free-space"))
        read_cache_filters(filters)  # mistakes come to light before anybody is asked
    except SessionError as error:
        return asking.refuse(line, error)
    if not line.is_set("force") and not _confirmed(_EVERYTHING if line.is_set("all") else _DANGLING):
        return SUCCESS

    async def question(client: Client) -> None:
        removed = await client.prune(
            all=line.is_set("all"),
            filters=filters,
            reserved_space=reserved,
            max_used_space=used,
            min_free_space=free,
            on_record=_Removals(verbose=line.is_set("verbose")).show,
        )
        Console.output().write(f"Total:\t{_human_size(sum(record.size for record in removed))}\n")

    return asking.ask(line, question)


def _size(line: CommandLine, name: str) -> int:
    """Read a limit, in powers of 1024 as docker does."""
    from buildkit_session.quantity import read_size  # noqa: PLC0415 - as above

    value = line.last(name)
    if value is None and name == "reserved-space" and (value := line.last("keep-storage")) is not None:
        Console.messages().write(
            "Flag --keep-storage has been deprecated, keep-storage flag has been changed to reserved-space\n"
        )
    return read_size(f"--{name}", value, binary=True) if value else 0


def _confirmed(question: str) -> bool:
    Console.output().write(f"{question} [y/N] ")
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    if not answer:
        Console.messages().write("\nnothing was removed, as nobody answered; use --force to do without the question\n")
    return answer.rstrip("\r\n").lower() == "y"


class _Removals:
    """Shows each record as it goes."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._any = False  # below a title

    def show(self, record: CacheRecord) -> None:
        from buildkit_session.cli.du import shown  # noqa: PLC0415 - as above

        record = shown(record)
        now = time.time_ns()
        Console.output().write(_details(record, now) if self._verbose else self._row(record, now))

    def _row(self, record: CacheRecord, now: int) -> str:
        from buildkit_session.engine.columns import tabbed  # noqa: PLC0415 - as above

        title = "" if self._any else "ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED\n"
        self._any = True
        name = record.id + "*" * record.mutable
        size = _human_size(record.size) + "*" * record.shared
        return tabbed(f"{title}{name:<40}\t{_go(record.reclaimable):<5}\t{size:<10}\t{_last_used(record, now)}\n")


def _details(record: CacheRecord, now: int) -> str:
    from buildkit_session.cli.human import moment  # noqa: PLC0415 - as above
    from buildkit_session.engine.columns import tabbed  # noqa: PLC0415 - as above

    rows = {
        "ID": record.id,
        "Parent": ",".join(record.parents),
        "Created at": moment(record.created or 0),
        "Mutable": _go(record.mutable),
        "Reclaimable": _go(record.reclaimable),
        "Shared": _go(record.shared),
        "Size": _human_size(record.size),
        "Description": record.description,
        "Usage count": str(record.usage_count),
        "Last used": _last_used(record, now),
        "Type": record.type,
    }
    return tabbed("".join(f"{name}:\t{value}\n" for name, value in rows.items() if value) + "\n")


def _last_used(record: CacheRecord, now: int) -> str:
    from buildkit_session.cli.human import age  # noqa: PLC0415 - as above

    return "" if record.last_used is None else f"{age(now - record.last_used)} ago"


def _human_size(count: int) -> str:
    from buildkit_session.cli.human import size  # noqa: PLC0415 - as above

    return size(count)


def _go(value: bool) -> str:
    return str(value).lower()
