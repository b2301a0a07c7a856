"""Secrets for ``RUN --mount=type=secret``: where a value comes from, and how it is read when a step asks for it.

A value is read again each time, as upstream does, so what a vault gives may change; it is in no ``repr`` and no error.
This module knows nothing of the service that answers the daemon.

.. code-block:: python

    secrets = {"npm": bk.secret.env("NPM_TOKEN"), "key": bk.secret.file("key.pem"), "db": bk.secret.call(from_vault)}

No value is in a log, a ``repr``, an event or an error of a build. What a function given to :func:`call` raises might
hold it, so of that a build's error gives the type and the line alone: let the function log what went wrong, or raise an
InputError whose text may be shown. Tools that print the local variables of a traceback's frames show the caller's own;
that is beyond the reach of a library.

Source: docker/buildx:util/buildflags/secrets.go; moby/buildkit:session/secrets/secretsprovider/store.go.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from buildkit_session.errors import InputError
from buildkit_session.request.arguments import texts
from buildkit_session.request.fields import read_fields
from buildkit_session.wording import a_path, a_type

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Found: TypeAlias = bytes | str | None

FoundT = TypeVar("FoundT")

__all__ = [
    "MAX_SIZE",
    "CallSecret",
    "EnvSecret",
    "FileSecret",
    "Secret",
    "ValueSecret",
    "call",
    "env",
    "file",
    "parse",
    "read_secrets",
    "value",
]

MAX_SIZE: Final = 500 * 1024
"""Bytes of one secret, as upstream's clients have it."""

_KINDS: Final = ("file", "env")
_GRAMMAR: Final = "write id=NAME,src=PATH or id=NAME,env=VARIABLE"


class Secret(ABC):
    """Something that a secret can be read from. Subclass it, or use the functions of this module."""

    __slots__ = ()

    @abstractmethod
    async def read(self) -> bytes | None:
        """Read the value, of at most :data:`MAX_SIZE` bytes.

        Returns:
            The value, which may be empty; ``None`` if there is no such secret.

        Raises:
            InputError: it cannot be read, which is not the same as missing: an optional mount would be skipped without
                a word.
        """

    def check(self) -> None:
        """Raise InputError before a build starts if it is known that the value cannot be had. Blocks."""
        return


@dataclass(frozen=True, slots=True)
class EnvSecret(Secret):
    """The value of a variable of this process's environment.

    Attributes:
        name: of the variable.
    """

    name: str

    async def read(self) -> bytes | None:
        """Read the variable; ``None`` if it is not set."""
        content = os.environb.get(os.fsencode(self.name))
        return None if content is None else _bounded(content, self._described)

    def check(self) -> None:
        """Raise InputError if the variable is not set, or too large."""
        content = os.environb.get(os.fsencode(self.name))
        if content is None:
            raise InputError(f"{self._described} is not set; set it, or name another one with env=")
        _bounded(content, self._described)

    @property
    def _described(self) -> str:
        return f"environment variable {self.name}"


@dataclass(frozen=True, slots=True)
class FileSecret(Secret):
    """The content of a regular file; links are followed, ``~`` is not expanded.

    Attributes:
        path: of the file.
        unset: the environment variable that would have been taken instead, but is not set; or ``""``.
    """

    path: Path
    unset: str = field(default="", compare=False, repr=False)

    async def read(self) -> bytes:
        """Read the file, in a thread."""
        return await _in_thread(self._read)

    def check(self) -> None:
        """Raise InputError if the file is missing, not a regular file, too large, or may not be read."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise InputError(f"failed to stat {self.path}: {error.strerror}{self._also_tried}") from error
        self._require_suitable(found)
        if not os.access(self.path, os.R_OK):
            raise InputError(f"secret file {self.path} cannot be read: no permission")

    def _read(self) -> bytes:
        try:
            # Without waiting: the path may have become a pipe since the check.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            raise InputError(f"secret file {self.path} cannot be read: {error.strerror}") from error
        try:
            self._require_suitable(os.fstat(descriptor))
            content = _read_at_most(descriptor, MAX_SIZE + 1)
        except OSError as error:
            raise InputError(f"secret file {self.path} cannot be read: {error.strerror}") from error
        finally:
            os.close(descriptor)
        return _bounded(content, f"secret file {self.path}")

    @property
    def _also_tried(self) -> str:
        if not self.unset:
            return ""
        return f", and environment variable {self.unset} is not set either; set it, or name a source with src= or env="

    def _require_suitable(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"secret file {self.path} is not a regular file; write the value to one, or use env=")
        if found.st_size > MAX_SIZE:
            raise InputError(f"secret file {self.path} is too big: {found.st_size} bytes, {MAX_SIZE} at most (500 KiB)")


@dataclass(frozen=True, slots=True)
class ValueSecret(Secret):
    """A value that the caller has at hand.

    Attributes:
        content: the value.
    """

    content: bytes = field(repr=False)

    async def read(self) -> bytes:
        """Return the value."""
        return self.content

    def check(self) -> None:
        """Raise InputError if the value is too large."""
        _bounded(self.content, "the value")


@dataclass(frozen=True, slots=True)
class CallSecret(Secret):
    """What a function returns whenever a step asks.

    Attributes:
        function: takes nothing; returns bytes, a text, which becomes UTF-8, or ``None`` for "no such secret". A plain
            function runs in a thread; one with ``async def`` on the event loop, and is cancelled with the build.
    """

    function: Callable[[], Found | Awaitable[Found]] = field(repr=False)

    async def read(self) -> bytes | None:
        """Call the function.

        Raises:
            CallbackError: it raised something; neither text nor cause show what, as it may hold the value.
            InputError: it returned something else, or has raised this.
        """
        from buildkit_session.services.callbacks import called  # noqa: PLC0415 - as below

        found = await called(self.function, kind="secret", what="the function")
        if found is None:
            return None
        content = found.encode() if isinstance(found, str) else found
        if not isinstance(content, bytes):
            raise InputError(f"the function must return bytes, a text or None, not {type(found).__name__}")
        return _bounded(content, "what the function returned")


def env(name: str) -> EnvSecret:
    """Take the value of an environment variable.

    Raises:
        InputError: the name cannot be one.
    """
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:  # type: ignore[redundant-expr]
        # Not shown: it may be the value.
        raise InputError("secret.env() takes the name of an environment variable; for a value take secret.value()")
    return EnvSecret(name)


def file(path: str | os.PathLike[str]) -> FileSecret:
    """Take the content of a file.

    Raises:
        InputError: the path is empty.
    """
    if not a_path("a secret file", path):
        raise InputError("the path of a secret must not be empty")
    return FileSecret(Path(path))


def value(content: bytes | str) -> ValueSecret:
    """Take ``content`` itself; a text becomes UTF-8.

    Raises:
        InputError: it is neither.
    """
    if isinstance(content, str):
        return ValueSecret(content.encode())
    if not isinstance(content, bytes | bytearray | memoryview):
        raise InputError(f"the value of a secret must be bytes or a text, not {a_type(content)}")
    return ValueSecret(bytes(content))


def call(function: Callable[[], Found | Awaitable[Found]]) -> CallSecret:
    """Ask ``function``, plain or asynchronous, each time the value is needed.

    Args:
        function: returns bytes or a text, or ``None`` for "no such secret". A plain one runs in a thread, one with
            ``async def`` on the event loop. When it raises, the build fails with an InputError that names the type and
            the line, and not the text, which might repeat the value; an InputError of its own is shown as it is.

    Raises:
        InputError: it cannot be called.
    """
    if not callable(function):
        raise InputError(f"secret.call() takes a function, not {a_type(function)}")
    return CallSecret(function)


def parse(text: str, environ: Mapping[str, str] | None = None) -> tuple[str, Secret]:
    """Read one value of ``--secret``.

    The text is a record such as ``id=token,env=TOKEN`` or ``id=key,src=key.pem``. ``type=env`` makes ``src`` the name
    of a variable. With an id alone, the variable of that name is taken if there is one, else the file.

    Args:
        text: what was given.
        environ: where a variable is looked for; by default the environment of this process.

    Returns:
        The id and where the value comes from; no value was read.

    Raises:
        InputError: the text breaks the grammar, or has no id.
    """
    given = _read(text)
    name = given.get("id", "")
    if not name:
        raise InputError(f"secret missing ID; {_GRAMMAR}")
    source, variable = given.get("src", ""), given.get("env", "")
    if given.get("type") == "env" and not variable:
        source, variable = "", source
    if variable:
        return name, env(variable)
    if source:
        return name, file(source)
    known = name in (os.environ if environ is None else environ)
    return name, env(name) if known else FileSecret(Path(name), unset=name)


def read_secrets(given: object) -> dict[str, Secret]:
    """Take a mapping of ids to secrets, or a sequence of texts as :func:`parse` takes them; the last of equal ids wins.

    Raises:
        InputError: it is neither, or one of them cannot be.
    """
    if not isinstance(given, Mapping):
        return dict(parse(text) for text in texts("secrets", given) if text)
    for name, source in given.items():
        if not isinstance(source, Secret):  # the value is not shown: it may be the secret itself
            raise InputError(
                f"secrets: the value of {name!r} is {a_type(source)}; use bk.secret.value(), env(), file() or call()"
            )
    return dict(given)


def _read(text: str) -> dict[str, str]:
    """Take the text apart. Errors do not repeat it: some people write the value itself there."""
    given: dict[str, str] = {}
    for number, item in enumerate(read_fields(text, "a secret"), 1):
        key, separator, content = item.partition("=")
        key = key.lower()
        if not separator:
            raise InputError(f"field {number} of a secret must be a key=value pair; {_GRAMMAR}")
        if key not in {"type", "id", "source", "src", "env"}:
            raise InputError(f"unexpected key '{key}' of a secret; {_GRAMMAR}")
        if key == "type" and content not in _KINDS:
            raise InputError(f'unsupported secret type "{content}"; use file or env')
        given["src" if key == "source" else key] = content
    return given


async def _in_thread(function: Callable[[], FoundT]) -> FoundT:
    """Call a function that blocks.

    What it returns takes no way through the event loop, which in debug mode logs the arguments of slow callbacks.
    """
    from anyio import to_thread  # noqa: PLC0415 - most builds have no secrets, and their start is measured

    found: list[FoundT] = []
    await to_thread.run_sync(lambda: found.append(function()))
    return found.pop()


def _read_at_most(descriptor: int, size: int) -> bytes:
    pieces: list[bytes] = []
    while size > 0 and (piece := os.read(descriptor, size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _bounded(content: bytes, what: str) -> bytes:
    if len(content) > MAX_SIZE:
        raise InputError(f"{what} is too big: more than {MAX_SIZE} bytes (500 KiB)")
    return content
