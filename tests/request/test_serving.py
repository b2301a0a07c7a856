"""Services and interceptors as arguments of builds and clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import buildkit_session as bk
from buildkit_session.grpc.router import Route
from buildkit_session.request.build_request import BuildRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.anyio


async def handler(*_args: Any) -> Any:
    return b""


def service(name: str = "example.v1.A", method: str = "Call") -> bk.Service:
    made = bk.Service(name)
    made.unary(method)(handler)
    return made


class Foreign:
    """A service of another making."""

    def __init__(self, *routes: Any) -> None:
        self._routes = routes

    def routes(self) -> Iterable[Route]:
        return self._routes


def route(path: str) -> Route:
    return Route(path, handler, handler)  # type: ignore[arg-type]


def test_services_of_any_making() -> None:
    given: list[Any] = [service(), Foreign(route("/example.v1.B/Call"))]
    assert BuildRequest.of(services=given).services == tuple(given)
    assert BuildRequest.of(interceptors=[handler]).interceptors == (handler,)
    assert BuildRequest.of(services=given[0], interceptors=handler).services == (given[0],)
    assert BuildRequest.of(interceptors=handler).interceptors == (handler,)
    assert BuildRequest.of(services=(), interceptors=[]) == BuildRequest.of()


@pytest.mark.parametrize(
    ("services", "message"),
    [
        (5, "services must be a list, not an int"),
        ("a", "services must be a list, not a str"),
        ([5], r"services must be Service objects, or others with a method routes\(\), not an int"),
        ([bk.Service], "services must be Service objects, .*, not the class Service"),
        ([Foreign("/a.B/C")], "a Foreign among the services must serve Routes by paths such as"),
        ([Foreign(route("/a.B/C\r\nX-Evil: 1"))], r"not '/a\.B/C\\r\\nX-Evil: 1'"),
        ([Foreign(route("a.B/C"))], "must serve Routes by paths"),
        ([service(), service()], r"the method /example\.v1\.A/Call is served already"),
        ([service(), Foreign(route("/Example.v1.A/call"))], r"the method /Example\.v1\.A/call is served already"),
    ],
)
def test_services_that_cannot_be(services: Any, message: str) -> None:
    with pytest.raises(bk.InputError, match=message):
        bk.connect("unix:///nowhere", services=services)


@pytest.mark.parametrize(
    ("interceptors", "message"),
    [
        (5, "interceptors must be a list, not an int"),
        (lambda _call, _proceed: None, "an interceptor must be a coroutine function, written with 'async def'"),
        ([5], "an interceptor must be a coroutine function, not an int"),
        ([lambda _call, _proceed: None], "an interceptor must be a coroutine function, written with 'async def'"),
    ],
)
async def test_interceptors_that_cannot_be(interceptors: Any, message: str) -> None:
    with pytest.raises(bk.InputError, match=message):
        await bk.connect("unix:///nowhere").build(".", interceptors=interceptors)
