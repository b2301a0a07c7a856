"""Outputs that take the files of a result one by one: written to a directory, or only listed.

Everything that is chosen here is done on this side of the connection, so any daemon will do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from buildkit_session.errors import InputError
from buildkit_session.fsutil.options import STALL_TIMEOUT, ReceiveOptions
from buildkit_session.fsutil.patterns import PatternMatcher
from buildkit_session.fsutil.policy import Policy
from buildkit_session.fsutil.protected import why_protected
from buildkit_session.fsutil.quota import Limits
from buildkit_session.quantity import read_count, read_size
from buildkit_session.request.arguments import flag
from buildkit_session.truth import FALSE, TRUE
from buildkit_session.wording import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "ListingOutput",
    "LocalOutput",
    "Mode",
    "Permissions",
    "read_boolean",
    "read_local",
    "read_max_bytes",
    "refuse_options",
    "require_writable",
]

Permissions: TypeAlias = Literal["safe", "upstream"]
Mode: TypeAlias = Literal["merge", "mirror", "swap"]

MAX_ID: Final = 2**32 - 2
"""The largest user or group id; the one above it means "leave as it is" to the system."""

_BOOLEANS: Final = {
    **dict.fromkeys(TRUE, True),
    **dict.fromkeys((*FALSE, ""), False),
}


@dataclass(frozen=True, slots=True)
class LocalOutput:
    """The files of the result, written to a directory, which is made if it is missing.

    Attributes:
        dest: the directory.
        attrs: exporter attributes passed to the daemon as they are, such as ``platform-split``.
        permissions: ``safe`` leaves set-user-id, set-group-id and sticky bits of files and all extended attributes
            away, and refuses devices; ``upstream`` does all that buildx does, which can make programs that run as root.
        mode: ``merge`` writes into what is there. ``mirror`` removes afterwards what is not in the result; what
            ``include`` and ``exclude`` leave out of the export stays. ``swap`` builds the tree beside ``dest`` and puts
            it in its place when the build has succeeded: all or nothing.
        incremental: leave files alone that are there with the same size, time (in nanoseconds) and permissions; their
            content is not fetched.
        include: patterns as in a ``.dockerignore``, matched against paths below ``dest``; only what matches is written,
            with the directories on the way. None means everything.
        exclude: patterns; what matches is not written, included or not.
        umask: permission bits that files and directories do not get.
        owner: user and group id of everything; by default the caller's own.
        force: let ``mirror`` and ``swap`` work on the home and the working directory, on what contains them, and
            through a symbolic link.
        stall_timeout: seconds of silence, while content is owed, after which the transfer fails; ``None`` for no limit.
        max_bytes: the most that may be written: content of all files, but those that ``incremental`` leaves alone. An
            export beyond it fails before anything beyond it is written.
        max_entries: the same for the number of files, directories and links; what ``incremental`` leaves alone counts.

    Raises:
        InputError: the values cannot be, or do not go together.
    """

    dest: Path
    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)
    permissions: Permissions = "safe"
    mode: Mode = "merge"
    incremental: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    umask: int = 0
    owner: tuple[int, int] | None = None
    force: bool = False
    stall_timeout: float | None = STALL_TIMEOUT
    max_bytes: int | None = None
    max_entries: int | None = None

    def __post_init__(self) -> None:
        _require_one_of("permissions", self.permissions, get_args(Permissions))
        _require_one_of("mode", self.mode, get_args(Mode))
        flag("incremental", self.incremental)
        flag("force", self.force)
        if self.mode == "swap" and self.incremental:
            raise InputError("mode=swap builds a new tree, so there is nothing incremental about it; use mode=mirror")
        if self.mode == "merge" and self.force:
            raise InputError("force is for mode=mirror and mode=swap; merging removes nothing")
        if not isinstance(self.umask, int):
            raise InputError(f"umask must be a number such as 0o022, not {self.umask!r}")
        if not 0 <= self.umask <= 0o777:
            raise InputError(f"umask {self.umask:#o} is not between 0 and 0777")
        if self.owner is not None and not _is_owner(self.owner):
            raise InputError(f"owner {self.owner!r} is not a user and a group id, such as (1000, 1000)")
        _require_positive(self.stall_timeout)
        Limits(self.max_bytes, self.max_entries)  # refuses what cannot be
        refuse_options(self.attrs, "an option of the output, not an attribute of the exporter")

    @property
    def exporter(self) -> tuple[str, dict[str, str]]:
        """The exporter's type and attributes, as the daemon expects them."""
        return "local", dict(self.attrs)

    @property
    def receive_options(self) -> ReceiveOptions:
        """The same for the receiver."""
        return ReceiveOptions(
            policy=Policy(upstream=self.permissions == "upstream", umask=self.umask, owner=self.owner),
            include=self.include,
            exclude=self.exclude,
            incremental=self.incremental,
            stall_timeout=self.stall_timeout,
            limits=Limits(self.max_bytes, self.max_entries),
        )

    def check(self) -> None:
        """Raise InputError if the directory can be neither used nor made, or a pattern is malformed."""
        _check_patterns(self.include, self.exclude)
        if self.mode != "merge":
            self._check_replaceable()
        existing = _nearest_existing(self.dest)
        if not existing.is_dir():
            if existing == self.dest:
                raise InputError(f"destination directory {self.dest} is a file; name a directory, or use type=tar")
            raise InputError(f"destination directory {self.dest} cannot be made: {existing} is a file")
        require_writable(existing, "destination directory", self.dest)
        if self.mode == "swap" and existing == self.dest:
            beside = Path(os.path.realpath(self.dest)).parent
            require_writable(beside, "what is beside", self.dest)

    def _check_replaceable(self) -> None:
        if not self.force and (reason := why_protected(self.dest)) is not None:
            raise InputError(f"mode={self.mode} removes what is in {self.dest}, but {reason}; force=true allows it")


@dataclass(frozen=True, slots=True)
class ListingOutput:
    """The names of the files of the result, and all that is known about them; nothing is written or fetched.

    The entries are in :attr:`BuildResult.exports <buildkit_session.BuildResult>`.

    Attributes:
        attrs: exporter attributes passed to the daemon as they are.
        include: as for :class:`LocalOutput`.
        exclude: as for :class:`LocalOutput`.
        stall_timeout: as for :class:`LocalOutput`.
        max_entries: as for :class:`LocalOutput`.
    """

    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    stall_timeout: float | None = STALL_TIMEOUT
    max_entries: int | None = None

    def __post_init__(self) -> None:
        _require_positive(self.stall_timeout)
        Limits(max_entries=self.max_entries)  # refuses what cannot be
        refuse_options(self.attrs, "for type=local: a listing writes nothing")

    @property
    def exporter(self) -> tuple[str, dict[str, str]]:
        """The exporter's type and attributes, as the daemon expects them."""
        return "local", dict(self.attrs)

    @property
    def receive_options(self) -> ReceiveOptions:
        """The same for the receiver."""
        return ReceiveOptions(
            include=self.include,
            exclude=self.exclude,
            stall_timeout=self.stall_timeout,
            limits=Limits(max_entries=self.max_entries),
        )

    def check(self) -> None:
        """Raise InputError if a pattern is malformed."""
        _check_patterns(self.include, self.exclude)


def read_local(pairs: list[tuple[str, str]]) -> LocalOutput | ListingOutput:
    """Make an output from the fields of ``type=local``; what is no option of ours is the daemon's.

    Args:
        pairs: keys, in lower case, and values, in their order.

    Raises:
        InputError: a value cannot be, or the options do not go together.
    """
    options: dict[str, Any] = {"include": (), "exclude": ()}
    attrs: dict[str, str] = {}
    for key, value in pairs:
        name = _option(key)
        if name in ("include", "exclude"):
            options[name] += (value,)
        elif name in _READERS:
            options[name] = _READERS[name](key, value)
        else:
            attrs[key] = value
    dest = attrs.pop("dest", "")
    if options.pop("list_only", False):
        return _read_listing(dest, attrs, options)
    return LocalOutput(_read_dest(dest), attrs, **options)


def read_max_bytes(attrs: dict[str, str]) -> int | None:
    """Take the limit out of the fields of an output and read it, if it is there.

    Raises:
        InputError: it is no size.
    """
    return _read_limit(attrs, "max_bytes", read_size)


def read_max_entries(attrs: dict[str, str]) -> int | None:
    """Likewise, the limit for entries.

    Raises:
        InputError: it is no number.
    """
    return _read_limit(attrs, "max_entries", read_count)


def _read_limit(attrs: dict[str, str], option: str, read: Callable[[str, str], int]) -> int | None:
    given = [(key, attrs.pop(key)) for key in list(attrs) if _option(key) == option]
    return read(*given[-1]) if given else None


def read_boolean(key: str, value: str) -> bool:
    """Read a boolean as Go does, and an empty text as false.

    Raises:
        InputError: it is none.
    """
    try:
        return _BOOLEANS[value]
    except KeyError:
        raise InputError(f"invalid value {value!r} for {key}: expected true or false") from None


def refuse_options(attrs: Mapping[str, str], place: str) -> None:
    """Refuse attributes that are options of ours or look like one: the daemon ignores what it does not know.

    Args:
        attrs: of an output that sends files.
        place: says of an option why it is no attribute here.

    Raises:
        InputError: there is such an attribute; names the option that is meant.
    """
    for key in attrs:
        name = _option(key).replace("_", "-")
        if name in _OPTIONS:
            raise InputError(f"{key} is {place}")
        if (meant := nearest(name, _OPTIONS)) is not None:
            raise InputError(f"the exporter has no attribute {key}; did you mean {meant}?")


def require_writable(existing: Path, what: str, dest: Path) -> None:
    """Raise InputError if ``existing`` cannot be written, so that ``dest``, described by ``what``, cannot be made.

    A courtesy: it finds the common mistake early. Whether writing works is known only when it is done.
    """
    if not os.access(existing, os.W_OK):
        raise InputError(f"{what} {dest} cannot be written: no permission for {existing}")


def _option(key: str) -> str:
    """The option that a field of ``--output`` stands for."""
    name = key.replace("-", "_")
    return "max_bytes" if name == "max_size" else name


def _read_listing(dest: str, attrs: dict[str, str], options: dict[str, Any]) -> ListingOutput:
    if dest:
        raise InputError(f"list-only writes nothing; leave dest={dest} out")
    try:
        return ListingOutput(attrs, **options)
    except TypeError:
        others = ", ".join(sorted(set(options) - {"include", "exclude", "stall_timeout", "max_entries"}))
        raise InputError(f"list-only writes nothing, so these have no meaning: {others}") from None


def _read_dest(dest: str) -> Path:
    if not dest:
        raise InputError("dest is required for local exporter: write type=local,dest=DIRECTORY")
    if dest == "-":
        raise InputError("dest cannot be stdout for local exporter; use type=tar for standard output")
    return Path(dest)


def _read_mode(_key: str, value: str) -> str:
    # BuildKit 0.31 and newer has an attribute of this name with the values copy and delete.
    if value == "delete":
        raise InputError("mode=delete is not supported; mode=mirror does the same with any daemon")
    return "merge" if value == "copy" else value


def _read_umask(key: str, value: str) -> int:
    try:
        return int(value, 8)
    except ValueError:
        raise InputError(f"invalid value {value!r} for {key}: expected an octal number such as 022") from None


def _read_owner(key: str, value: str) -> tuple[int, int]:
    user, _, group = value.partition(":")
    if not (_is_number(user) and _is_number(group)):
        raise InputError(f"invalid value {value!r} for {key}: expected UID:GID, both as numbers")
    return int(user), int(group)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _read_seconds(key: str, value: str) -> float | None:
    try:
        return float(value) or None
    except ValueError:
        raise InputError(f"invalid value {value!r} for {key}: expected a number of seconds") from None


_READERS: Final[dict[str, Callable[[str, str], object]]] = {
    "permissions": lambda _, value: value,
    "mode": _read_mode,
    "incremental": read_boolean,
    "umask": _read_umask,
    "owner": _read_owner,
    "force": read_boolean,
    "stall_timeout": _read_seconds,
    "max_bytes": read_size,
    "max_entries": read_count,
    "list_only": read_boolean,
}
_OPTIONS: Final = (*(name.replace("_", "-") for name in _READERS), "include", "exclude", "max-size")


def _require_one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"invalid value {value!r} for {key}: expected {' or '.join(known)}")


def _is_owner(owner: object) -> bool:
    return (
        isinstance(owner, tuple)
        and len(owner) == 2
        and all(isinstance(number, int) and 0 <= number <= MAX_ID for number in owner)
    )


def _require_positive(stall_timeout: object) -> None:
    # Written so that it refuses NaN.
    if stall_timeout is not None and not (isinstance(stall_timeout, int | float) and stall_timeout > 0):
        raise InputError(f"stall-timeout {stall_timeout!r} is not a positive number of seconds")


def _check_patterns(*lists: tuple[str, ...]) -> None:
    for patterns in lists:
        PatternMatcher(patterns)


def _nearest_existing(path: Path) -> Path:
    for candidate in (path, *path.parents):
        if os.path.lexists(candidate):
            return candidate
    return Path()
