"""Where the result of a build goes: values, short constructors and the grammar of ``--output``.

An output is a plain value until a build uses it; its ``check()`` looks at the file system and is called before the
daemon is asked for anything, so that a destination that cannot work costs nothing.

Exporters that this version cannot serve yet (``oci``, ``docker`` to a file, ``registry``, ``cacheonly``) are refused by
name.

Source: docker/buildx:util/buildflags/export.go, docker/buildx:build/opt.go (toSolveOpt); behaviour of buildx 0.29.1.
"""

from __future__ import annotations

import io
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from buildkit_session.errors import InputError, UnsupportedError
from buildkit_session.fsutil.options import STALL_TIMEOUT
from buildkit_session.fsutil.quota import Limits
from buildkit_session.local_output import (
    ListingOutput,
    LocalOutput,
    read_boolean,
    read_local,
    read_max_bytes,
    require_writable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from buildkit_session.local_output import Mode, Permissions
    from buildkit_session.services.writers import AsyncWriter, ByteSender

__all__ = [
    "ByteWriter",
    "ImageOutput",
    "ListingOutput",
    "LocalOutput",
    "Output",
    "TarOutput",
    "image",
    "listing",
    "local",
    "parse",
    "tar",
]

_STDOUT = "-"
_KNOWN = "local, tar and image"
_LATER = frozenset({"oci", "registry", "cacheonly"})
_IMAGE_TYPES = frozenset({"image", "docker", "moby"})
# One field of a CSV record: quoted, with "" for a quote inside, or free of quotes. Both branches are linear in time.
_FIELD = re.compile(r'"(?P<quoted>(?:[^"]|"")*)"(?=,|\Z)|(?P<plain>[^",]*)(?=,|\Z)')


class ByteWriter(Protocol):
    """What a tar archive can be written to: a binary file, a pipe, an ``io.BytesIO``."""

    def write(self, data: bytes, /) -> object:
        """Take all of ``data``."""


@dataclass(frozen=True, slots=True)
class TarOutput:
    """The files of the result as one tar archive.

    Attributes:
        dest: a file, whose directory must exist; an open binary file or an asynchronous writer, left open; ``None`` is
            standard output.
        attrs: exporter attributes passed to the daemon as they are.
        max_bytes: the largest archive that is taken; ``None`` for no limit. A larger one fails before more is written.

    Raises:
        InputError: the limit cannot be, or there is one for entries, which are not counted.
    """

    dest: Path | ByteWriter | AsyncWriter | ByteSender | None = None
    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        _ = self.limits  # refuses what cannot be
        if not {"max-entries", "max_entries"}.isdisjoint(self.attrs):
            raise InputError(
                "max-entries is for type=local: an archive is one file, with 512 bytes at least for each entry, "
                "so max-size bounds both"
            )

    @property
    def limits(self) -> Limits:
        """The same for the receiver."""
        return Limits(self.max_bytes)

    @property
    def exporter(self) -> tuple[str, dict[str, str]]:
        """The exporter's type and attributes, as the daemon expects them."""
        return "tar", dict(self.attrs)

    def check(self) -> None:
        """Raise InputError if the file cannot be written, or if the archive would go to a terminal."""
        if isinstance(self.dest, Path):
            _check_file(self.dest)
        elif self.dest is None:
            _check_stream(sys.stdout, "standard output")
        else:
            _check_stream(self.dest, "the destination")
            if isinstance(self.dest, io.TextIOBase):
                raise InputError("the destination of a tar output must be a binary file, not a text file")


@dataclass(frozen=True, slots=True)
class ImageOutput:
    """An image in the Engine's own store; what a build makes when no output is named.

    Attributes:
        name: one image reference, or several joined by commas, beside the tags of the build.
        push: whether the image shall also go to its registry. Not supported yet, and refused by :meth:`check`: an
            Engine with the graph store would ignore it without a word.
        attrs: exporter attributes passed to the daemon as they are.
    """

    name: str | None = None
    push: bool = False
    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def exporter(self) -> tuple[str, dict[str, str]]:
        """The exporter's type and attributes, as the daemon expects them.

        The type is ``moby``, the name under which an Engine knows its own store whichever that is; ``image`` exists
        only with the containerd image store.
        """
        attrs = dict(self.attrs)
        if self.name is not None:
            attrs["name"] = self.name
        if self.push:
            attrs["push"] = "true"
        return "moby", attrs

    def check(self) -> None:
        """Raise UnsupportedError if the image shall be pushed."""
        if self.push:
            raise UnsupportedError("pushing the image is not supported yet; build it, then push it with the Engine")


Output: TypeAlias = LocalOutput | ListingOutput | TarOutput | ImageOutput


def local(
    dest: str | os.PathLike[str],
    *,
    permissions: Permissions = "safe",
    mode: Mode = "merge",
    incremental: bool = False,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    umask: int = 0,
    owner: tuple[int, int] | None = None,
    force: bool = False,
    stall_timeout: float | None = STALL_TIMEOUT,
    max_bytes: int | None = None,
    max_entries: int | None = None,
    **attrs: str | bool | int,
) -> LocalOutput:
    """Write the files of the result to the directory ``dest``.

    Args:
        dest: the directory, made if it is missing.
        permissions: see :class:`LocalOutput`, as for all options.
        mode: what becomes of what is there: ``merge``, ``mirror`` or ``swap``.
        incremental: leave files alone that are there with the same size, time and permissions.
        include: patterns of what is written.
        exclude: patterns of what is not written.
        umask: permissions that nothing gets.
        owner: user and group id of everything.
        force: let ``mirror`` and ``swap`` work on protected directories.
        stall_timeout: seconds of silence after which the transfer fails.
        max_bytes: the most content that may be written.
        max_entries: the most files, directories and links that may be written.
        attrs: exporter attributes; ``platform_split=False`` is sent as ``platform-split=false``.

    Raises:
        InputError: ``dest`` is empty, or the options do not go together.
    """
    return LocalOutput(
        _path(dest),
        _attributes(attrs),
        permissions=permissions,
        mode=mode,
        incremental=incremental,
        include=_patterns(include),
        exclude=_patterns(exclude),
        umask=umask,
        owner=owner,
        force=force,
        stall_timeout=stall_timeout,
        max_bytes=max_bytes,
        max_entries=max_entries,
    )


def listing(
    *,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    stall_timeout: float | None = STALL_TIMEOUT,
    max_entries: int | None = None,
    **attrs: str | bool | int,
) -> ListingOutput:
    """List the files of the result without fetching them; see :class:`ListingOutput`.

    Args:
        include: patterns of what is listed.
        exclude: patterns of what is not listed.
        stall_timeout: seconds of silence after which the transfer fails.
        max_entries: the most entries that are taken.
        attrs: exporter attributes, as for :func:`local`.
    """
    return ListingOutput(
        _attributes(attrs),
        include=_patterns(include),
        exclude=_patterns(exclude),
        stall_timeout=stall_timeout,
        max_entries=max_entries,
    )


def tar(
    dest: str | os.PathLike[str] | ByteWriter | AsyncWriter | ByteSender | None = None,
    *,
    max_bytes: int | None = None,
    **attrs: str | bool | int,
) -> TarOutput:
    """Write the files of the result as a tar archive.

    Args:
        dest: a path, an open binary file, what has ``async def write`` or, as anyio's streams, ``async def send``, an
            ``asyncio.StreamWriter``, or ``"-"`` or ``None`` for standard output.
        max_bytes: the largest archive that is taken.
        attrs: exporter attributes, as for :func:`local`.

    Raises:
        InputError: ``dest`` is an empty path, or the limit cannot be.
    """
    if dest is None or dest == _STDOUT:
        return TarOutput(None, _attributes(attrs), max_bytes)
    if isinstance(dest, str | os.PathLike):
        return TarOutput(_path(dest), _attributes(attrs), max_bytes)
    return TarOutput(dest, _attributes(attrs), max_bytes)


def image(*, name: str | None = None, push: bool = False, **attrs: str | bool | int) -> ImageOutput:
    """Keep the result as an image in the Engine's store.

    Args:
        name: an image reference beside the tags of the build.
        push: not supported yet; refused when the build starts.
        attrs: exporter attributes, as for :func:`local`.
    """
    return ImageOutput(name, push, _attributes(attrs))


def parse(text: str) -> Output:
    """Read one value of ``--output``.

    The value is one CSV record of ``key=value`` fields; the first ``=`` splits, keys are trimmed and lower-cased,
    values are taken as they are, and the last of equal keys wins. A value of one field that does not start with
    ``type=`` is a directory, or a tar archive on standard output for ``-``; so ``dest=out`` alone names a directory
    ``dest=out``, as it does for buildx.

    The options of :func:`local` are fields of the same name, with ``-`` or ``_``; they are not sent to the daemon.
    ``include`` and ``exclude`` take one pattern each and may be repeated; ``umask`` is octal; ``owner`` is ``UID:GID``;
    ``stall-timeout=0`` is none; ``mode=copy`` is BuildKit's word for ``merge``; ``max-size``, or ``max-bytes``, takes
    units, as ``10GB`` or ``512MiB``, and is for ``type=tar`` too. ``type=local,list-only=true``, without ``dest``, is
    :func:`listing`.

    Args:
        text: such as ``type=local,dest=out``, ``type=tar`` or ``out``.

    Returns:
        The output; nothing was looked up in the file system.

    Raises:
        InputError: the text breaks the grammar, has no type or destination, or names an unknown exporter.
        UnsupportedError: the exporter exists, but this version cannot serve it.

    Source: docker/buildx:util/buildflags/export.go (ExportEntry.UnmarshalText), and docker/buildx:build/opt.go.
    """
    text = text.strip("\r\n")
    if not text:
        raise InputError(f"an output must not be empty; give a directory, '-' or type=TYPE (known: {_KNOWN})")
    fields = list(_fields(text))
    if fields == [text] and not text.startswith("type="):
        return tar() if text == _STDOUT else local(text)
    pairs = [_pair(item, text) for item in fields]
    exporter = dict(pairs).get("type", "")
    if not exporter:
        raise InputError(f"type is required for output {text!r} (known: {_KNOWN})")
    return _output(exporter, [pair for pair in pairs if pair[0] != "type"])


def _fields(text: str) -> Iterator[str]:
    position = 0
    while position <= len(text):
        match = _FIELD.match(text, position)
        if match is None:
            raise InputError(
                f"misplaced quote in output {text!r} after character {position}; "
                'quote a whole field, and write "" for a quote inside it'
            )
        quoted = match["quoted"]
        yield match["plain"] if quoted is None else quoted.replace('""', '"')
        position = match.end() + 1


def _pair(item: str, text: str) -> tuple[str, str]:
    key, separator, value = item.partition("=")
    if not separator:
        raise InputError(f"invalid value {item!r} in output {text!r}: expected key=value")
    return key.strip().lower(), value


def _output(exporter: str, pairs: list[tuple[str, str]]) -> Output:
    if exporter == "local":
        return read_local(pairs)
    attrs = dict(pairs)
    if exporter == "tar":
        dest, max_bytes = attrs.pop("dest", ""), read_max_bytes(attrs)
        return TarOutput(None if dest in ("", _STDOUT) else Path(dest), attrs, max_bytes)
    if exporter in _LATER or (exporter == "docker" and attrs.get("dest")):
        what = "docker with dest" if exporter == "docker" else exporter
        raise UnsupportedError(f"output type {what} is not supported yet; known types are {_KNOWN}")
    if exporter in _IMAGE_TYPES:
        return ImageOutput(attrs.pop("name", None), read_boolean("push", attrs.pop("push", "")), attrs)
    raise InputError(f"exporter {exporter!r} could not be found; known types are {_KNOWN}")


def _path(dest: str | os.PathLike[str]) -> Path:
    if not os.fspath(dest):
        raise InputError("the destination of an output must not be empty")
    return Path(dest)


def _patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def _attributes(attrs: Mapping[str, str | bool | int]) -> dict[str, str]:
    if "max_size" in attrs:
        # It would go to the daemon, which ignores it, and the caller would believe in a limit.
        raise InputError("max_size is a field of --output; the keyword is max_bytes, a number of bytes")
    return {_attribute_key(key): _attribute_value(value) for key, value in attrs.items()}


def _attribute_key(key: str) -> str:
    # Exporters have hyphens in their keys, which keywords cannot have. What is no keyword came through ** and stays.
    return key.replace("_", "-") if key.isidentifier() else key


def _attribute_value(value: str | bool | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_file(dest: Path) -> None:
    if dest.is_dir():
        raise InputError(f"destination file {dest} is a directory; name a file, or use type=local")
    if dest.exists():
        require_writable(dest, "destination file", dest)
    elif not dest.parent.is_dir():
        raise InputError(f"destination file {dest} cannot be made: there is no directory {dest.parent}")
    else:
        require_writable(dest.parent, "destination file", dest)


def _check_stream(stream: object, name: str) -> None:
    if stream is None:
        raise InputError(f"{name} is closed; give a tar output a dest")
    if isinstance(stream, io.IOBase) and stream.isatty():
        raise InputError(f"{name} is a terminal, and a tar archive is not text; give a dest or redirect it")
