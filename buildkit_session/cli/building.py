"""A build as a person sees it: the client's events on a display, then the id, or the reason.

Order of events: the client connects; the build begins and is shown on the screen; the client closes everything; what is
left is shown; errors, the id file and the id come last.
"""

from __future__ import annotations

import logging
import os
import traceback
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import anyio.to_thread

from buildkit_session import output
from buildkit_session.cli import exports, interruption
from buildkit_session.cli.atomic_file import write_whole
from buildkit_session.cli.build_settings import BuildSettings, read_settings
from buildkit_session.cli.chosen_builder import ChosenBuilder, choose_builder
from buildkit_session.cli.console import Console
from buildkit_session.cli.displays import choose_display, choose_mode
from buildkit_session.cli.failure import FAILURE, SUCCESS, excerpts, exit_code, explain, report
from buildkit_session.cli.interruption import SignalError
from buildkit_session.cli.screen import Screen, make_feed
from buildkit_session.engine.metadata_file import PROVENANCE, metadata, metadata_json, minimal_provenance
from buildkit_session.errors import BuildError, InputError, SessionError, UnsupportedError
from buildkit_session.services.docker_config import DockerConfig
from buildkit_session.supervision import supervised
from buildkit_session.truth import FALSE, TRUE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

    from buildkit_session.answer import CallAnswer
    from buildkit_session.build import BuildResult
    from buildkit_session.cli.build import BuildOptions
    from buildkit_session.cli.display import Display
    from buildkit_session.client import Client

__all__ = ["run"]


def run(options: BuildOptions) -> int:
    """Build, and return the exit code."""
    if options.debug:
        logging.basicConfig(level=logging.DEBUG)
    try:
        builder = choose_builder(options.address, options.builder)
        screen = Screen(_display(options, builder), Console.messages())
    except (InputError, UnsupportedError) as error:
        report(explain(error, debug=options.debug))
        return FAILURE
    ends: Callable[[], Coroutine[Any, Any, _Built | CallAnswer]] = partial(
        _ask if options.asks else _build, options, builder, screen
    )
    try:
        end = interruption.run(ends)
    except SignalError as error:
        return _on_interrupt(error, options, screen)
    except SessionError as error:
        screen.close(error if isinstance(error, BuildError) else None)
        Console.messages().write(excerpts(error))
        report(explain(error, debug=options.debug))
        return exit_code(error)
    screen.close(None)
    try:
        return _deliver(end, options, builder, screen) if isinstance(end, _Built) else _answer(end, options)
    except InputError as error:  # a file cannot be written
        report(explain(error, debug=options.debug, action=""))
        return FAILURE


class _Built(NamedTuple):
    """How a build has ended.

    Attributes:
        result: what it has made.
        provenance: how that came about, as the metadata file says it.
    """

    result: BuildResult
    provenance: Mapping[str, object]


async def _build(options: BuildOptions, builder: ChosenBuilder, screen: Screen) -> _Built:
    async with (
        _connected(options, builder) as (client, settings),
        client.start(
            options.context,
            file=options.file,
            proxies=settings.proxies,
            frontend_attrs=settings.frontend_attrs,
            **options.keywords,
        ) as build,
    ):
        await screen.follow(build)
        result = await build.result()
        return _Built(result, await _provenance(client, result, options))


@asynccontextmanager
async def _connected(options: BuildOptions, builder: ChosenBuilder) -> AsyncIterator[tuple[Client, BuildSettings]]:
    """Connect, and look meanwhile at what the build takes from the machine: git may take as long as a daemon."""
    looked: list[BuildSettings] = []

    async def look() -> None:
        # Whoever is refused by the daemon does not wait for git.
        looked.append(await anyio.to_thread.run_sync(read_settings, options, abandon_on_cancel=True))

    async with AsyncExitStack() as stack:
        async with supervised() as tasks:
            tasks.start_soon(look)
            client = await stack.enter_async_context(builder.connect(credentials=DockerConfig()))
        yield client, looked[0]


async def _provenance(client: Client, result: BuildResult, options: BuildOptions) -> Mapping[str, object]:
    """What the metadata file says about how the build came about: ``BUILDX_METADATA_PROVENANCE`` says how much."""
    mode = os.environ.get("BUILDX_METADATA_PROVENANCE", "").lower() or "min"
    if options.metadata_file is None or not result.ref or mode in {"disabled", *FALSE}:
        return {}
    try:
        found = await client.provenance(result.ref)
    except UnsupportedError:
        return {}
    return {
        f"{PROVENANCE}/{platform}" if platform else PROVENANCE: predicate
        if mode == "max"
        else minimal_provenance(predicate)
        for platform, predicate in found.items()
    }


async def _ask(options: BuildOptions, builder: ChosenBuilder, screen: Screen) -> CallAnswer:
    """Ask the frontend something in place of a build."""
    send, receive = make_feed()
    answers: list[CallAnswer | SessionError] = []

    async def ask(client: Client, settings: BuildSettings) -> None:
        with send:
            try:
                answer = await client.call(
                    options.context,
                    call=options.call,
                    file=options.file,
                    on_event=send.send,
                    proxies=settings.proxies,
                    frontend_attrs=settings.frontend_attrs,
                    **options.keywords,
                )
            except SessionError as error:
                answers.append(error)
            else:
                answers.append(answer)

    async with (
        _connected(options, builder) as (client, settings),
        supervised() as tasks,
    ):
        tasks.start_soon(ask, client, settings)
        with receive:
            await screen.follow(receive)
    if isinstance(answers[0], SessionError):
        raise answers[0]
    return answers[0]


def _answer(answer: CallAnswer, options: BuildOptions) -> int:
    Console.output().write(answer.text)
    if answer.error:
        report(answer.error)
    if options.metadata_file is not None:
        write_whole(options.metadata_file, metadata_json(metadata(answer.metadata)))
    return answer.exit_code


def _display(options: BuildOptions, builder: ChosenBuilder) -> Display:
    return choose_display(
        _mode(options),
        terminal=Console.messages().is_terminal,
        environ=os.environ,
        debug=options.debug,
        builder=builder.name,
        driver=builder.driver,
    )


def _mode(options: BuildOptions) -> str:
    terminal = Console.messages().is_terminal
    if options.debug and options.progress == "auto":
        return "plain"  # the debug log goes to the same terminal
    return choose_mode(options.progress, terminal=terminal, environ=os.environ)


def _on_interrupt(error: SignalError, options: BuildOptions, screen: Screen) -> int:
    screen.close(None)
    if options.debug:
        Console.messages().write("".join(traceback.format_exception(error)))
    report(f"failed to build: {error}{_partial_result(options, screen)}")
    return error.exit_code


def _partial_result(options: BuildOptions, screen: Screen) -> str:
    """Name the directory that an export was writing to; an archive is put in its place only when it is whole."""
    directories = [out.dest for out in options.outputs if isinstance(out, output.LocalOutput) and out.mode != "swap"]
    if directories and screen.export_started:
        return f"; {directories[0]} may hold a part of the result"
    return ""


def _deliver(built: _Built, options: BuildOptions, builder: ChosenBuilder, screen: Screen) -> int:
    try:
        _write_files(built, options, builder, screen)
    finally:  # what was built is worth knowing, whether or not it could be written down
        _show(built.result, options)
    return SUCCESS


def _show(result: BuildResult, options: BuildOptions) -> None:
    for warning in result.warnings:
        Console.messages().write(f"WARNING: {warning}\n")
    if _mode(options) in {"plain", "tty"}:
        Console.messages().write("".join(map(exports.notice, result.exports)))
    Console.output().write("".join(map(exports.listing, result.exports)))
    # Without an image the line is empty, as buildx has it; but nothing may follow an archive.
    if options.prints_id and not options.fills_stdout:
        Console.output().write(f"{result.image_id or ''}\n")


def _write_files(built: _Built, options: BuildOptions, builder: ChosenBuilder, screen: Screen) -> None:
    result = built.result
    if options.iidfile is not None and result.image_id is not None:
        write_whole(options.iidfile, result.image_id.encode("ascii"))
    if options.metadata_file is not None:
        warnings = _shown_warnings(screen) if os.environ.get("BUILDX_METADATA_WARNINGS") in TRUE else []
        ref = f"{builder.name}/{builder.node}/{result.ref}" if result.ref else ""
        known = metadata(result.metadata, ref=ref, warnings=warnings)
        write_whole(options.metadata_file, metadata_json(dict(sorted({**known, **built.provenance}.items()))))


def _shown_warnings(screen: Screen) -> list[dict[str, object]]:
    from buildkit_session.cli.rawjson import warning_json  # noqa: PLC0415 - few builds want them

    return [warning_json(warning) for warning in screen.warnings]
