"""Every error this library raises on purpose.

.. code-block:: text

    SessionError
    ├── ProtocolError              (not raised itself)
    │   ├── LocalProtocolError     this side was asked to do something the protocol forbids
    │   └── RemoteProtocolError    the peer did; carries the HTTP/2 code it is answered with
    ├── StreamReset                one HTTP/2 stream ended early; says who ended it
    ├── ConnectionClosed           the byte stream below is gone
    ├── RpcError                   a gRPC status other than OK
    ├── TransferError              files could not be sent or written; names the path
    │   └── QuotaExceeded          an export is larger than the caller allows; names the limit
    ├── InputError                 an argument, a file or a setting of the caller cannot be used
    ├── CallbackError              code of the caller's that a build has called failed; its cause says how
    ├── EngineError                the Docker Engine refused; carries its HTTP status
    │   ├── EngineUnreachable      nobody answers at the address
    │   └── UpgradeRefused         the Engine did not switch protocols
    ├── UnsupportedError           this daemon or this version of the library cannot do that
    └── BuildError                 the build ran and failed; carries the failing step and its log

Foreign exceptions are translated at one border each and chained with ``from``.
Cancellation is never translated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from buildkit_session.excerpt import excerpt
from buildkit_session.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_session.source import SourceExcerpt

__all__ = [
    "BuildError",
    "CallbackError",
    "ConnectionClosed",
    "EngineError",
    "EngineUnreachable",
    "FailedStep",
    "InputError",
    "LocalProtocolError",
    "ProtocolError",
    "QuotaExceeded",
    "RemoteProtocolError",
    "RpcError",
    "SessionError",
    "StreamReset",
    "TransferError",
    "UnsupportedError",
    "UpgradeRefused",
    "first_cause",
]


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception that ended a task group: the first of the group, however deep.

    Raise it ``from error.__cause__``, which keeps its own cause and hides the group.
    """
    first = group.exceptions[0]
    return first_cause(first) if isinstance(first, BaseExceptionGroup) else first


class SessionError(Exception):
    """Root of every error this library raises on purpose."""


class ProtocolError(SessionError):
    """A rule of HTTP/2, gRPC or the session was broken. Raised only as one of its subclasses."""


class LocalProtocolError(ProtocolError):
    """This side was asked to do something the protocol forbids, such as sending after the end."""


class RemoteProtocolError(ProtocolError):
    """The peer broke a rule.

    Attributes:
        code: the HTTP/2 error code the peer is answered with (RFC 9113, section 7).
    """

    def __init__(self, message: str, *, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class StreamReset(SessionError):
    """One HTTP/2 stream ended before its regular end; the connection lives on.

    Attributes:
        code: the HTTP/2 error code (RFC 9113, section 7).
        by: who ended it. ``"library"`` is this side acting on its own, ``"user"`` acting on a call.
    """

    def __init__(self, code: int, *, by: Literal["peer", "library", "user"]) -> None:
        super().__init__(f"stream reset by {by} with HTTP/2 code {code}")
        self.code = code
        self.by = by


class ConnectionClosed(SessionError):
    """The connection is gone; nothing more can be sent or received on it."""


class RpcError(SessionError):
    """A gRPC call ended with a status other than OK.

    Raise it in a handler to choose the status and the text that the peer sees.

    Attributes:
        code: the gRPC status code, 1 to 16; unknown numbers from a peer are kept.
        message: text for people; never put a secret or a local path in it.
        details: a serialized ``google.rpc.Status``, or empty.
    """

    def __init__(self, code: int, message: str = "", *, details: bytes = b"") -> None:
        super().__init__(f"gRPC status {int(code)}: {message}" if message else f"gRPC status {int(code)}")
        self.code = code
        self.message = message
        self.details = details


class TransferError(SessionError):
    """Files could not be sent or written.

    Attributes:
        path: the entry it happened at, relative to the root of the transfer, or ``None``.
    """

    def __init__(self, message: str, *, path: bytes | None = None) -> None:
        super().__init__(message)
        self.path = path


class QuotaExceeded(TransferError):
    """An export was ended because it was about to exceed what the caller allows.

    Attributes:
        option: the limit's name, ``max_bytes`` or ``max_entries``.
        limit: its value.
    """

    def __init__(self, option: str, limit: int, text: str, *, path: bytes | None = None) -> None:
        super().__init__(text, path=path)
        self.option = option
        self.limit = limit


class InputError(SessionError, ValueError):
    """An argument, a file or a setting of the caller cannot be used; the text says what to do next."""


class CallbackError(SessionError):
    """Code of the caller's, which a build has called, raised an exception, took too long or cancelled itself.

    Of what decides about sources or outputs ``__cause__`` is that exception. What finds secrets, passphrases or
    credentials may have the value in its text, so there is the type alone: let it raise an :class:`InputError` to say
    more. The daemon learns nothing of either.
    """


class EngineError(SessionError):
    """The Docker Engine refused a request.

    Attributes:
        status: the HTTP status, or ``None`` when there was no answer.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class EngineUnreachable(EngineError):
    """Nobody answers at the address; the text names the address, where it came from and what to try.

    Attributes:
        fact: the text without what to try.
        advice: what to try.
    """

    def __init__(self, fact: str, *, status: int | None = None, advice: str = "") -> None:
        super().__init__(f"{fact}. {advice}" if advice else fact, status=status)
        self.fact = fact
        self.advice = advice


class UpgradeRefused(EngineError):
    """The Engine did not switch protocols, as it does on ``/session`` and ``/grpc``."""


class UnsupportedError(SessionError):
    """This daemon, or this version of the library, cannot do what was asked.

    .. code-block:: pycon

        >>> print(UnsupportedError(feature="build history", needs="Docker 24.0", found="20.10", address="unix:///d.sock"))
        build history needs Docker 24.0; found 20.10 at unix:///d.sock

    Attributes:
        feature: what was asked for, or ``""``.
        needs: what can do it, or ``""``.
        found: what is there instead, or ``""``.
    """

    def __init__(
        self, message: str = "", *, feature: str = "", needs: str = "", found: str = "", address: str = ""
    ) -> None:
        super().__init__(message or _shortfall(feature, needs, found, address))
        self.feature = feature
        self.needs = needs
        self.found = found


def _shortfall(feature: str, needs: str, found: str, address: str) -> str:
    there = f"; found {found}" if found else ""
    return f"{feature} needs {needs}{there}{f' at {address}' if there and address else ''}"


@dataclass(frozen=True, slots=True)
class FailedStep:
    """The step a build failed at.

    Attributes:
        name: as displayed, such as ``[2/5] RUN make``.
        digest: of the vertex, ``sha256:...``.
        error: the daemon's text for this step.
        log: the last lines the step printed, oldest first, decoded with replacement.
    """

    name: str
    digest: str
    error: str
    log: tuple[str, ...]


NOTED_LINES: Final = 20
"""Lines that a traceback shows, of a failed step's log and of an excerpt each."""


# How BuildKit says that a step asked for a secret that it could not have.
_NO_SECRET: Final = re.compile(r"\bsecret (\S{1,100}?):? not found\b")
# How it says the same of an ssh agent, of which this side has none, or not this one.
_NO_AGENT: Final = re.compile(
    r"\bno SSH key \"([^\"\n]{0,100})\" forwarded|\bno ssh agent is forwarded as '([^'\n]{1,100})'"
)
# How it says that a registry wants a login, or another one, from the name that was to be had or pushed.
_NO_LOGIN: Final = re.compile(
    r"\b(?:failed to push |for |pulling from host )([\w.-]+(?::\d+)?)(?:/\S{1,500}: | failed with ).{0,500}"
    r"\b(?:401 Unauthorized|403 Forbidden|authorization failed|authorization status: 40[13]|authentication required)",
    re.IGNORECASE | re.DOTALL,
)
# How this side says to it that a registry does not take a login.
_WRONG_LOGIN: Final = re.compile(r"\bfailed to fetch oauth token: unexpected status 40[13]\b")
# How it says that the context, an archive or a repository, has no Dockerfile. Those of directories are looked for here.
_NO_DOCKERFILE: Final = re.compile(
    r"\bfailed to read dockerfile: open [^\n]{1,4096}: no such file or directory\Z", re.IGNORECASE
)


class BuildError(SessionError):
    """The daemon ran the build and it failed.

    What goes beyond ``message`` and ``step`` is known where the daemon tells it: Engine 20.10 does not, nor does the
    ``/build`` API of any.

    Attributes:
        message: the daemon's text.
        step: the failing step with the end of its log, or ``None`` when no step was named.
        code: the gRPC status code, most often 2; 0 when there was none.
        exit_code: of the process that failed, or ``None`` when something else did.
        sources: where in the Dockerfile it happened, the cause first.
        vertex: the digest of the failing step, also when its log was lost; or ``""``.
        denials: why a source policy has refused a source: what :func:`.policy.deny` was given.
        advice: what to do about it, where that is known; or ``""``.
    """

    def __init__(
        self,
        message: str,
        *,
        step: FailedStep | None = None,
        code: int = 0,
        exit_code: int | None = None,
        sources: Iterable[SourceExcerpt] = (),
        vertex: str = "",
        denials: Iterable[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.step = step
        self.code = code
        self.exit_code = exit_code
        self.sources = tuple(sources)
        self.vertex = vertex or (step.digest if step else "")
        self.denials = tuple(denials)
        self.advice = _advice(message)
        # Shown below a traceback, where a person looks first.
        if step is not None:
            self.add_note(_note(f"failed step: {step.name}", step.log[-NOTED_LINES:]))
        if self.denials:
            self.add_note(_note("denied by the source policy:", self.denials[:NOTED_LINES]))
        if self.advice:
            self.add_note(self.advice)
        for source in self.sources[:1]:
            if lines := excerpt(source.file, source.ranges).splitlines():
                self.add_note(_note(f"at {lines[0]}", lines[2:-1][:NOTED_LINES]))


def _advice(message: str) -> str:
    if found := _NO_SECRET.search(message):
        return f"offer it with secrets= (--secret id={printable(found[1])})"
    if found := _NO_AGENT.search(message):
        return f"offer it with ssh= (--ssh {printable(found[1] or found[2] or 'default')})"
    if found := _NO_LOGIN.search(message):
        host = printable(found[1])
        return (
            f"log in to {host} by credentials= of connect() or build(); for the command line by 'docker login {host}'"
        )
    if _WRONG_LOGIN.search(message):
        return "the registry does not take these credentials: look at credentials=, or log in anew by 'docker login'"
    return "name another one with -f (file=)" if _NO_DOCKERFILE.search(message) else ""


def _note(title: str, lines: Iterable[str]) -> str:
    return "\n".join([printable(title), *(f"  {printable(line)}" for line in lines)])
