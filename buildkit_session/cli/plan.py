"""``buildkit-session plan``: what a build would send, as text for people or as JSON for programs.

The result goes to standard output. Warnings do not change the exit code: whether one matters is for the reader to say.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from buildkit_session.cli.console import Console
from buildkit_session.cli.failure import FAILURE, SUCCESS, explain, report
from buildkit_session.cli.flags import Flag
from buildkit_session.cli.quantities import size
from buildkit_session.errors import InputError, SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from buildkit_session.cli.flags import CommandLine
    from buildkit_session.context import Context
    from buildkit_session.fsutil.dockerignore import IgnoreLine
    from buildkit_session.plan import DirectoryTotal, IgnoreDecision, Plan, PlanWarning

__all__ = ["FLAGS", "OFFLINE", "USAGE", "run"]

USAGE = "plan [OPTIONS] PATH"
OFFLINE = True
FLAGS = (
    Flag("digest", "Print the digest of what would be sent, the same on every machine, and nothing else"),
    Flag("file", "Name of the Dockerfile, whose own ignore file counts (default: PATH/Dockerfile)", "PATH", short="f"),
    Flag("format", "Format of the output: text or json (default: text)", "FORMAT"),
)

ROWS: Final = 20
"""Lines that each part of the text shows; JSON has all."""


def run(line: CommandLine) -> int:
    """Run the command and return its exit code."""
    try:
        text = _result(line)
    except SessionError as error:
        report(explain(error, debug=line.is_set("debug"), action="plan"))
        return FAILURE
    Console.output().write(text)
    return SUCCESS


def _result(line: CommandLine) -> str:
    form = line.last("format") or "text"
    if form not in {"text", "json"}:
        raise InputError(f"invalid format {form}; use text or json")
    context = _find(line)
    if line.is_set("digest"):
        digest = context.digest()
        return f"{digest}\n" if form == "text" else _json({"digest": digest})
    plan = context.plan()
    if form == "text":
        return "".join(f"{row}\n" for row in _rows(plan))
    return _json({"files": plan.files, "size": plan.size, **asdict(plan)})


def _find(line: CommandLine) -> Context:
    from buildkit_session.context import Context  # noqa: PLC0415 - help and mistakes do not need it

    return Context.find(line.operands[0], line.last("file"))


def _json(value: dict[str, object]) -> str:
    # All in ASCII: names that are not UTF-8 stay what they are, surrogate escapes.
    return f"{json.dumps(value, indent=2)}\n"


def _rows(plan: Plan) -> Iterator[str]:
    yield f"{_count(plan.files, 'file')}, {size(plan.size)}, at most; ignore file: {plan.ignore_file or 'none'}"
    yield from _section("Directories by size", _largest(plan.directories))
    yield from _section("Excluded", _decisions(plan.excluded))
    yield from _section("Included again", _decisions(plan.reincluded))
    yield from _section("Warnings", _warnings(plan.warnings))


def _section(title: str, rows: Sequence[str]) -> Iterator[str]:
    if rows:
        yield f"\n{title}:"
        yield from (f"  {row}" for row in rows[:ROWS])
    if len(rows) > ROWS:
        yield f"  ... and {len(rows) - ROWS} more; --format=json has all"


def _largest(directories: Sequence[DirectoryTotal]) -> list[str]:
    found = sorted(directories, key=lambda total: total.size, reverse=True)
    return [f"{size(total.size):>9}  {_count(total.files, 'file'):>12}  {_shown(total.path)}" for total in found]


def _decisions(decisions: Sequence[IgnoreDecision]) -> list[str]:
    return [f"{_shown(found.path)}{'/' * found.is_directory}  ({_place(found.line)})" for found in decisions]


def _place(line: IgnoreLine) -> str:
    return f"{_shown(line.file)}:{line.number}: {_shown(line.text)}"


def _warnings(warnings: Sequence[PlanWarning]) -> list[str]:
    return [f"{f'{_shown(found.path)}: ' if found.path else ''}{found.advice}" for found in warnings]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _shown(text: str) -> str:
    """A name that could break the line, or cannot be printed, in quotes and escaped."""
    return text if text.isprintable() else repr(text)
