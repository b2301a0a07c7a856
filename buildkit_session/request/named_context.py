"""Further contexts, which a Dockerfile takes for stages: ``--build-context NAME=VALUE``.

Source: docker/buildx:util/buildflags/context.go, build/opt.go (loadInputs); distribution/reference:normalize.go.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from buildkit_session.errors import InputError
from buildkit_session.request.reference import DIGEST, HOST, PATH, TAG
from buildkit_session.request.remote_context import GitSource, HttpSource, parse_remote
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ImageContext",
    "LocalContext",
    "NamedContext",
    "OciLayoutContext",
    "TargetContext",
    "check_all",
    "mount_name",
    "normalise_name",
    "option",
    "parse",
    "parse_value",
    "read_named_contexts",
]

_IMAGE: Final = "docker-image://"
_LAYOUT: Final = "oci-layout://"
_TARGET: Final = "target:"
_DEFAULT_TAG: Final = "latest"
# A name is an image reference.
_NAME: Final = re.compile(rf"(?:(?P<host>{HOST})/)?(?P<path>{PATH})(?P<tag>{TAG})?(?P<digest>{DIGEST})?", re.ASCII)
_DOCKER_HOSTS: Final = frozenset({"docker.io", "index.docker.io"})
_IDENTIFIER: Final = re.compile(r"[a-f0-9]{64}")
# The names that the frontend itself gives to the directories of a build.
_TAKEN: Final = frozenset({"context", "dockerfile"})


@dataclass(frozen=True, slots=True)
class LocalContext:
    """A directory of this machine.

    Attributes:
        path: of the directory.
    """

    path: Path

    def check(self, name: str) -> None:
        """Raise InputError if it is not there or no directory."""
        if not self.path.exists():
            raise InputError(f"failed to get build context {name}: {self.path} does not exist")
        if not self.path.is_dir():
            raise InputError(f"failed to get build context {name}: {self.path} is not a directory")


@dataclass(frozen=True, slots=True)
class ImageContext:
    """The files of an image.

    Attributes:
        ref: the image reference.
    """

    ref: str


@dataclass(frozen=True, slots=True)
class OciLayoutContext:
    """An image in a directory of this machine that is an OCI layout.

    Attributes:
        path: of the directory.
        tag: under which the layout's index knows the image.
        digest: of the manifest; empty to look it up in the index.
    """

    path: Path
    tag: str = _DEFAULT_TAG
    digest: str = ""

    def check(self, name: str) -> None:
        """Raise InputError if the directory has no index."""
        if not (self.path / "index.json").is_file():
            raise InputError(f"failed to get build context {name}: {self.path} is no OCI layout, it has no index.json")

    def option(self, store: str, digest: str) -> str:
        """What the frontend is told when the session serves the directory as ``store``."""
        return f"{_LAYOUT}{store}:{self.tag}@{digest}"


@dataclass(frozen=True, slots=True)
class TargetContext:
    """The result of another build. Only a program that runs several, as bake does, can say which.

    Attributes:
        target: its name there.
    """

    target: str


NamedContext: TypeAlias = LocalContext | ImageContext | OciLayoutContext | TargetContext | GitSource | HttpSource
_KINDS: Final = (LocalContext, ImageContext, OciLayoutContext, TargetContext, GitSource, HttpSource)


def read_named_contexts(given: object) -> dict[str, NamedContext]:
    """Take a mapping of names to contexts, or a sequence of ``NAME=VALUE``.

    Raises:
        InputError: it is neither, or a name or value cannot be.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {normalise_name(name): parse_value(value) for name, value in given.items()}
    texts = (given,) if isinstance(given, str) else given
    if not isinstance(texts, list | tuple):
        raise InputError(f"build_contexts must be a mapping such as {{'lib': '../lib'}}, not {a_type(given)}")
    return dict(parse(text) for text in texts if text)


def check_all(contexts: Mapping[str, NamedContext]) -> None:
    """Raise InputError if one of those on this machine is not there. Blocks."""
    for name, context in contexts.items():
        if isinstance(context, LocalContext | OciLayoutContext):
            context.check(name)


def parse(text: object) -> tuple[str, NamedContext]:
    """Read one value of ``--build-context``.

    Raises:
        InputError: it has no ``=``, or a name that is no image reference.
    """
    if not isinstance(text, str):
        raise InputError(f"a build context must be a text such as lib=../lib, not {a_type(text)}")
    name, separator, value = text.partition("=")
    if not separator:
        raise InputError(f"invalid context value: {text}, expected key=value")
    return normalise_name(name), parse_value(value)


def parse_value(value: object) -> NamedContext:
    """Read what a name stands for: a directory, a git repository, a URL or one of the forms with a prefix.

    ``docker-image://REF`` is an image, ``oci-layout://PATH[:TAG][@DIGEST]`` a layout, ``target:NAME`` another build. A
    path object is always a directory.

    Raises:
        InputError: it is empty, or no text.
    """
    if isinstance(value, _KINDS):
        return value
    if isinstance(value, os.PathLike):
        return LocalContext(Path(value))
    if not isinstance(value, str) or not value:
        raise InputError(f"the value of a build context must be a path, an image or a URL, not {value!r}")
    if (remote := parse_remote(value)) is not None:
        return remote
    for prefix, make in _FORMS.items():
        if value.startswith(prefix):
            return make(value.removeprefix(prefix))
    return LocalContext(Path(value))


def normalise_name(name: object) -> str:
    """Return the name in its shortest form: ``docker.io/library/alpine:latest`` is ``alpine``.

    A Dockerfile that says ``FROM alpine`` finds it under this name. ``NAME::OS/ARCH`` is for that platform alone.

    Raises:
        InputError: it is no image reference.
    """
    whole, separator, platform = name.partition("::") if isinstance(name, str) else ("", "", "")
    found = _NAME.fullmatch(whole)
    if found is None or _IDENTIFIER.fullmatch(whole):
        raise InputError(
            f"invalid context name {name}: use an image reference, such as base or app/lib:1, in lower case"
        )
    return _familiar(found) + separator + platform


def mount_name(name: str) -> str:
    """The name under which the session serves the directory of a named context."""
    return f"_{name}" if name in _TAKEN else name


def option(name: str, context: NamedContext) -> str | None:
    """What the frontend is told as ``context:NAME``; ``None`` for a layout, which depends on the session."""
    match context:
        case LocalContext():
            return f"local:{mount_name(name)}"
        case ImageContext(ref):
            return f"{_IMAGE}{ref}"
        case TargetContext(target):
            return f"{_TARGET}{target}"
        case GitSource() | HttpSource():
            return context.url
        case OciLayoutContext():
            return None


def _parse_layout(text: str) -> OciLayoutContext:
    place, _, digest = text.partition("@")
    path, _, tag = place.partition(":")
    if not path:
        raise InputError(f"{_LAYOUT}{text} names no directory: write {_LAYOUT}PATH[:TAG][@DIGEST]")
    return OciLayoutContext(Path(path), tag or _DEFAULT_TAG, digest)


_FORMS: Final[dict[str, Callable[[str], NamedContext]]] = {
    _IMAGE: ImageContext,
    _TARGET: TargetContext,
    _LAYOUT: _parse_layout,
}


def _familiar(found: re.Match[str]) -> str:
    host, path, tag = found["host"] or "", found["path"], found["tag"] or ""
    # Before a slash stands a host only if it looks like one.
    if host and not (":" in host or "." in host or host == "localhost" or host != host.lower()):
        host, path = "", f"{host}/{path}"
    if not host or host in _DOCKER_HOSTS:
        host, path = "", path.removeprefix("library/") if path.count("/") == 1 else path
    short = (f"{host}/" if host else "") + path + tag + (found["digest"] or "")
    return short.removesuffix(f":{_DEFAULT_TAG}")
