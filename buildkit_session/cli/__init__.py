"""The command line, ``buildkit-session``.

Exit codes:

====  ================================================================================================================
0     success
1     anything that failed; the reason is the last line of standard error, after ``ERROR:``; ``doctor``: something is
      broken; ``build --check``: there are warnings, or the Dockerfile cannot be built
100   the daemon failed with an internal error, as from buildx
102   the daemon has run out of something, such as space on its disk, as from buildx
125   a flag that does not exist or lacks its value, as from ``docker buildx`` (bare ``docker-buildx`` says 1)
130   stopped by Ctrl-C, a second one ends the process at once; or the daemon has cancelled the build
141   nobody reads standard output or standard error any more
143   stopped by SIGTERM
====  ================================================================================================================

``build --call=CALL`` ends with the status that the frontend gives, below 256.

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
from buildkit_session.cli.build_flags import BUILDER
from buildkit_session.cli.console import Console, StreamLostError
from buildkit_session.cli.failure import BAD_USAGE, FAILURE, READER_GONE, SUCCESS, report, usage_hint
from buildkit_session.cli.flags import CommandLine, Flag, UsageError, describe, parse
from buildkit_session.wording import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["main"]

_PROGRAM = "buildkit-session"
# What can be typed, and what it is for; the key says what comes before. A command's module has its name.
_COMMANDS: Final = {
    "": {
        "build": "Start a build",
        "doctor": "Say what can be built here, what cannot, and what is broken",
        "du": "Show what the build cache holds",
        "help": "Print usage, of a command too",
        "history": "Look at builds that have run, or forget them",
        "info": "Show what the daemon is and how it is reached",
        "plan": "Show what a build would send, without a daemon",
        "prune": "Remove build cache",
        "version": "Print the version",
    },
    "history": {
        "logs": "Print the logs of a build: its ID, or ^1 for the one before the last",
        "ls": "List build records",
        "rm": "Remove build records",
    },
}
_HOST = Flag(
    "host",
    "Address of a Docker Engine or buildkitd: unix://PATH, tcp://HOST:PORT, ssh://HOST, docker-container://NAME",
    "ADDRESS",
    short="H",
)
_GLOBAL_FLAGS = (
    Flag("debug", "Show tracebacks of errors and the debug log", short="D"),
    Flag("help", "Print usage", short="h"),
    _HOST,
)
_VERSION = Flag("version", "Print the version", short="v")

# Objects made between two looks for cyclic garbage. The start of a build makes 50,000, modules and classes, which are
# no garbage: with Python's 700 it looks at them a hundred times, and even two looks at all of them cost a twentieth of
# a cached build. 100,000 small objects that are kept for too long are some MiB.
_OBJECTS_PER_COLLECTION: Final = 100_000


class _Command(Protocol):
    """What the module of a command offers.

    It may have ``OPERANDS`` too: how many it takes, at least and at most, where that is not one; and ``OFFLINE``, if it
    asks no daemon.
    """

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
    return _run_group("", CommandLine(), _as_flags(argv))


def _as_flags(argv: Sequence[str]) -> Sequence[str]:
    """Write the commands ``help`` and ``version`` as the flags that they stand for."""
    match list(argv):
        case ["help", *words]:
            return [*words, "--help"]
        case ["version", *words]:
            return ["--version", *words]
    return argv


def _run_group(name: str, before: CommandLine, argv: Sequence[str]) -> int:
    """Run one of the commands whose names begin with ``name``."""
    program = f"{_PROGRAM} {name}".rstrip()
    usage = f"Usage:  {program} [OPTIONS] COMMAND"
    flags = (BUILDER, *_GLOBAL_FLAGS) if name else (BUILDER, *_GLOBAL_FLAGS, _VERSION)
    try:
        line = parse(flags, argv, mixed=False)
    except UsageError as error:
        return _refuse(error, flags, usage, program)
    if line.is_set("version"):
        Console.output().write(f"{_PROGRAM} {__version__}\n")
        return SUCCESS
    if line.is_set("help") or not line.operands:
        Console.output().write(_help(name, program, usage, flags))
        return SUCCESS
    line.fill_from(before)
    word, *rest = line.operands
    if word not in _COMMANDS[name]:
        there = f"; there is: {', '.join(_COMMANDS[name])}"
        report(f"unknown command: {word!r}{did_you_mean(word, _COMMANDS[name]) or there}")
        return FAILURE
    if word in _COMMANDS:
        return _run_group(word, line, rest)
    return _run_command(f"{name} {word}".lstrip(), _COMMANDS[name][word], line, rest)


def _run_command(name: str, summary: str, before: CommandLine, rest: Sequence[str]) -> int:
    command = cast("_Command", importlib.import_module(f"buildkit_session.cli.{name.replace(' ', '_')}"))
    flags = sorted(
        (*_global_flags(offline=getattr(command, "OFFLINE", False)), *command.FLAGS), key=lambda flag: flag.name
    )
    usage = f"Usage:  {_PROGRAM} {command.USAGE}"
    try:
        line = parse(flags, rest)
    except UsageError as error:
        return _refuse(error, flags, usage, f"{_PROGRAM} {name}")
    if line.is_set("help"):
        Console.output().write(f"{usage}\n\n{summary}\n\nOptions:\n{describe(flags)}\n")
        return SUCCESS
    if complaint := _miscounted(len(line.operands), *getattr(command, "OPERANDS", (1, 1))):
        report(f"'{_PROGRAM} {name}' {complaint}{usage_hint(usage, f'{_PROGRAM} {name}')}")
        return FAILURE
    line.fill_from(before)
    return command.run(line)


def _global_flags(*, offline: bool) -> Iterator[Flag]:
    for flag in _GLOBAL_FLAGS:
        yield flag._replace(hidden=True) if offline and flag is _HOST else flag


def _miscounted(number: int, least: int, most: int | None) -> str:
    """Say what is wrong about the number of operands, in docker's words."""
    if least <= number and (most is None or number <= most):
        return ""
    if most == 0:
        return "accepts no arguments"
    bound = "" if least == most else "at least " if number < least else "at most "
    count = least if number < least else most
    return f"requires {bound}{count} argument{'' if count == 1 else 's'}"


def _refuse(error: UsageError, flags: Sequence[Flag], usage: str, command: str) -> int:
    known = [flag.name for flag in flags if not flag.hidden]
    meant = did_you_mean(error.unknown, known, prefix="--") if error.unknown else ""
    Console.messages().write(f"{error}{meant}{usage_hint(usage, command)}\n")
    return BAD_USAGE


def _report_lost_output(error: StreamLostError) -> int:
    if error.reader_gone:
        return READER_GONE
    with contextlib.suppress(StreamLostError):  # it may have been standard error that failed
        report(f"writing the output: {error}")
    return FAILURE


def _help(name: str, program: str, usage: str, flags: Sequence[Flag]) -> str:
    summary = _COMMANDS[""].get(name, "A BuildKit client in pure Python")
    commands = "\n".join(f"  {word:<10}{purpose}" for word, purpose in _COMMANDS[name].items())
    return (
        f"{usage}\n\n{summary}\n\nOptions:\n{describe(flags)}\n\nCommands:\n{commands}\n\n"
        f"Run '{program} COMMAND --help' for more information on a command.\n"
    )
