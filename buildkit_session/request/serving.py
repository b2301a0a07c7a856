"""What the caller adds to the session of a build: services of its own, and functions around every call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from buildkit_session.errors import InputError
from buildkit_session.grpc.router import Route, Router
from buildkit_session.services.own import METHOD_PATH, check_handler
from buildkit_session.wording import a_type

if TYPE_CHECKING:
    from buildkit_session.grpc.interception import Interceptor
    from buildkit_session.services import Service

__all__ = ["read_interceptors", "read_services"]


def read_services(given: object) -> tuple[Service, ...]:
    """Take services, or one for a sequence of one.

    They are objects whose ``routes()`` returns a :class:`~buildkit_session.grpc.router.Route` for each method.

    Raises:
        InputError: one is something else, or two have the same method.
    """
    services = (given,) if callable(getattr(given, "routes", None)) else _several("services", given)
    router = Router()
    for service in services:
        if isinstance(service, type) or not callable(getattr(service, "routes", None)):
            found = f"the class {service.__name__}" if isinstance(service, type) else a_type(service)
            raise InputError(f"services must be Service objects, or others with a method routes(), not {found}")
        for route in service.routes():
            if not isinstance(route, Route) or not METHOD_PATH.fullmatch(route.path):
                raise InputError(
                    f"{a_type(service)} among the services must serve Routes by paths such as "
                    f"/example.v1.Greeter/Hello, not {getattr(route, 'path', route)!r:.200}"
                )
            router.add(route)
    return services


def read_interceptors(given: object) -> tuple[Interceptor, ...]:
    """Take coroutine functions of a call and what lets it proceed, or one for a sequence of one.

    Raises:
        InputError: one is something else.
    """
    several = (given,) if callable(given) else _several("interceptors", given)
    return tuple(check_handler("an interceptor", interceptor) for interceptor in several)


def _several(name: str, given: Any) -> tuple[Any, ...]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InputError(f"{name} must be a list, not {a_type(given)}")
    return tuple(given)
