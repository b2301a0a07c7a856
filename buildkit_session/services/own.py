"""A gRPC service of the caller's own: one that the library has not, or that shall be served otherwise.

.. code-block:: python

    greeter = bk.Service("example.v1.Greeter")

    @greeter.unary("Hello", request=HelloRequest, response=HelloResponse)
    async def hello(request: HelloRequest) -> HelloResponse:
        if not request.name:
            raise bk.RpcError(bk.Status.INVALID_ARGUMENT, "a name is needed")
        return HelloResponse(text=f"Hello {request.name}")

    await client.build(".", services=[greeter])
"""

from __future__ import annotations

import re
from inspect import iscoroutinefunction, isfunction, unwrap
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import betterproto2

from buildkit_session.errors import InputError, LocalProtocolError
from buildkit_session.grpc.codec import BYTES, Codec, MessageCodec
from buildkit_session.grpc.router import Codecs, Route, of_metadata, of_request, unary
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from buildkit_session.grpc.envelope import Body
    from buildkit_session.grpc.metadata import Metadata
    from buildkit_session.grpc.router import Handler

__all__ = ["METHOD_PATH", "Service", "check_handler"]

_WORD: Final = "[A-Za-z_][A-Za-z0-9_]*"
_METHOD: Final = re.compile(_WORD)
_NAME: Final = re.compile(rf"(?:{_WORD}\.)+{_WORD}")
METHOD_PATH: Final = re.compile(rf"/{_NAME.pattern}/{_WORD}")
"""The path of a method of a service in a package."""

MAX_NAME: Final = 200
"""Characters of a name; it goes to the daemon in a header field."""

T = TypeVar("T")
Request = TypeVar("Request")
Response = TypeVar("Response")

CodecLike: TypeAlias = "type[betterproto2.Message | bytes] | Codec[Any]"
"""A generated message type, ``bytes``, or an object that encodes and decodes."""

Select: TypeAlias = "Callable[[Metadata], tuple[CodecLike, CodecLike]]"
"""Chooses for one call what its requests and its responses are."""

UnaryHandler: TypeAlias = "Callable[[Any], Awaitable[Any]]"


class Service:
    """A service of the session, made of coroutine functions. One object can serve any number of builds at once.

    A handler that raises :class:`RpcError` chooses what the daemon is told. Of any other exception the daemon learns
    the type alone; the caller of the build gets it as the cause of the build's error. A handler is cancelled when the
    daemon gives the call up or its deadline passes, and when the build ends. It runs on the event loop: what blocks
    belongs into a thread (``anyio.to_thread``).

    Args:
        name: as in a .proto file: ``package.Service``.

    Raises:
        InputError: this is no such name.
    """

    def __init__(self, name: str) -> None:
        self.name = _checked(
            name, _NAME, "a service has a name of the form package.Service, such as example.v1.Greeter"
        )
        self._routes: dict[str, Route] = {}  # by the method in lower case, as daemons spell it at times

    def __repr__(self) -> str:
        return f"<Service {self.name} {sorted(route.path.rpartition('/')[2] for route in self._routes.values())}>"

    def routes(self) -> Iterable[Route]:
        """See :class:`~buildkit_session.services.Service`."""
        return tuple(self._routes.values())

    def unary(
        self,
        method: str,
        *,
        request: CodecLike = BYTES,
        response: CodecLike = BYTES,
        select: Select | None = None,
        subject: Callable[[Any], str] | None = None,
    ) -> Callable[[T], T]:
        """Serve a method by a function from one request to one response; used as a decorator.

        Args:
            method: its name, such as ``Hello``.
            request: what a request is: a message type of betterproto2, or an object with ``encode`` and ``decode``;
                ``bytes``, as they are on the wire, by default.
            response: what a response is, likewise.
            select: chooses both anew for every call, from its metadata; in place of ``request`` and ``response``. It
                may raise :class:`RpcError`.
            subject: takes a request and says what it asks for, for interceptors; never a value that must stay secret.

        Raises:
            InputError: this is no name of a method, it is served already, or the function is no coroutine function.
        """
        path, codecs = self._path(method), _selection(method, request, response, select)

        def serve(handler: Any) -> Any:
            answer = _answering(path, check_handler(f"the handler of {path}", handler))
            self._add(Route(path, answer, codecs, subject=of_request(subject) if subject else None))
            return handler

        return serve

    def stream(
        self,
        method: str,
        *,
        request: CodecLike = BYTES,
        response: CodecLike = BYTES,
        select: Select | None = None,
        subject: Callable[[Metadata], str] | None = None,
        ends_itself: bool = False,
    ) -> Callable[[T], T]:
        """Serve a method by a function that takes an :class:`IncomingCall`; used as a decorator.

        The function receives and sends as many messages as it wants; returning ends the call with OK.

        Args:
            method: its name, such as ``Chat``.
            request: as for :meth:`unary`, and so are ``response`` and ``select``.
            response: see there.
            select: see there.
            subject: takes the metadata of a call and says what it asks for, for interceptors.
            ends_itself: the function gets all that the daemon has sent before it gave the call up, and then the error;
                by default it is cancelled at once.

        Raises: as :meth:`unary`.
        """
        path, codecs = self._path(method), _selection(method, request, response, select)

        def serve(handler: Any) -> Any:
            check_handler(f"the handler of {path}", handler)
            told = of_metadata(subject) if subject else None
            self._add(Route(path, handler, codecs, ends_itself=ends_itself, subject=told))
            return handler

        return serve

    def _path(self, method: object) -> str:
        if callable(method):
            raise InputError("the decorators of a service take the name of a method: @service.unary('Hello')")
        return f"/{self.name}/{_checked(method, _METHOD, f'a method of {self.name} has a name such as Hello')}"

    def _add(self, route: Route) -> None:
        if (key := route.path.lower()) in self._routes:
            raise InputError(f"the method {route.path} has a handler already")
        self._routes[key] = route


def _checked(name: object, form: re.Pattern[str], wanted: str) -> str:
    if not isinstance(name, str) or len(name) > MAX_NAME or not form.fullmatch(name):
        raise InputError(f"{wanted}, not {name!r:.100}")
    return name


def check_handler(what: str, handler: Any) -> Any:
    """Return a coroutine function as it is.

    Args:
        what: it is, for the error.
        handler: the function. Of other objects that can be called nobody knows what they return.

    Raises:
        InputError: it is something else.
    """
    if not callable(handler):
        raise InputError(f"{what} must be a coroutine function, not {a_type(handler)}")
    if isfunction(handler) and not iscoroutinefunction(unwrap(handler)):
        raise InputError(f"{what} must be a coroutine function, written with 'async def', not an ordinary one")
    return handler


def _selection(method: str, request: object, response: object, select: Any) -> Callable[[Metadata], Codecs]:
    if select is None:
        codecs = Codecs(_codec(method, request), _codec(method, response))
        return lambda _metadata: codecs
    if not callable(select) or request is not BYTES or response is not BYTES:
        raise InputError("select must be a function, and takes the place of request and response")

    def selected(metadata: Metadata) -> Codecs:
        of_requests, of_responses = select(metadata)
        return Codecs(_codec(method, of_requests), _codec(method, of_responses))

    return selected


def _codec(method: str, given: Any) -> Codec[Any]:
    if given is bytes or given is BYTES:
        return _Checked(method, bytes, BYTES)
    if isinstance(given, type):
        if issubclass(given, betterproto2.Message):
            return _Checked(method, given, MessageCodec(given))
    elif callable(getattr(given, "encode", None)) and callable(getattr(given, "decode", None)):
        codec: Codec[Any] = given
        return codec
    raise InputError(
        f"messages are given as a type of betterproto2 or an object with encode() and decode(), not {given!r}"
    )


class _Checked:
    """A codec that names the method whose handler sends what is no message of its type: ``bytes(5)`` is no error."""

    def __init__(self, method: str, message_type: type, codec: Codec[Any]) -> None:
        self._method = method
        self._type = message_type
        self._codec = codec
        self.decode = codec.decode

    def encode(self, message: object, /) -> Body:
        """See :class:`~buildkit_session.grpc.codec.Codec`."""
        if not isinstance(message, self._type):
            raise LocalProtocolError(
                f"the handler of {self._method} must send {self._type.__name__}, not {a_type(message)}; "
                "say what it sends by response="
            )
        return self._codec.encode(message)


def _answering(path: str, handler: UnaryHandler) -> Handler:
    async def answer(request: Any) -> Any:
        response = await handler(request)
        if response is None:
            raise LocalProtocolError(f"the handler of {path} has returned None, and no response")
        return response

    return unary(answer)
