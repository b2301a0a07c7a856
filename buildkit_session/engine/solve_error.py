"""A failed ``Solve`` as the error that the caller of a build sees.

Source: moby/buildkit:util/grpcerrors/grpcerrors.go (FromGRPC, grpcStatusError.Error); google.golang.org/grpc, codes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from buildkit_session.engine.error_details import (
    CapabilityMissing,
    FailedVertex,
    ProcessExit,
    RequestUnknown,
    SourceDenied,
    error_details,
)
from buildkit_session.engine.faults import shortened
from buildkit_session.errors import BuildError, UnsupportedError
from buildkit_session.grpc.status import Status
from buildkit_session.printable import printable
from buildkit_session.source import SourceExcerpt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildkit_session.engine.build_log import BuildLog
    from buildkit_session.engine.error_details import ErrorDetail
    from buildkit_session.errors import RpcError, SessionError

__all__ = ["build_error", "exit_code_in"]

MAX_SOURCES: Final = 16
"""Kept of one error; BuildKit names one place, or one for each frontend that the error passed through."""

_NEWER: Final = "name one by '# syntax=docker/dockerfile:1' in the Dockerfile, or use a newer daemon"

_CAPABILITIES: Final[Mapping[str, tuple[str, str]]] = {
    "moby.buildkit.frontend.contexts": ("a named build context", "Dockerfile frontend 1.4 or newer"),
    "moby.buildkit.frontend.subrequests": ("a call of the frontend", "Dockerfile frontend 1.2 or newer"),
    "moby.buildkit.frontend.gitquerystring": ("a Git URL with a query", "Dockerfile frontend 1.18 or newer"),
}
"""What to say for a capability that a frontend lacks, and the frontend that has it."""

# How the gRPC server of Go says that it has no such service or method; those behind it may answer UNIMPLEMENTED too.
_UNKNOWN_CALL: Final = ("unknown service ", "unknown method ")

# What a frontend says of a capability and a question that it does not know; 20.10 sends nothing but this text.
_UNKNOWN_CAPABILITY: Final = re.compile(r"\bunsupported frontend capability (\S{1,100})\Z")
_UNKNOWN_REQUEST: Final = re.compile(r"\bunsupported request (frontend\.\S{1,100})\Z")

# How BuildKit ends the text about a process that failed, and what this text begins with; the second is that of 20.10.
_EXIT_CODE: Final = re.compile(r": exit code: (\d{1,10})\Z")
_EXITED: Final = (" did not complete successfully: ", "executor failed running ")


def build_error(error: RpcError, log: BuildLog) -> SessionError:
    """Make the error of a build out of the status that its ``Solve`` ended with.

    Args:
        error: with the details that the daemon sent.
        log: what was seen of the progress; fed to its end where possible, for errors arrive late.

    Returns:
        A :class:`.BuildError`; or an :class:`.UnsupportedError`, when the daemon or its frontend lacks something that
        the build needs. Raise it from ``error``.
    """
    details = error_details(error.details)
    return _unsupported(error, details) or _failed(error, details, log)


def exit_code_in(message: str) -> int | None:
    """Find the exit code of a failed process in the text of an error: 20.10 and the ``/build`` API send no details."""
    found = _EXIT_CODE.search(message)
    return int(found[1]) if found and any(words in message for words in _EXITED) else None


def _failed(error: RpcError, details: Sequence[ErrorDetail], log: BuildLog) -> BuildError:
    digest = next((detail.digest for detail in details if isinstance(detail, FailedVertex)), "")
    exits = [detail.code for detail in details if isinstance(detail, ProcessExit)]
    return BuildError(
        shortened(_named(error.code) + error.message),
        step=log.failed_step(error.message, digest=digest),
        code=error.code,
        exit_code=exits[0] if exits else exit_code_in(error.message),
        sources=[detail for detail in details if isinstance(detail, SourceExcerpt)][:MAX_SOURCES],
        vertex=digest,
        denials=[said for detail in details if isinstance(detail, SourceDenied) for said in detail.messages],
    )


def _unsupported(error: RpcError, details: Sequence[ErrorDetail]) -> UnsupportedError | None:
    for detail in details:
        if isinstance(detail, CapabilityMissing):
            return _without_capability(detail.name)
        if isinstance(detail, RequestUnknown):
            name = printable(shortened(detail.name))
            return UnsupportedError(
                f"the frontend does not know the request {name}; the call subrequests.describe lists those it knows",
                feature=name,
            )
    if found := _UNKNOWN_CAPABILITY.search(error.message):
        return _without_capability(found[1])
    if found := _UNKNOWN_REQUEST.search(error.message):
        name = printable(found[1])
        return UnsupportedError(
            f"the request {name} needs a newer frontend; {_NEWER}", feature=name, needs="a newer frontend"
        )
    if error.code == Status.UNIMPLEMENTED and error.message.startswith(_UNKNOWN_CALL):
        return UnsupportedError(f"the daemon is too old for this build: {shortened(error.message)}; use a newer one")
    return None


def _without_capability(name: str) -> UnsupportedError:
    feature, needs = _CAPABILITIES.get(name, (printable(shortened(name)), "a frontend with this capability"))
    msg = f"{feature} needs {needs}; {_NEWER}"
    return UnsupportedError(msg, feature=feature, needs=needs)


def _named(code: int) -> str:
    """The name of a code as Go prints it before a text; nothing for those that say nothing."""
    if code in {Status.OK, Status.UNKNOWN}:
        return ""
    try:
        name = _GO_NAMES.get(code) or Status(code).name.title().replace("_", "")
    except ValueError:
        name = f"Code({code})"
    return f"{name}: "


_GO_NAMES: Final[Mapping[int, str]] = {Status.CANCELLED: "Canceled"}
