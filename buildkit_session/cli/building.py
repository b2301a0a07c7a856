"""A build as a person sees it: the client's events on a display, then the id, or the reason.

Order of events: the client connects; the build begins, and the display is repainted ten times a second, in a thread:
a stopped terminal must not stop the session's answers to the daemon; the client closes everything; what is left is
shown; errors, the id file and the id come last.
"""

from __future__ import annotations

import logging
import os
import time
import traceback
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from buildkit_session import output
from buildkit_session.build import BuildResult
from buildkit_session.cli import exports, interruption
from buildkit_session.cli.build_settings import Settings, read_settings
from buildkit_session.cli.console import Console, StreamLostError
from buildkit_session.cli.destination import Destination, find_destination
from buildkit_session.cli.displays import choose_display, choose_mode
from buildkit_session.cli.failure import FAILURE, SUCCESS, excerpts, exit_code, explain, report
from buildkit_session.cli.interruption import SignalError
from buildkit_session.engine.atomic_file import write_whole
from buildkit_session.engine.events import Vertex, VertexWarning
from buildkit_session.engine.metadata_file import PROVENANCE, metadata, metadata_json, minimal_provenance
from buildkit_session.errors import BuildError, InputError, SessionError, UnsupportedError
from buildkit_session.services.docker_config import DockerConfig
from buildkit_session.supervision import supervised
from buildkit_session.truth import FALSE, TRUE

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Mapping

    from buildkit_session.answer import CallAnswer
    from buildkit_session.cli.build import BuildOptions
    from buildkit_session.cli.display import Display
    from buildkit_session.client import Client
    from buildkit_session.engine.events import ProgressEvent

__all__ = ["run"]

_REPAINT_INTERVAL = 0.1  # seconds, as upstream
# Events taken in between two repaints; a display that cannot keep up slows the stream down instead of filling memory.
_EVENTS_PER_REPAINT = 1000


def run(options: BuildOptions) -> int:
    """Build, and return the exit code."""
    if options.debug:
        logging.basicConfig(level=logging.DEBUG)
    try:
        destination = find_destination(options.address, options.builder)
        screen = _Screen(_display(options, destination), Console.messages(), destination)
    except (InputError, UnsupportedError) as error:
        report(explain(error, debug=options.debug))
        return FAILURE
    ends: Callable[[], Coroutine[Any, Any, BuildResult | CallAnswer]] = partial(
        _ask if options.asks else _build, options, screen
    )
    try:
        result = interruption.run(ends)
    except SignalError as error:
        return _on_interrupt(error, options, screen)
    except SessionError as error:
        screen.close(error if isinstance(error, BuildError) else None)
        Console.messages().write(excerpts(error))
        report(explain(error, debug=options.debug))
        return exit_code(error)
    screen.close(None)
    return _deliver(result, options, screen) if isinstance(result, BuildResult) else _answer(result, options)


async def _build(options: BuildOptions, screen: _Screen) -> BuildResult:
    async with (
        _connected(options, screen) as (client, settings),
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
        screen.provenance = await _provenance(client, result, options)
        return result


@asynccontextmanager
async def _connected(options: BuildOptions, screen: _Screen) -> AsyncIterator[tuple[Client, Settings]]:
    """Connect, and look meanwhile at what the build takes from the machine: git may take as long as a daemon."""
    looked: list[Settings] = []

    async def look() -> None:
        # Whoever is refused by the daemon does not wait for git.
        looked.append(await anyio.to_thread.run_sync(read_settings, options, abandon_on_cancel=True))

    async with AsyncExitStack() as stack:
        async with supervised() as tasks:
            tasks.start_soon(look)
            client = await stack.enter_async_context(screen.destination.connect(credentials=DockerConfig()))
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


async def _ask(options: BuildOptions, screen: _Screen) -> CallAnswer:
    """Ask the frontend something in place of a build."""
    send, receive = anyio.create_memory_object_stream["ProgressEvent"](_EVENTS_PER_REPAINT)
    answers: list[CallAnswer | SessionError] = []

    async def ask(client: Client, settings: Settings) -> None:
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
        _connected(options, screen) as (client, settings),
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


def _display(options: BuildOptions, destination: Destination) -> Display:
    return choose_display(
        _mode(options),
        terminal=Console.messages().is_terminal,
        environ=os.environ,
        debug=options.debug,
        builder=destination.name,
        driver=destination.driver,
    )


def _mode(options: BuildOptions) -> str:
    terminal = Console.messages().is_terminal
    if options.debug and options.progress == "auto":
        return "plain"  # the debug log goes to the same terminal
    return choose_mode(options.progress, terminal=terminal, environ=os.environ)


class _Screen:
    """A display and the stream it is shown on."""

    def __init__(self, display: Display, console: Console, destination: Destination) -> None:
        self._display = display
        self.destination = destination
        self._console = console
        self._lost: StreamLostError | None = None  # set by the task that repaints
        self._unseen = 0  # events taken in since the last repaint
        self.export_started = False
        self.provenance: Mapping[str, object] = {}
        self.warnings: list[VertexWarning] = []

    def close(self, failure: BuildError | None) -> None:
        """Show what is left."""
        self._display.resize(*self._console.size)
        self._write(self._display.finish(failure))

    def _write(self, text: str) -> None:
        self._console.write(text, safe=self._display.drives_terminal)

    async def follow(self, events: AsyncIterable[ProgressEvent]) -> None:
        """Show that a build begins, then its events until there are no more.

        Raises:
            SessionError: from the events.
            StreamLostError: the stream takes no more text.
        """
        failure: SessionError | None = None
        ended = anyio.Event()
        painting = anyio.Lock()
        self._write(self._display.start())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_painting, painting, ended, tasks.cancel_scope)
            try:
                await self._take_in(events, painting)
            except SessionError as error:
                failure = error  # raised below: the group would wrap it
            ended.set()
        if failure is not None:
            raise failure
        if self._lost is not None:
            raise self._lost

    async def _take_in(self, events: AsyncIterable[ProgressEvent], painting: anyio.Lock) -> None:
        async for event in events:
            self._display.handle(event)
            self.export_started |= _is_start_of_export(event)
            if isinstance(event, VertexWarning):
                self.warnings.append(event)
            self._unseen += 1
            if self._unseen >= _EVENTS_PER_REPAINT:
                await self._paint(painting)

    async def _keep_painting(self, painting: anyio.Lock, ended: anyio.Event, scope: anyio.CancelScope) -> None:
        while not ended.is_set():
            await self._paint(painting)
            if self._lost is not None:
                scope.cancel()
            with anyio.move_on_after(_REPAINT_INTERVAL):
                await ended.wait()

    async def _paint(self, painting: anyio.Lock) -> None:
        async with painting:
            self._unseen = 0
            self._display.resize(*self._console.size)
            text = self._display.refresh(time.monotonic())
            if not text:
                return
            try:
                await anyio.to_thread.run_sync(self._write, text, abandon_on_cancel=True)
            except StreamLostError as error:
                self._lost = error


def _is_start_of_export(event: ProgressEvent) -> bool:
    # "exporting to client" in BuildKit 0.8, "exporting to client directory" since 0.12
    return isinstance(event, Vertex) and event.started is not None and event.name.startswith("exporting to client")


def _on_interrupt(error: SignalError, options: BuildOptions, screen: _Screen) -> int:
    screen.close(None)
    if options.debug:
        Console.messages().write("".join(traceback.format_exception(error)))
    report(f"failed to build: {error}{_partial_result(options, screen)}")
    return error.exit_code


def _partial_result(options: BuildOptions, screen: _Screen) -> str:
    """Name the directory that an export was writing to; an archive is put in its place only when it is whole."""
    directories = [out.dest for out in options.outputs if isinstance(out, output.LocalOutput) and out.mode != "swap"]
    if directories and screen.export_started:
        return f"; {directories[0]} may hold a part of the result"
    return ""


def _deliver(result: BuildResult, options: BuildOptions, screen: _Screen) -> int:
    try:
        _write_files(result, options, screen)
    except OSError as error:
        report(f"writing {error.filename}: {error.strerror}")
        return FAILURE
    for warning in result.warnings:
        Console.messages().write(f"WARNING: {warning}\n")
    if _mode(options) in {"plain", "tty"}:
        Console.messages().write("".join(map(exports.notice, result.exports)))
    Console.output().write("".join(map(exports.listing, result.exports)))
    # Without an image the line is empty, as buildx has it; but nothing may follow an archive.
    if options.prints_id and not options.fills_stdout:
        Console.output().write(f"{result.image_id or ''}\n")
    return SUCCESS


def _write_files(result: BuildResult, options: BuildOptions, screen: _Screen) -> None:
    if options.iidfile is not None and result.image_id is not None:
        write_whole(options.iidfile, result.image_id.encode("ascii"))
    if options.metadata_file is not None:
        warnings = _shown_warnings(screen) if os.environ.get("BUILDX_METADATA_WARNINGS") in TRUE else []
        to = screen.destination
        ref = f"{to.name}/{to.node}/{result.ref}" if result.ref else ""
        known = metadata(result.metadata, ref=ref, warnings=warnings)
        write_whole(options.metadata_file, metadata_json(dict(sorted({**known, **screen.provenance}.items()))))


def _shown_warnings(screen: _Screen) -> list[dict[str, object]]:
    from buildkit_session.cli.rawjson import warning_json  # noqa: PLC0415 - few builds want them

    return [warning_json(warning) for warning in screen.warnings]
