"""What one build reads on this machine: its context, its Dockerfile, its named contexts.

A context is a directory, a stream that holds an archive or a Dockerfile (standard input, or one of the caller's), a git
repository or a URL. A Dockerfile is a file of the context, one beside it, a stream or a URL. Whatever it is, the daemon
is told of it by attributes of its frontend, and gets it through services of the session.

Source: docker/buildx:build/opt.go (loadInputs, createTempDockerfile).
"""

from __future__ import annotations

import os
import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from anyio import to_thread

from buildkit_session.context import Context
from buildkit_session.errors import InputError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

    from buildkit_session.request.named_context import NamedContext, OciLayoutContext
    from buildkit_session.services.oci_layout import OciLayout
    from buildkit_session.services.readers import AnyReader
    from buildkit_session.services.upload import Upload

    Fetch: TypeAlias = Callable[[str], Awaitable[bytes]]
    """Lets the daemon fetch the Dockerfile at a URL."""

__all__ = ["MAX_DOCKERFILE", "ContextLike", "Inputs", "prepared"]

ContextLike: TypeAlias = "str | os.PathLike[str] | AnyReader"
"""What a build may be given as its context."""

MAX_DOCKERFILE: Final = 2 * 1024 * 1024
"""Bytes of a Dockerfile that is not a file, as for buildx."""

_DEFAULT_NAME: Final = "Dockerfile"
_STDIN: Final = "-"
# The frontend then takes the Dockerfile from the directory of this name, whatever the context is.
_APART: Final = {"dockerfilekey": "dockerfile"}


@dataclass(slots=True)
class Inputs:
    """The inputs of one build; made by :func:`prepared`.

    Attributes:
        directories: what the session shares, by name.
        dockerfile: the name of the Dockerfile, as the frontend is told.
        attrs: what else the frontend is told about the context.
        upload: a stream that the session serves.
        layouts: OCI layouts that the session serves, by the id of their store.
        directory: the directory that is the context, if one is.
        over_ssh: whether the daemon needs an ssh agent to fetch the context.
    """

    directories: dict[str, Path] = field(default_factory=dict)
    dockerfile: str = _DEFAULT_NAME
    attrs: dict[str, str] = field(default_factory=dict)
    upload: Upload | None = None
    layouts: dict[str, OciLayout] = field(default_factory=dict)
    directory: Path | None = None
    over_ssh: bool = False

    @property
    def name(self) -> str:
        """What people call the context."""
        return self.directory.name if self.directory is not None else self.attrs.get("context", "")


@asynccontextmanager
async def prepared(
    context: ContextLike,
    file: str | os.PathLike[str] | None,
    named: Mapping[str, NamedContext],
    *,
    fetch: Fetch,
) -> AsyncIterator[Inputs]:
    """Look at the inputs of a build; what had to be written to disk for it is removed with the block.

    Args:
        context: a directory, ``-``, a git repository, a URL, or a stream of the caller's.
        file: the Dockerfile: a path, ``-`` or a URL; by default ``Dockerfile`` in the context.
        named: further contexts, which are there.
        fetch: fetches a Dockerfile.

    Raises:
        InputError: something is missing or cannot be read, or context and file do not go together.
    """
    async with AsyncExitStack() as stack:
        maker = _Maker(stack, fetch)
        await maker.add_context(context, None if file is None else os.fspath(file))
        if named:
            await to_thread.run_sync(maker.add_named, named)
        yield maker.inputs


class _Maker:
    def __init__(self, stack: AsyncExitStack, fetch: Fetch) -> None:
        self.inputs = Inputs()
        self._stack = stack
        self._fetch = fetch

    async def add_context(self, context: ContextLike, file: str | None) -> None:
        if not isinstance(context, str | os.PathLike):
            await self._add_stream(context, file)
            return
        if not isinstance(context, str) or await to_thread.run_sync(_is_directory, context):
            await self._add_directory(Path(context), file)
            return
        # Here, not above: most contexts are directories.
        from buildkit_session.request.remote_context import (  # noqa: PLC0415
            DirectorySource,
            GitSource,
            HttpSource,
            StdinSource,
            find_context,
        )

        match await to_thread.run_sync(find_context, context):
            case DirectorySource(path):
                await self._add_directory(path, file)
            case StdinSource():
                if file == _STDIN:
                    raise InputError("stdin cannot be both the build context and the Dockerfile; name one of them")
                await self._add_stream(_stdin(), file)
            case (GitSource() | HttpSource()) as source:
                self.inputs.attrs["context"] = source.url
                self.inputs.over_ssh = isinstance(source, GitSource) and source.over_ssh
                await self._add_remote_file(file)

    def add_named(self, named: Mapping[str, NamedContext]) -> None:
        from buildkit_session.request.named_context import (  # noqa: PLC0415 - few builds have any
            LocalContext,
            OciLayoutContext,
            mount_name,
        )

        for name, context in named.items():
            if isinstance(context, LocalContext):
                self.inputs.directories[mount_name(name)] = context.path
            elif isinstance(context, OciLayoutContext):
                self._add_layout(name, context)

    async def _add_directory(self, path: Path, file: str | None) -> None:
        if file is not None and _is_no_path(file):
            found = await to_thread.run_sync(Context.directory_of, path)
            self.inputs.directory = self.inputs.directories["context"] = found
            await self._add_dockerfile(await self._read_file(file))
            self.inputs.attrs |= _APART
            return
        context = await to_thread.run_sync(Context.find, path, file)
        self.inputs.directory = self.inputs.directories["context"] = context.directory
        self.inputs.directories["dockerfile"] = context.dockerfile_directory
        self.inputs.dockerfile = context.dockerfile

    async def _add_remote_file(self, file: str | None) -> None:
        """Take a Dockerfile beside a context that the daemon fetches, or the name of one inside of it."""
        if file is None:
            return
        if _is_no_path(file):
            await self._add_dockerfile(await self._read_file(file))
            self.inputs.attrs |= _APART
        elif (path := Path(file)).is_absolute():
            await to_thread.run_sync(Context.check_dockerfile, path)
            self.inputs.directories["dockerfile"] = path.parent
            self.inputs.dockerfile = path.name
            self.inputs.attrs |= _APART
        else:
            self.inputs.dockerfile = file

    async def _add_stream(self, source: AnyReader, file: str | None) -> None:
        from buildkit_session.request.stdin_context import (  # noqa: PLC0415 - few builds have a stream
            HEAD_SIZE,
            StdinKind,
            classify,
        )
        from buildkit_session.services.readers import chunks  # noqa: PLC0415

        pieces = chunks(source)
        self._stack.push_async_callback(pieces.aclose)
        head = b""
        while len(head) < HEAD_SIZE and (piece := await anext(pieces, b"")):
            head += piece
        match classify(head):
            case StdinKind.EMPTY:
                raise InputError("the build context is empty: standard input, or the stream given, held nothing")
            case StdinKind.FOREIGN_ARCHIVE:
                raise InputError(
                    "the build context is an archive of a kind that daemons do not take; use tar, as it is or "
                    "compressed by gzip, bzip2 or xz"
                )
            case StdinKind.BINARY:
                raise InputError(
                    "the build context is neither an archive nor a Dockerfile; give a tar archive, as it is or "
                    "compressed by gzip, bzip2 or xz, or the text of a Dockerfile"
                )
            case StdinKind.DOCKERFILE if file is not None:
                raise InputError(
                    "ambiguous Dockerfile source: the stream holds a Dockerfile, and -f (file=) names another; "
                    "leave one out"
                )
            case StdinKind.DOCKERFILE:
                await self._add_dockerfile(await _rest(head, pieces))
                self.inputs.directories["context"] = await self._folder()
            case StdinKind.ARCHIVE:
                await self._add_archive(_chained(head, pieces), file)

    async def _add_archive(self, pieces: AsyncGenerator[bytes, None], file: str | None) -> None:
        from buildkit_session.services.upload import Upload  # noqa: PLC0415 - as above

        self.inputs.upload = Upload(pieces)
        self.inputs.attrs["context"] = self.inputs.upload.url
        await self._add_remote_file(file)

    async def _read_file(self, file: str) -> bytes:
        if file != _STDIN:
            return await self._fetch(file)
        from buildkit_session.services.readers import chunks  # noqa: PLC0415 - as above

        pieces = chunks(_stdin())
        self._stack.push_async_callback(pieces.aclose)
        return await _rest(b"", pieces)

    async def _add_dockerfile(self, text: bytes) -> None:
        folder = await self._folder()
        await to_thread.run_sync((folder / _DEFAULT_NAME).write_bytes, text)
        self.inputs.directories["dockerfile"] = folder
        self.inputs.dockerfile = _DEFAULT_NAME

    async def _folder(self) -> Path:
        from tempfile import TemporaryDirectory  # noqa: PLC0415 - few Dockerfiles come from elsewhere

        folder = await to_thread.run_sync(lambda: TemporaryDirectory(prefix="buildkit-session-"))
        self._stack.callback(folder.cleanup)
        return Path(folder.name)

    def _add_layout(self, name: str, context: OciLayoutContext) -> None:
        from buildkit_session.services.oci_index import resolve  # noqa: PLC0415 - few builds have one
        from buildkit_session.services.oci_layout import OciLayout  # noqa: PLC0415

        digest = context.digest or str(resolve(context.path, context.tag, or_only=True).digest)
        key = secrets.token_hex(12)
        self.inputs.layouts[f"oci:{key}"] = OciLayout(context.path)
        self.inputs.attrs[f"context:{name}"] = context.option(key, digest)


def _is_directory(context: str) -> bool:
    return context != _STDIN and bool(context) and Path(context).is_dir()


def _is_no_path(file: str) -> bool:
    """Whether the Dockerfile comes from standard input or a URL."""
    if "://" not in file:
        return file == _STDIN
    from buildkit_session.request.remote_context import is_http  # noqa: PLC0415 - few Dockerfiles are elsewhere

    return is_http(file)


def _stdin() -> AnyReader:
    from buildkit_session.services.readers import DescriptorReader  # noqa: PLC0415 - as above

    return DescriptorReader(0)


async def _rest(head: bytes, pieces: AsyncIterator[bytes]) -> bytes:
    text = bytearray(head)
    async for piece in pieces:
        text += piece
        if len(text) > MAX_DOCKERFILE:
            raise InputError(f"the Dockerfile is longer than {MAX_DOCKERFILE} bytes; is it one?")
    return bytes(text)


async def _chained(head: bytes, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    yield head
    async for piece in pieces:
        yield piece
