"""Sources of bytes of the caller: ordinary ones, read in a thread, and asynchronous ones, awaited on the event loop."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import AsyncIterable, Iterable
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import anyio
from anyio import to_thread

from buildkit_session.errors import SessionError, TransferError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

__all__ = ["AnyReader", "AsyncReader", "DescriptorReader", "Reader", "chunks"]

CHUNK: Final = 1024 * 1024
"""Bytes asked for at once."""

GATHERED: Final = 256 * 1024
"""Bytes that are gathered of an iterable before they leave its thread, unless that takes longer than ``HASTE``."""

HASTE: Final = 0.02
"""Seconds; a source that makes its bytes slowly is passed on as it goes."""


class Reader(Protocol):
    """What gives bytes, such as a binary file; called in a thread."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""
        ...


class AsyncReader(Protocol):
    """What gives bytes on the event loop, such as an ``asyncio.StreamReader`` or an ``anyio.AsyncFile``."""

    async def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""
        ...


AnyReader: TypeAlias = "bytes | Reader | AsyncReader | Iterable[bytes] | AsyncIterable[bytes]"
"""An anyio byte stream is one too: it can be iterated over."""


class DescriptorReader:
    """Reads a descriptor such as standard input, which stays the caller's.

    A read that waits for the other end of a pipe or for a terminal can be cancelled, and keeps no thread; one of a
    ``sys.stdin.buffer`` would hold up even the end of the program. What a buffer above the descriptor has read already
    is not seen.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def read(self, size: int, /) -> bytes:
        """See :class:`AsyncReader`."""
        await self._readable()
        return await to_thread.run_sync(os.read, self._descriptor, size)

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        readable = anyio.Event()
        try:
            loop.add_reader(self._descriptor, readable.set)
        except PermissionError:  # of a file: that never has to be waited for
            return
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._descriptor)


async def chunks(source: AnyReader) -> AsyncGenerator[bytes, None]:
    """Yield what a source has, in pieces of any size but none that is empty. A generator is closed at the end.

    Use it with ``contextlib.aclosing``. Cancelling a wait for an ordinary source leaves its thread behind until the
    source returns.

    Raises:
        TransferError: it cannot be read, whatever it raised.
    """
    with _translated():
        pieces = _pieces(source)
    try:
        while True:
            with _translated():
                piece = await anext(pieces, None)
            if piece is None:
                return
            if piece:
                yield piece
    finally:
        with anyio.CancelScope(shield=True):
            await pieces.aclose()
            await _close(source)


def _pieces(source: AnyReader) -> AsyncGenerator[bytes, None]:
    if isinstance(source, bytes):
        return _gathered(iter((source,)))
    # Files can be iterated over as well, but give lines then.
    for name in ("read1", "read"):
        if (read := getattr(source, name, None)) is not None:
            return _awaited(read) if inspect.iscoroutinefunction(read) else _called(read)
    if isinstance(source, AsyncIterable):
        return _iterated(source)
    return _gathered(iter(source))  # type: ignore[arg-type]  # the only kind that is left


async def _awaited(read: Callable[[int], Any]) -> AsyncGenerator[bytes, None]:
    while piece := await read(CHUNK):
        yield _checked(piece)


async def _called(read: Callable[[int], bytes]) -> AsyncGenerator[bytes, None]:
    while piece := await to_thread.run_sync(read, CHUNK, abandon_on_cancel=True):
        yield _checked(piece)


async def _iterated(source: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    async for piece in source:
        yield _checked(piece)


async def _gathered(source: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    while (piece := await to_thread.run_sync(_gather, source, abandon_on_cancel=True)) is not None:
        yield piece


def _gather(source: Iterator[bytes]) -> bytes | None:
    """Join the next pieces, some or a single large one; ``None`` after the last."""
    gathered: list[bytes] = []
    size = 0
    end = time.monotonic() + HASTE
    while size < GATHERED and (not gathered or time.monotonic() < end):
        piece = next(source, None)
        if piece is None:
            return b"".join(gathered) if gathered else None
        gathered.append(_checked(piece))
        size += len(piece)
    return gathered[0] if len(gathered) == 1 else b"".join(gathered)


def _checked(piece: object) -> bytes:
    if not isinstance(piece, bytes | bytearray | memoryview):
        raise TransferError(f"the source gives {type(piece).__name__}, not bytes: open it in binary mode")
    return bytes(piece)


async def _close(source: object) -> None:
    """End a generator, of which nobody can have the rest. One that still runs in its thread ends by itself."""
    with suppress(Exception):
        if inspect.isasyncgen(source):
            await source.aclose()
        elif inspect.isgenerator(source):
            await to_thread.run_sync(source.close)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SessionError:
        raise
    except OSError as error:
        raise TransferError(f"cannot read the source: {error.strerror or error}") from error
    except Exception as error:  # a caller's source may raise anything
        raise TransferError(f"cannot read the source: {type(error).__name__}: {error}") from error
