"""Which handler serves a method, and with which types of message.

The type is selected *for every stream*, from its metadata, because one method can carry different messages:
``/moby.filesync.v1.FileSend/DiffCopy`` carries ``BytesMessage`` when the export is a tar and ``Packet`` when it is a
directory, and nothing on the wire says which. A generated stub cannot express that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from buildkit_session.errors import InputError, RpcError
from buildkit_session.grpc.codec import Codec, MessageCodec
from buildkit_session.grpc.status import Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    import betterproto2

    from buildkit_session.grpc.incoming_call import IncomingCall
    from buildkit_session.grpc.metadata import Metadata

__all__ = ["Codecs", "Handler", "Route", "Router", "Subject", "messages", "of_metadata", "of_request", "unary"]


class Codecs(NamedTuple):
    """The codecs of one stream."""

    request: Codec[Any]
    response: Codec[Any]


Handler: TypeAlias = "Callable[[IncomingCall[Any, Any]], Awaitable[None]]"


class Subject(NamedTuple):
    """Says what a call asks for, in words that may be logged: a name that the caller gave, never a value.

    Attributes:
        tell: takes the metadata and the first request; the latter is ``None`` unless it is needed.
        needs_request: the metadata does not say it. Only where a call begins with a request at once.
    """

    tell: Callable[[Metadata, Any], str]
    needs_request: bool


def of_metadata(tell: Callable[[Metadata], str]) -> Subject:
    """The subject of a method whose metadata names it."""
    return Subject(lambda metadata, _request: tell(metadata), needs_request=False)


def of_request(tell: Callable[[Any], str]) -> Subject:
    """The subject of a method whose first request names it."""
    return Subject(lambda _metadata, request: tell(request), needs_request=True)


class Route(NamedTuple):
    """One served method.

    Attributes:
        path: ``/package.Service/Method`` as the schema spells it; matched without regard to case.
        handler: serves a call; returning means OK, raising :class:`RpcError` chooses another status.
        select: chooses the codecs of a stream from its metadata; may raise :class:`RpcError`.
        ends_itself: the handler learns of a reset by ``recv`` or ``send`` raising, after it was given all that
            arrived before. Otherwise it is cancelled at once, wherever it waits.
        subject: says what a call asks for, to interceptors; nothing by default.
    """

    path: str
    handler: Handler
    select: Callable[[Metadata], Codecs]
    ends_itself: bool = False
    subject: Subject | None = None


class Router:
    """The table of served methods. What it holds is what is advertised; there is no second list."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._routes: dict[str, Route] = {}
        for route in routes:
            self.add(route)

    def add(self, route: Route) -> None:
        """Serve one more method.

        Raises:
            InputError: the method is served already.
        """
        key = route.path.lower()
        if key in self._routes:
            raise InputError(f"the method {route.path} is served already; leave one of the two services out")
        self._routes[key] = route

    def find(self, path: str) -> Route | None:
        """The route of a method path."""
        return self._routes.get(path.lower())

    @property
    def methods(self) -> tuple[str, ...]:
        """The paths of all served methods, in the order they were added."""
        return tuple(route.path for route in self._routes.values())


def messages(request: type[betterproto2.Message], response: type[betterproto2.Message]) -> Callable[[Metadata], Codecs]:
    """The constant selection, for a method whose messages are always of these types."""
    codecs = Codecs(MessageCodec(request), MessageCodec(response))
    return lambda _metadata: codecs


RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


def unary(answer: Callable[[RequestT], Awaitable[ResponseT]]) -> Handler:
    """Make a handler of a function from one request to one response.

    Any number of requests other than one ends the call with INTERNAL.
    """

    async def handler(call: IncomingCall[RequestT, ResponseT]) -> None:
        request = await call.recv()
        if request is None or await call.recv() is not None:
            raise RpcError(Status.INTERNAL, "a unary call carries exactly one request")
        await call.send(await answer(request))

    return handler
