"""Writers of the caller: ordinary ones, called in a thread, and asynchronous ones, awaited on the event loop."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from anyio import to_thread

from buildkit_session.errors import TransferError
from buildkit_session.fsutil.content import write_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from io import FileIO

    from buildkit_session.fsutil.content import Piece

__all__ = ["AnyWriter", "AsyncWriter", "ByteSender", "Feed", "FileFeed", "Writer", "feed_of"]


JOINED: Final = 256 * 1024
"""Bytes that a writer is given at once, if they come in smaller pieces. It may leave some, and gets those again."""


class Writer(Protocol):
    """What takes the bytes of a file; called in a thread."""

    def write(self, data: bytes, /) -> object:
        """Take ``data``; one that returns a number, as unbuffered files do, has taken so many bytes only."""


class AsyncWriter(Protocol):
    """What takes the bytes of a file on the event loop, such as an ``anyio.AsyncFile``."""

    async def write(self, data: bytes, /) -> object:
        """Take ``data``; the return value means the same as for :class:`Writer`."""


class ByteSender(Protocol):
    """The sending half of an anyio byte stream."""

    async def send(self, item: bytes, /) -> None:
        """Take all of ``item``."""


AnyWriter: TypeAlias = Writer | AsyncWriter | ByteSender


class Feed(Protocol):
    """One way to feed a writer. Both methods raise TransferError, whatever the writer raises."""

    async def write(self, pieces: Sequence[Piece]) -> None:
        """Hand all pieces over, in order."""
        ...

    async def flush(self) -> None:
        """Make the writer pass on what it has kept, as far as it can."""
        ...


def feed_of(writer: AnyWriter) -> Feed:
    """Return what feeds ``writer``.

    An ``asyncio.StreamWriter`` is neither: its ``write`` must be called on the loop, its ``drain`` awaited.
    """
    for name in ("write", "send"):
        if inspect.iscoroutinefunction(method := getattr(writer, name, None)):
            return _AwaitedFeed(method, writer)
    write: Any = getattr(writer, "write")  # noqa: B009 - one of the protocols has it, the others were dealt with
    if inspect.iscoroutinefunction(drain := getattr(writer, "drain", None)):

        async def write_and_drain(data: bytes) -> None:
            write(data)
            await drain()

        return _AwaitedFeed(write_and_drain, None)
    return _ThreadFeed(write, getattr(writer, "flush", None))


class FileFeed:
    """Feeds a file of ours, which has no buffer to flush, without copying anything.

    Raises OSError as it comes: who has opened the file can name it.
    """

    def __init__(self, file: FileIO) -> None:
        self._descriptor = file.fileno()

    async def write(self, pieces: Sequence[Piece]) -> None:
        """See :class:`Feed`."""
        await to_thread.run_sync(write_all, self._descriptor, pieces)

    async def flush(self) -> None:
        """See :class:`Feed`."""


class _ThreadFeed:
    def __init__(self, write: Callable[[bytes], object], flush: Callable[[], object] | None) -> None:
        self._write = write
        self._flush = flush

    async def write(self, pieces: Sequence[Piece]) -> None:
        await to_thread.run_sync(self._write_all, pieces)

    async def flush(self) -> None:
        if self._flush is not None:
            with _translated():
                await to_thread.run_sync(self._flush)

    def _write_all(self, pieces: Sequence[Piece]) -> None:
        with _translated():
            for data in _joined(pieces):
                left = data
                while left:
                    left = _untaken(left, self._write(left))


class _AwaitedFeed:
    def __init__(self, write: Callable[[bytes], Awaitable[object]], writer: object) -> None:
        self._write = write
        self._flush = getattr(writer, "flush", None)

    async def write(self, pieces: Sequence[Piece]) -> None:
        with _translated():
            for data in _joined(pieces):
                left = data
                while left:
                    left = _untaken(left, await self._write(left))

    async def flush(self) -> None:
        if inspect.iscoroutinefunction(self._flush):
            with _translated():
                await self._flush()


def _joined(pieces: Sequence[Piece]) -> Iterator[bytes]:
    """Put pieces together: a writer costs its caller more by the call than by the byte."""
    together: list[Piece] = []
    size = 0
    for piece in pieces:
        if together and size + len(piece) > JOINED:
            yield b"".join(together)
            together, size = [], 0
        together.append(piece)
        size += len(piece)
    yield b"".join(together)


def _untaken(data: bytes, taken: object) -> bytes:
    return data[taken:] if isinstance(taken, int) else b""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TransferError(f"cannot write the exported file: {error.strerror or error}") from error
    except Exception as error:  # a caller's writer may raise anything
        raise TransferError(f"cannot write the exported file: {type(error).__name__}: {error}") from error
