"""Outputs that are chosen when the result of a build is there: by code of the caller's, which the daemon asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from buildkit_session.errors import InputError
from buildkit_session.request.arguments import callback
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from buildkit_session.request.outputs import OutputLike
    from buildkit_session.services.exporter import ExportRequest

    Chosen: TypeAlias = OutputLike | Sequence[OutputLike]
    Find: TypeAlias = Callable[[ExportRequest], Awaitable[Chosen] | Chosen]
    Finalize: TypeAlias = Callable[[Mapping[str, str]], object]

__all__ = ["SessionExporter", "SessionExporterLike", "read_session_exporter"]


class SessionExporterLike(Protocol):
    """An object with the least of methods that :class:`SessionExporter` has; ``finalize`` may be there too."""

    async def find(self, request: ExportRequest, /) -> Chosen:
        """See :class:`SessionExporter`."""
        ...


@dataclass(frozen=True, slots=True)
class SessionExporter:
    """Chooses outputs once a build has a result, and hears when all is exported.

    Any object with such methods will do, and for ``find`` alone a function.

    Attributes:
        find: a function of an :class:`.ExportRequest`, called once; with ``async def`` it runs on the event loop, else
            in a thread. It returns outputs as ``outputs=`` takes them; an empty list for none. They come after those
            of ``outputs=``, and get the tags and annotations of the build. Not among them can be: layouts
            (``tar=False``), and images that travel after the build, which are those to be loaded into another Engine,
            and those that an Engine with its classic store is to push.
        finalize: likewise a function of what the exporters report, such as ``containerimage.digest``, called once
            when the daemon has exported everything, also where ``find`` has chosen nothing. Directories with
            ``mode="mirror"`` or ``"swap"`` change only afterwards. Daemons before BuildKit 0.32 do not ask for it: it
            is called when such a one reports success, so what it raises fails the build here, but not in the daemon's
            history.

    What either raises fails the build with a :class:`.CallbackError`.

    Raises:
        InputError: they are no functions.
    """

    find: Find
    finalize: Finalize | None = None

    def __post_init__(self) -> None:
        if not callable(self.find):
            raise InputError(f"find must be a function, not {a_type(self.find)}")
        callback("finalize", self.finalize)


def read_session_exporter(given: object) -> SessionExporter:
    """Take an object with a method ``find`` and perhaps one ``finalize``, or a function for ``find`` alone.

    Raises:
        InputError: it is neither.
    """
    if isinstance(given, SessionExporter):
        return given
    methods: Any = given
    if hasattr(given, "find"):
        return SessionExporter(methods.find, getattr(given, "finalize", None))
    if not callable(given):
        raise InputError(
            "a session exporter must be a function that returns outputs, or an object with such a method "
            f"find, not {a_type(given)}"
        )
    return SessionExporter(methods)
