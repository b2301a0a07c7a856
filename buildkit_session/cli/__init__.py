"""The command line, ``buildkit-session``.

Exit codes:

====  ==========================================================================================
0     success
1     anything that failed; the reason is the last line of standard error, after ``ERROR:``
125   a flag that does not exist or lacks its value, as from ``docker buildx`` (bare ``docker-buildx`` says 1)
130   stopped by Ctrl-C; a second one ends the process at once
141   nobody reads standard output or standard error any more
143   stopped by SIGTERM
====  ==========================================================================================

Standard output carries what programs read (image ids, a tar archive), standard error everything else. Commands are
imported when they are used, and what a command needs to do its work is imported after its flags were understood:
``--help`` and a mistyped flag answer at once.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
from typing import TYPE_CHECKING, Final, Protocol, cast

from buildkit_session import __version__
from buildkit_session.cli.console import Console, StreamLostError
from buildkit_session.cli.failure import BAD_USAGE, FAILURE, READER_GONE, SUCCESS, report, usage_hint
from buildkit_session.cli.flags import Flag, UsageError, describe, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buildkit_session.cli.flags import CommandLine

__all__ = ["main"]

_PROGRAM = "buildkit-session"
_COMMANDS = {"build": "Start a build", "plan": "Show what a build would send, without a daemon"}
_GLOBAL_FLAGS = (
    Flag("debug", "Show tracebacks of errors and the debug log", short="D"),
    Flag("help", "Print usage", short="h"),
    Flag("host", "Address of the Docker Engine, such as unix:///var/run/docker.sock", "ADDRESS", short="H"),
)
_VERSION = Flag("version", "Print the version", short="v")
_USAGE = f"Usage:  {_PROGRAM} [OPTIONS] COMMAND"

# Objects made between two looks for cyclic garbage. With Python's 700, start-up alone takes a hundred looks at modules
# and classes, which are no garbage; 20,000 small objects that are kept for too long are a few MiB.
_OBJECTS_PER_COLLECTION: Final = 20_000


class _Command(Protocol):
    """What the module of a command offers."""

    FLAGS: tuple[Flag, ...]
    USAGE: str

    def run(self, line: CommandLine) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after the program's name; by default those of this process, which is then taken to be ours:
            its garbage collector is tuned for a short life.

    Returns:
        The exit code; see the module. Errors of the library never leave this function.
    """
    if argv is not None:
        return _guarded(argv)
    gc.set_threshold(_OBJECTS_PER_COLLECTION)
    code = _guarded(sys.argv[1:])
    gc.freeze()  # the interpreter collects once more when it ends; the operating system takes the memory back anyway
    return code


def _guarded(argv: Sequence[str]) -> int:
    try:
        return _main(argv)
    except StreamLostError as error:
        return _report_lost_output(error)
    except KeyboardInterrupt:  # before or after the part that handles signals itself
        return 130


def _main(argv: Sequence[str]) -> int:
    try:
        line = parse((*_GLOBAL_FLAGS, _VERSION), argv, mixed=False)
    except UsageError as error:
        return _refuse(error, _USAGE, _PROGRAM)
    if line.is_set("version"):
        Console.output().write(f"{_PROGRAM} {__version__}\n")
        return SUCCESS
    if line.is_set("help") or not line.operands:
        Console.output().write(_help())
        return SUCCESS
    name, *rest = line.operands
    if name not in _COMMANDS:
        report(f"unknown command: {name!r}; there is: {', '.join(_COMMANDS)}")
        return FAILURE
    return _run_command(name, line, rest)


def _run_command(name: str, before: CommandLine, rest: Sequence[str]) -> int:
    command = cast("_Command", importlib.import_module(f"buildkit_session.cli.{name}"))
    flags = sorted((*_GLOBAL_FLAGS, *command.FLAGS), key=lambda flag: flag.name)
    usage = f"Usage:  {_PROGRAM} {command.USAGE}"
    try:
        line = parse(flags, rest)
    except UsageError as error:
        if error.unknown in getattr(command, "FLAGS_LATER", ()):
            report(f"--{error.unknown} is a flag of 'docker buildx {name}' that is not supported yet")
            return BAD_USAGE
        return _refuse(error, usage, f"{_PROGRAM} {name}")
    if line.is_set("help"):
        Console.output().write(f"{usage}\n\n{_COMMANDS[name]}\n\nOptions:\n{describe(flags)}\n")
        return SUCCESS
    if len(line.operands) != 1:
        report(f"'{_PROGRAM} {name}' requires 1 argument{usage_hint(usage, f'{_PROGRAM} {name}')}")
        return FAILURE
    line.fill_from(before)
    return command.run(line)


def _refuse(error: UsageError, usage: str, command: str) -> int:
    Console.messages().write(f"{error}{usage_hint(usage, command)}\n")
    return BAD_USAGE


def _report_lost_output(error: StreamLostError) -> int:
    if error.reader_gone:
        return READER_GONE
    with contextlib.suppress(StreamLostError):  # it may have been standard error that failed
        report(f"writing the output: {error}")
    return FAILURE


def _help() -> str:
    commands = "\n".join(f"  {name:<10}{summary}" for name, summary in _COMMANDS.items())
    flags = describe((*_GLOBAL_FLAGS, _VERSION))
    return (
        f"{_USAGE}\n\nA BuildKit client in pure Python\n\nOptions:\n{flags}\n\nCommands:\n{commands}\n\n"
        f"Run '{_PROGRAM} COMMAND --help' for more information on a command.\n"
    )
