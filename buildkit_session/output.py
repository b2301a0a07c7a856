"""Where the result of a build goes: values, short constructors and the grammar of ``--output``.

An output is a plain value until a build uses it; its ``check()`` looks at the file system and is called before the
daemon is asked for anything, so that a destination that cannot work costs nothing. Whether a daemon can serve an output
is asked elsewhere.

Source: docker/buildx:util/buildflags/export.go, docker/buildx:build/opt.go (CreateExports); behaviour of buildx 0.29.1.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from buildkit_session.errors import InputError
from buildkit_session.fsutil.options import STALL_TIMEOUT
from buildkit_session.fsutil.quota import Limits
from buildkit_session.local_output import (
    ListingOutput,
    LocalOutput,
    read_boolean,
    read_local,
    read_max_bytes,
    read_max_entries,
    refuse_options,
)
from buildkit_session.request.arguments import texts
from buildkit_session.request.destination import (
    STDOUT,
    ByteWriter,
    Stdout,
    check_archive,
    read_path,
    require_destination,
)
from buildkit_session.request.fields import read_fields, split_pair
from buildkit_session.request.image_output import CacheOnlyOutput, CustomOutput, DockerOutput, ImageOutput, OciOutput
from buildkit_session.truth import FALSE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from buildkit_session.local_output import Mode, Permissions
    from buildkit_session.request.destination import Writer

__all__ = [
    "STDOUT",
    "ByteWriter",
    "CacheOnlyOutput",
    "CustomOutput",
    "DockerOutput",
    "ImageOutput",
    "ListingOutput",
    "LocalOutput",
    "OciOutput",
    "Output",
    "Stdout",
    "TarOutput",
    "cacheonly",
    "docker",
    "image",
    "listing",
    "local",
    "oci",
    "parse",
    "registry",
    "tar",
]

_STDOUT: Final = "-"
_KNOWN: Final = "local, tar, oci, docker, image, registry and cacheonly"


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

    dest: Path | Writer | None = None
    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        _ = self.limits  # refuses what cannot be
        require_destination(self.dest)
        if not {"max-entries", "max_entries"}.isdisjoint(self.attrs):
            raise InputError(
                "max-entries is for type=local: an archive is one file, with 512 bytes at least for each entry, "
                "so max-size bounds both"
            )
        refuse_options(self.attrs, "for type=local: an archive is written as it comes")

    @property
    def limits(self) -> Limits:
        """The same for the receiver."""
        return Limits(self.max_bytes)

    @property
    def to_stdout(self) -> bool:
        """Whether the archive goes to standard output."""
        return self.dest is None

    @property
    def exporter(self) -> tuple[str, dict[str, str]]:
        """The exporter's type and attributes, as the daemon expects them."""
        return "tar", dict(self.attrs)

    def check(self) -> None:
        """Raise InputError if the file cannot be written, or if the archive would go to a terminal."""
        check_archive(self.dest, "tar")


Output: TypeAlias = (
    LocalOutput | ListingOutput | TarOutput | OciOutput | DockerOutput | ImageOutput | CacheOnlyOutput | CustomOutput
)


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
        read_path(dest),
        _attributes(attrs),
        permissions=permissions,
        mode=mode,
        incremental=incremental,
        include=texts("include", include),
        exclude=texts("exclude", exclude),
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
        include=texts("include", include),
        exclude=texts("exclude", exclude),
        stall_timeout=stall_timeout,
        max_entries=max_entries,
    )


def tar(
    dest: str | os.PathLike[str] | Writer | None = None,
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
    return TarOutput(_archive(dest), _attributes(attrs), max_bytes)


def oci(
    dest: str | os.PathLike[str] | Writer | None = None,
    *,
    tar: bool = True,
    max_bytes: int | None = None,
    max_entries: int | None = None,
    **attrs: str | bool | int,
) -> OciOutput:
    """Write the image as an OCI layout.

    Args:
        dest: as for :func:`tar`; a directory, made if it is missing, if it is no archive.
        tar: ``False`` for the layout itself in place of an archive of it.
        max_bytes: the largest archive that is taken, or the most bytes that are written to a layout.
        max_entries: the most blobs that are written to a layout.
        attrs: exporter attributes, as for :func:`local`.

    Raises:
        InputError: ``dest`` is an empty path, or no directory for a layout, or the limit cannot be.
    """
    return OciOutput(_archive(dest), _attributes(attrs), tar, max_bytes, max_entries)


def docker(
    dest: str | os.PathLike[str] | Writer | Stdout | None = None,
    *,
    tar: bool = True,
    context: str | None = None,
    max_bytes: int | None = None,
    max_entries: int | None = None,
    **attrs: str | bool | int,
) -> DockerOutput:
    """Load the image into the Engine, or write it as an archive that ``docker load`` takes.

    Args:
        dest: ``None`` loads the image; else as for :func:`oci`, with ``"-"`` for standard output.
        tar: ``False`` for a layout in place of an archive of it.
        context: the docker context whose Engine loads the image, if it is not the one in use.
        max_bytes: as for :func:`oci`.
        max_entries: as for :func:`oci`.
        attrs: exporter attributes, as for :func:`local`.

    Raises:
        InputError: as :func:`oci`, or there is a context and nothing to load.
    """
    chosen = STDOUT if dest in (_STDOUT, STDOUT) else _archive(dest)
    return DockerOutput(chosen, _attributes(attrs), tar, context, max_bytes, max_entries)


def image(*, name: str | None = None, push: bool = False, **attrs: str | bool | int) -> ImageOutput:
    """Keep the result as an image in the daemon's store.

    Args:
        name: an image reference, for a build without tags.
        push: also send the image to its registry.
        attrs: exporter attributes, as for :func:`local`.
    """
    return ImageOutput(name, push, _attributes(attrs))


def registry(*, name: str | None = None, **attrs: str | bool | int) -> ImageOutput:
    """Send the image to its registry: :func:`image` with ``push=True``."""
    return ImageOutput(name, push=True, attrs=_attributes(attrs))


def cacheonly() -> CacheOnlyOutput:
    """Keep nothing but the cache."""
    return CacheOnlyOutput()


def parse(text: str | Mapping[str, str]) -> Output:
    """Read one value of ``--output``.

    The value is one CSV record of ``key=value`` fields; the first ``=`` splits, keys are trimmed and lower-cased,
    values are taken as they are, and the last of equal keys wins. A value of one field that does not start with
    ``type=`` is a directory, or a tar archive on standard output for ``-``; so ``dest=out`` alone names a directory
    ``dest=out``, as it does for buildx.

    The options of :func:`local` are fields of the same name, with ``-`` or ``_``; they are not sent to the daemon.
    ``include`` and ``exclude`` take one pattern each and may be repeated; ``umask`` is octal; ``owner`` is ``UID:GID``;
    ``stall-timeout=0`` is none; ``mode=copy`` is BuildKit's word for ``merge``; ``max-size``, or ``max-bytes``, takes
    units, as ``10GB`` or ``512MiB``, and is for archives and layouts too, ``max-entries`` for layouts.
    ``type=local,list-only=true``, without ``dest``, is :func:`listing`. A field of ``type=local`` or ``tar`` that is
    none of these, but looks like one, is refused; all others are the daemon's.

    Args:
        text: such as ``type=local,dest=out``, ``type=oci,dest=a.tar`` or ``out``; or a mapping of the fields.

    Returns:
        The output; nothing was looked up in the file system. A type that is not known here becomes a
        :class:`CustomOutput`: the daemon may know it.

    Raises:
        InputError: the text breaks the grammar, or has no type or destination.

    Source: docker/buildx:util/buildflags/export.go (ExportEntry.UnmarshalText), and docker/buildx:build/opt.go.
    """
    if isinstance(text, Mapping):
        return _output(list(text.items()), str(dict(text)))
    text = text.strip("\r\n")
    if not text:
        raise InputError(f"an output must not be empty; give a directory, '-' or type=TYPE (known: {_KNOWN})")
    what = f"output {text!r}"
    fields = read_fields(text, what)
    if fields == [text] and not text.startswith("type="):
        return tar() if text == _STDOUT else local(text)
    return _output([split_pair(item, what) for item in fields], repr(text))


def _output(given: list[tuple[str, str]], shown: str) -> Output:
    pairs = [(key.strip().lower(), value) for key, value in given]
    exporter = dict(pairs).get("type", "")
    if not exporter:
        raise InputError(f"type is required for output {shown} (known: {_KNOWN})")
    pairs = [pair for pair in pairs if pair[0] != "type"]
    if exporter == "local":
        return read_local(pairs)
    read = _READERS.get(exporter)
    return CustomOutput(exporter, dict(pairs)) if read is None else read(dict(pairs))


def _read_tar(attrs: dict[str, str]) -> TarOutput:
    dest, max_bytes = attrs.pop("dest", ""), read_max_bytes(attrs)
    return TarOutput(_read_dest(dest), attrs, max_bytes)


def _read_oci(attrs: dict[str, str]) -> OciOutput:
    dest, max_bytes, max_entries = attrs.pop("dest", ""), read_max_bytes(attrs), read_max_entries(attrs)
    tar = _read_tar_field(attrs)
    if not tar and dest == _STDOUT:
        raise InputError("dest cannot be stdout for oci exporter with tar=false; name a directory")
    return OciOutput(_read_dest(dest), attrs, tar, max_bytes, max_entries)


def _read_docker(attrs: dict[str, str]) -> DockerOutput:
    dest, max_bytes, max_entries = attrs.pop("dest", ""), read_max_bytes(attrs), read_max_entries(attrs)
    tar, context = _read_tar_field(attrs), attrs.pop("context", None)
    chosen = STDOUT if dest == _STDOUT else _read_dest(dest)
    return DockerOutput(chosen, attrs, tar, context, max_bytes, max_entries)


def _read_image(attrs: dict[str, str]) -> ImageOutput:
    attrs.pop("dest", None)
    return ImageOutput(attrs.pop("name", None), read_boolean("push", attrs.pop("push", "")), attrs)


def _read_registry(attrs: dict[str, str]) -> ImageOutput:
    return _read_image({**attrs, "push": "true"})


_READERS: Final[dict[str, Callable[[dict[str, str]], Output]]] = {
    "tar": _read_tar,
    "oci": _read_oci,
    "docker": _read_docker,
    "image": _read_image,
    "moby": _read_image,  # an Engine's name for it
    "registry": _read_registry,
    "cacheonly": CacheOnlyOutput,
}


def _read_dest(dest: str) -> Path | None:
    return None if dest in ("", _STDOUT) else Path(dest)


def _read_tar_field(attrs: dict[str, str]) -> bool:
    # What is no boolean means an archive, as it does for buildx.
    return attrs.pop("tar", "") not in FALSE


def _archive(dest: str | os.PathLike[str] | Writer | None) -> Path | Writer | None:
    if dest is None or dest == _STDOUT:
        return None
    return read_path(dest) if isinstance(dest, str | os.PathLike) else dest


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
