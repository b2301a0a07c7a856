"""Services that are loaded when they are first called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from calls import ScriptedCall, serve

from buildkit_session.grpc.metadata import Metadata
from buildkit_session.messages.grpc.health.v1 import HealthCheckRequest, HealthCheckResponseServingStatus
from buildkit_session.services.auth import Auth
from buildkit_session.services.auth_calls import AuthCalls
from buildkit_session.services.credentials import StaticCredentials
from buildkit_session.services.deferred import Deferred
from buildkit_session.services.health import Health
from buildkit_session.session import Session

if TYPE_CHECKING:
    from buildkit_session.services import Service

pytestmark = pytest.mark.anyio

CHECK = "/grpc.health.v1.Health/Check"


async def test_the_service_is_made_with_the_first_call_and_once() -> None:
    made: list[Service] = []

    def load() -> Service:
        made.append(Health())
        return made[-1]

    deferred = Deferred([CHECK], load)
    (route,) = deferred.routes()
    assert not made
    for _ in range(2):
        assert route.select(Metadata([])).request.decode(b"") == HealthCheckRequest()
        (answer,) = await serve(deferred, "Check", ScriptedCall([HealthCheckRequest()]))
        assert answer.status == HealthCheckResponseServingStatus.SERVING
    assert len(made) == 1


def test_what_stands_in_has_the_methods_of_the_service() -> None:
    auth = Auth(StaticCredentials({}))
    real = [*Health().routes(), *AuthCalls(auth).routes()]
    stand_ins = [*Session([])._router._routes.values(), *auth.routes()]
    assert [route.path for route in stand_ins] == [route.path for route in real]
    assert not any(route.ends_itself for route in real)
