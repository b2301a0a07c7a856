"""Outputs that are images: kept by the daemon, pushed, loaded into an Engine, or written as an archive.

An exporter is named in BuildKit's own terms; an Engine that is asked for ``image`` calls it ``moby``.

Source: docker/buildx:build/opt.go (CreateExports, toSolveOpt); moby/buildkit:exporter/containerimage,
exporter/oci/export.go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from buildkit_session.errors import InputError
from buildkit_session.fsutil.quota import Limits
from buildkit_session.local_output import LocalOutput
from buildkit_session.request.arguments import flag
from buildkit_session.request.destination import STDOUT, Stdout, check_archive, require_destination

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_session.request.destination import Writer

__all__ = ["CacheOnlyOutput", "CustomOutput", "DockerOutput", "ImageOutput", "OciOutput"]

_NO_TAR: Final = {"tar": "false"}


@dataclass(frozen=True, slots=True)
class ImageOutput:
    """An image in the daemon's own store, or in a registry; what an Engine makes when no output is named.

    Attributes:
        name: one image reference, or several joined by commas. The tags of the build, if it has any, take its place.
        push: whether the image shall also go to its registry.
        attrs: exporter attributes passed to the daemon as they are.
    """

    name: str | None = None
    push: bool = False
    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        flag("push", self.push)

    @property
    def exporter(self) -> tuple[str, dict[str, str]]:
        """The exporter's type and attributes, as BuildKit expects them."""
        attrs = dict(self.attrs)
        if self.name is not None:
            attrs["name"] = self.name
        if self.push:
            attrs["push"] = "true"
        return "image", attrs

    def check(self) -> None:
        """Nothing of this machine is needed."""


@dataclass(frozen=True, slots=True)
class OciOutput:
    """An image as an archive of an OCI layout, or as the layout itself.

    Attributes:
        dest: as for :class:`~buildkit_session.output.TarOutput`; a directory, made if it is missing, for a layout.
        attrs: exporter attributes passed to the daemon as they are.
        tar: whether it is an archive.
        max_bytes: the largest archive that is taken, or the most bytes that are written to a layout; ``None`` for no
            limit. Blobs that are there already do not count.
        max_entries: the most blobs that are written to a layout.

    Raises:
        InputError: a limit cannot be, or a layout has no directory.
    """

    dest: Path | Writer | None = None
    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)
    tar: bool = True
    max_bytes: int | None = None
    max_entries: int | None = None

    def __post_init__(self) -> None:
        _ = self.limits  # refuses what cannot be
        require_destination(self.dest)
        if not flag("tar", self.tar):
            _require_directory("oci", self.dest)
        _require_entries(self.max_entries, tar=self.tar)

    @property
    def limits(self) -> Limits:
        """The limits for the receiver."""
        return Limits(self.max_bytes, self.max_entries)

    @property
    def to_stdout(self) -> bool:
        """Whether the archive goes to standard output."""
        return self.tar and self.dest is None

    @property
    def exporter(self) -> tuple[str, dict[str, str]]:
        """The exporter's type and attributes, as BuildKit expects them."""
        return "oci", {**self.attrs, **({} if self.tar else _NO_TAR)}

    def check(self) -> None:
        """Raise InputError if the file or directory cannot be written, or if the archive would go to a terminal."""
        _check(self.dest, "oci", tar=self.tar)


@dataclass(frozen=True, slots=True)
class DockerOutput:
    """An image for ``docker load``: loaded into an Engine, or as an archive.

    Attributes:
        dest: ``None`` loads the image into the Engine; a path, something to write to, or
            :data:`~buildkit_session.output.STDOUT`, gets the archive; a directory gets a layout.
        attrs: exporter attributes passed to the daemon as they are.
        tar: whether it is an archive; if not, ``dest`` is a directory.
        context: the docker context whose Engine loads the image, if it is not the one in use.
        max_bytes: as for :class:`OciOutput`.
        max_entries: as for :class:`OciOutput`.

    Raises:
        InputError: a limit cannot be, or a layout has no directory.
    """

    dest: Path | Writer | Stdout | None = None
    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)
    tar: bool = True
    context: str | None = None
    max_bytes: int | None = None
    max_entries: int | None = None

    def __post_init__(self) -> None:
        _ = self.limits  # refuses what cannot be
        require_destination(self.dest)
        if not flag("tar", self.tar):
            _require_directory("docker", self.dest)
        elif self.dest is not None and self.context is not None:
            raise InputError("context is the Engine that loads the image; an archive has none, leave it or dest out")
        _require_entries(self.max_entries, tar=self.tar)

    @property
    def loads(self) -> bool:
        """Whether the image is loaded into an Engine."""
        return self.dest is None

    @property
    def limits(self) -> Limits:
        """The limits for the receiver."""
        return Limits(self.max_bytes, self.max_entries)

    @property
    def to_stdout(self) -> bool:
        """Whether the archive goes to standard output."""
        return self.dest is STDOUT

    @property
    def exporter(self) -> tuple[str, dict[str, str]]:
        """The exporter's type and attributes, as BuildKit expects them."""
        return "docker", {**self.attrs, **({} if self.tar else _NO_TAR)}

    def check(self) -> None:
        """Raise InputError if the file or directory cannot be written, or if the archive would go to a terminal."""
        if not self.loads:
            _check(self.dest, "docker", tar=self.tar)


@dataclass(frozen=True, slots=True)
class CacheOnlyOutput:
    """No output: the build runs, and its result stays in the cache.

    Attributes:
        attrs: not sent; the daemon is not asked for an exporter.
    """

    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def exporter(self) -> tuple[str, dict[str, str]]:
        """The name the command line has for it; no daemon knows it."""
        return "cacheonly", dict(self.attrs)

    def check(self) -> None:
        """Nothing of this machine is needed."""


@dataclass(frozen=True, slots=True)
class CustomOutput:
    """An exporter that only the daemon knows. It can be given attributes, but nothing to write to.

    Attributes:
        type: of the exporter.
        attrs: passed to the daemon as they are.
    """

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def exporter(self) -> tuple[str, dict[str, str]]:
        """The type and attributes."""
        return self.type, dict(self.attrs)

    def check(self) -> None:
        """Nothing of this machine is needed."""


def _require_directory(kind: str, dest: object) -> None:
    if dest is STDOUT:
        raise InputError(f"dest cannot be stdout for {kind} exporter with tar=false; name a directory")
    if not isinstance(dest, Path):
        raise InputError(f"dest is required for {kind} exporter with tar=false: name a directory")


def _require_entries(max_entries: int | None, *, tar: bool) -> None:
    if tar and max_entries is not None:
        raise InputError("max-entries is for type=local and for layouts (tar=false): an archive is one file")


def _check(dest: Path | Writer | Stdout | None, kind: str, *, tar: bool) -> None:
    if tar:
        check_archive(dest, kind)
    elif isinstance(dest, Path):
        LocalOutput(dest).check()
